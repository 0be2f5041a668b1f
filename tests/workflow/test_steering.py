"""Steering a run: talk, pause, cancel, continue-as-new."""

import asyncio

import pytest
from temporalio.client import WorkflowExecutionStatus

from handfast import (
    Agent,
    Effect,
    EngineUnavailable,
    Outcome,
    RunNotFound,
    RunStatus,
    Script,
    Tier,
    ToolContext,
    ask,
    tool,
)  # fmt: skip
from handfast.contracts.messages import ModelRequest, ModelResponse
from handfast.contracts.wire import RunClosed
from handfast.llm.script import Step
from tests.conftest import OpenShop, outcomes, until
from tests.workflow.agents import ROOMY, agent, double, reset, settled


async def test_what_a_user_says_during_a_run_reaches_the_next_turn(shop: OpenShop) -> None:
    begun, told = asyncio.Event(), asyncio.Event()

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def wait() -> str:
        """Wait."""
        begun.set()
        await told.wait()
        return "waited"

    def answer(request: ModelRequest) -> Step:
        last = request.messages[-1]
        return f"heard: {last.text}" if last.results else ask("wait")

    desk = await shop(agent(answer, wait))
    run = await desk.client.start("tester", "Go", id="talk")
    await begun.wait()
    await run.say("make it quick")
    told.set()
    assert (await run.result()).text == "heard: make it quick"
    history = await run.handle.fetch_history()
    assert b"make it quick" not in b"".join(event.SerializeToString() for event in history.events)
    with pytest.raises(RunNotFound):
        await run.say("too late")


async def test_a_paused_run_starts_nothing_until_resumed(shop: OpenShop) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    asked: list[int] = []

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def wait() -> str:
        """Wait."""
        begun.set()
        await go_on.wait()
        return "waited"

    def answer(request: ModelRequest) -> Step:
        asked.append(len(request.messages))
        return "done" if request.messages[-1].results else ask("wait")

    desk = await shop(agent(answer, wait))
    run = await desk.client.start("tester", "Go", id="pause")
    await begun.wait()
    await run.pause()
    go_on.set()
    await until(lambda: settled(run, 1))
    assert (await run.state()).paused
    assert asked == [1]
    await run.resume()
    assert (await run.result()).text == "done"
    assert asked == [1, 3]


async def test_cancelling_reaches_a_running_tool_and_ends_cleanly(shop: OpenShop) -> None:
    begun = asyncio.Event()
    ended: list[str] = []

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def run_long() -> str:
        """Run long."""
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("told")
            raise
        return "never"

    desk = await shop(agent([[ask("run_long"), ask("double", n=1)], "never"], run_long, double))
    run = await desk.client.start("tester", "Go", id="cancel")
    await begun.wait()
    await run.cancel()
    await run.cancel()
    result = await run.result()
    assert (result.status, ended) == (RunStatus.CANCELLED, ["told"])
    assert outcomes(result.operations) == [("run_long", Outcome.FAILED), ("double", Outcome.SUCCEEDED)]
    assert (await run.handle.describe()).status is WorkflowExecutionStatus.CANCELED


async def test_a_cancelled_effect_that_ended_in_time_is_recorded_as_done(shop: OpenShop) -> None:
    begun = asyncio.Event()

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def send(ctx: ToolContext) -> str:
        """Send."""
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "sent all the same"
        return "never"

    desk = await shop(agent([ask("send"), "never"], send))
    run = await desk.client.start("tester", "Go", id="cancel-late")
    await begun.wait()
    await run.cancel()
    result = await run.result()
    assert result.status is RunStatus.CANCELLED
    assert [(o.outcome, o.result) for o in result.operations] == [(Outcome.SUCCEEDED, "sent all the same")]


async def test_a_cancelled_effect_that_broke_off_is_unknown(shop: OpenShop) -> None:
    begun = asyncio.Event()

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y")
    async def send() -> str:
        """Send."""
        begun.set()
        await asyncio.sleep(60)
        return "never"

    desk = await shop(agent([ask("send"), "never"], send))
    run = await desk.client.start("tester", "Go", id="cancel-broken")
    await begun.wait()
    await run.cancel()
    result = await run.result()
    assert outcomes(result.operations) == [("send", Outcome.UNKNOWN)]
    await run.resolve(result.operations[0].operation_id, happened=True, by="ada")
    assert outcomes(await run.operations()) == [("send", Outcome.SUCCEEDED)]


async def test_continue_as_new_after_every_turn_loses_nothing(shop: OpenShop) -> None:
    def answer(request: ModelRequest) -> Step:
        results = [r.text for m in request.messages for r in m.results]
        return ",".join(results) if len(results) == 8 else ask("double", n=len(results))

    desk = await shop(agent(answer, double))
    run = await desk.client.start("tester", "Go", id="again", continue_after_turns=1)
    result = await run.result()
    assert (result.text, result.turns, result.calls) == ("0,2,4,6,8,10,12,14", 9, 8)
    assert (await run.handle.describe()).run_id != (await desk.ledger.read_run("again")).execution
    assert (await desk.ledger.verify("again")).faults == ()


async def test_everything_said_during_continue_as_new_is_heard(shop: OpenShop) -> None:
    heard: list[str] = []

    def answer(request: ModelRequest) -> Step:
        heard[:] = [line for m in request.messages for line in m.text.splitlines() if line.startswith("word")]
        return "done" if len(heard) == 40 else ask("double", n=1)

    desk = await shop(agent(answer, double, limits=ROOMY.model_copy(update={"turns": 2000, "calls": 2000})))
    run = await desk.client.start("tester", "Go", id="chatty", continue_after_turns=2)
    for n in range(40):
        await run.say(f"word {n}")
    result = await run.result()
    assert (result.status, sorted(heard)) == (RunStatus.COMPLETED, sorted(f"word {n}" for n in range(40)))


@pytest.mark.parametrize("turns_before", [0, 1, 3])
async def test_a_run_reset_in_temporal_repeats_no_model_call_and_no_effect(shop: OpenShop, turns_before: int) -> None:
    """An operator resets the closed workflow to a point before the given turn ended; the same worker has it cached."""
    asked: list[int] = []
    sent: list[int] = []

    class Counting(Script):
        async def respond(self, request: ModelRequest) -> ModelResponse:
            asked.append(len(request.messages))
            return await super().respond(request)

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def send(n: int) -> int:
        """Send."""
        sent.append(n)
        return n

    script = Counting([ask("send", n=1), ask("send", n=2), ask("send", n=3), "sent"])
    desk = await shop(Agent(name="tester", instructions="x", model=script, tools=[send]))
    run_id = f"reset-{turns_before}"
    first = await desk.client.execute("tester", "Go", id=run_id)
    again = await reset(desk.client, run_id, turns_before * 2)
    closed = RunClosed.model_validate(await asyncio.wait_for(again.result(), 30))
    assert (sent, len(asked)) == ([1, 2, 3], 4)
    assert (closed.status, closed.turns, closed.calls) == (RunStatus.COMPLETED, 4, 3)
    assert await desk.client.run(run_id).result() == first
    assert (await desk.ledger.verify(run_id)).faults == ()


async def test_a_word_that_nobody_is_there_to_take_says_so_to_who_stops_waiting(shop: OpenShop) -> None:
    desk = await shop(agent(["done"]), serve=False)
    run = await desk.client.start("tester", "Go", id="nobody-there")
    with pytest.raises(EngineUnavailable, match="no worker may be alive"):
        await asyncio.wait_for(run.pause(), 1)
