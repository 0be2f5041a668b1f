"""Calls outlive deploys: which version of a tool serves a call that was made against another one."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from handfast import Agent, ContractError, Deprecation, Effect, Outcome, Run, Script, Tier, Tool, ask, tool
from handfast.contracts.messages import ModelRequest
from handfast.contracts.registry import Registry
from handfast.llm.script import Step
from tests.conftest import OpenShop, Shop, outcomes, until
from tests.effects.agents import ROOMY

SERVED: list[str] = []


def sending(version: str, *names: str) -> Tool:
    """A version of one tool, with its arguments."""
    arguments = type(
        "Arguments", (BaseModel,), {"__annotations__": dict.fromkeys(names, str), **dict.fromkeys(names, "")}
    )

    async def send(args: Any) -> str:
        """Send."""
        SERVED.append(version)
        return version

    send.__annotations__ = {"args": arguments, "return": str}
    return tool(version=version, effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="x:y")(send)


def clerk(current: Tool, *retired: Tool, **arguments: str) -> Agent:
    script = Script([ask("send", **arguments), "done"])
    return Agent(name="clerk", model=script, instructions="Send.", tools=[current], retired=retired, limits=ROOMY)


async def approved(desk: Shop, run: Run) -> None:
    """A person agrees to the run's call."""

    async def waiting() -> Any:
        return [operation for operation in await run.operations() if operation.state == "waiting"]

    [operation] = await until(waiting)
    await run.decide(operation.operation_id, approve=True)


async def why_it_waits(run: Run) -> str:
    """The last failure of the run's pending activity, as the Temporal UI shows it."""
    description = await run.handle.describe()
    pending = description.raw_description.pending_activities
    return pending[0].last_failure.message if pending else ""


async def test_a_call_of_an_older_major_is_served_by_a_worker_that_still_has_it(shop: OpenShop) -> None:
    SERVED.clear()
    old, new = sending("1.2.0", "to"), sending("2.0.0", "receiver")
    desk = await shop(clerk(old, to="ada"), serve=False)
    run = await desk.client.start("clerk", "Go", id="major")
    async with desk.another_worker(clerk(old, to="ada")):
        [operation] = await until(run.operations)
        assert operation.state == "waiting"
    async with desk.another_worker(clerk(new)):
        await approved(desk, run)
        why = await until(lambda: why_it_waits(run), seconds=30)
        assert why == "the call is for send 1.2.0, this worker has send 2.0.0"
    assert (SERVED, outcomes(await run.operations())) == ([], [("send", None)])
    async with desk.another_worker(clerk(new, old)):
        result = await run.result()
    assert (SERVED, outcomes(result.operations)) == (["1.2.0"], [("send", Outcome.SUCCEEDED)])


@pytest.mark.parametrize(
    ("arguments", "served"),
    [({"to": "ada"}, "1.2.0"), ({"to": "ada", "copy_to": "eve"}, "1.3.0")],
    ids=["that fits both", "that only the newer one takes"],
)
async def test_an_older_minor_serves_a_call_it_understands_and_leaves_others_alone(
    shop: OpenShop, arguments: dict[str, str], served: str
) -> None:
    """As during a rolling deploy, or after a rollback."""
    SERVED.clear()
    older, newer = sending("1.2.0", "to"), sending("1.3.0", "to", "copy_to")
    desk = await shop(clerk(newer, **arguments), serve=False)
    run = await desk.client.start("clerk", "Go", id=f"minor-{served}")
    async with desk.another_worker(clerk(newer, **arguments)):
        await until(run.operations)
    async with desk.another_worker(clerk(older)):
        await approved(desk, run)
        if served == "1.3.0":
            await until(lambda: why_it_waits(run), seconds=30)
        else:
            await run.result()
    async with desk.another_worker(clerk(newer)):
        result = await run.result()
    assert (SERVED, outcomes(result.operations)) == ([served], [("send", Outcome.SUCCEEDED)])


@pytest.mark.parametrize(
    "deprecated", [Deprecation(since="1.3.0", replaced_by="post"), None], ids=["deprecated", "not"]
)
async def test_the_model_hears_of_a_deprecation_from_a_newer_minor_that_serves_its_call(
    shop: OpenShop, deprecated: Deprecation | None
) -> None:
    heard: list[str] = []

    def script(request: ModelRequest) -> Step:
        heard.extend(result.text for message in request.messages for result in message.results)
        return "done" if heard else ask("send", to="ada")

    def serving(send: Tool) -> Agent:
        return Agent(name="clerk", model=Script(script), instructions="Send.", tools=[send], limits=ROOMY)

    older, newer = sending("1.2.0", "to"), replace(sending("1.3.0", "to"), deprecated=deprecated)
    desk = await shop(serving(older), serve=False)
    run = await desk.client.start("clerk", "Go", id=f"deprecated-{bool(deprecated)}")
    async with desk.another_worker(serving(older)):
        await until(run.operations)
    async with desk.another_worker(serving(newer)):
        await approved(desk, run)
        result = await run.result()
    warning = "\n(from the engine) send 1.3.0: Deprecated since 1.3.0; use post instead." if deprecated else ""
    assert (heard, result.operations[0].result) == ([f"1.3.0{warning}"], "1.3.0")


def test_one_major_of_a_tool_has_one_meaning() -> None:
    agent = clerk(sending("1.2.0", "to"), sending("1.1.0", "to"))
    with pytest.raises(ContractError, match="two different tools are named 'send' with major version 1"):
        Registry([agent])
