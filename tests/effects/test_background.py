"""Pending work in the background: the model has a receipt and goes on, and hears of the end as a message."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from handfast import (
    Agent,
    Backoff,
    BackoffKind,
    ContractError,
    Effect,
    Outcome,
    Pending,
    Run,
    RunStatus,
    Script,
    Tier,
    ToolContext,
    ask,
    tool,
)
from handfast.contracts.messages import Message, ModelRequest
from handfast.contracts.results import Operation
from handfast.contracts.tool import Tool
from handfast.contracts.wire import CallResult
from handfast.contracts.wire_words import Resolution
from handfast.ledger import Settlement
from handfast.ledger.late import OUTSIDE
from handfast.llm.script import Step
from tests.conftest import OpenShop, Shop, until
from tests.effects.agents import ROOMY, agent

SOON = Backoff(kind=BackoffKind.FIXED, base=timedelta(seconds=0.2))


def new_id() -> str:
    return f"background-{uuid.uuid4()}"


class Studio:
    """Renders films elsewhere: a look at one finds what was put into `done`."""

    def __init__(self, *, effect: Effect = Effect.KEYED, deadline: timedelta = timedelta(minutes=1)) -> None:
        self.began: list[str] = []
        self.done: dict[str, str] = {}
        self.noted: list[int] = []

        async def poll(args: Any, reference: str, ctx: ToolContext) -> str | None:
            return self.done.get(reference)

        @tool(
            version="1.0.0",
            effect=effect,
            tier=Tier.READ_ONLY if effect is Effect.READ else Tier.REVERSIBLE,
            scope="films:w",
            poll=poll,
            polls=SOON,
            background=True,
        )
        async def render(name: str, ctx: ToolContext) -> str | Pending:
            """Render a film."""
            self.began.append(name)
            return Pending(reference=name, deadline=deadline)

        @tool(version="1.0.0", effect=Effect.IDEMPOTENT, tier=Tier.REVERSIBLE, scope="notes:w")
        async def note(n: int) -> str:
            """Note a number; notes may end a film."""
            self.noted.append(n)
            return "noted"

        self.render: Tool = render
        self.tools = [render, note]


def scripted(script: Callable[[ModelRequest], Step], studio: Studio) -> Agent:
    return Agent(name="tester", instructions="Test.", model=Script(script), tools=studio.tools, limits=ROOMY)


async def heard(desk: Shop, run: Run) -> list[tuple[str, ...]]:
    """What the model was told in each turn, besides results."""
    events = await desk.ledger.read_events(run.id)
    return [tuple(event.content["heard"]) for event in events if event.kind == "turn"]


async def answers(desk: Shop, run: Run) -> list[str]:
    """What the model has said in words, turn by turn."""
    events = await desk.ledger.read_events(run.id)
    return [Message.model_validate(event.content["message"]).text for event in events if event.kind == "turn"]


async def until_answered(desk: Shop, run: Run, words: str) -> None:
    async def answered() -> bool:
        return (await answers(desk, run))[-1:] == [words]

    await until(answered)


async def first(run: Run) -> Operation:
    return (await run.operations())[0]


def ended_with(operation: Operation, outcome: str, result: str) -> str:
    return f"(from the engine) Job {operation.operation_id} of render has ended: {outcome}. Result: {result}"


@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.READ, Effect.ONCE])
async def test_the_model_goes_on_with_a_receipt_and_hears_of_the_end_later(shop: OpenShop, effect: Effect) -> None:
    studio = Studio(effect=effect)
    seen: list[Sequence[Message]] = []
    steps: list[Step] = [ask("render", name="a"), ask("note", n=1), "I have begun.", "It is there."]

    def script(request: ModelRequest) -> Step:
        seen.append(request.messages)
        return steps[sum(message.role == "assistant" for message in request.messages)]

    desk = await shop(scripted(script, studio))
    run = await desk.client.start("tester", "Go", id=new_id())
    await until_answered(desk, run, "I have begun.")
    operation = await first(run)
    assert (operation.state, studio.noted) == ("pending", [1])
    assert (await run.summary()).status is RunStatus.RUNNING
    studio.done["a"] = "a.mp4"
    result = await run.result()
    assert (result.status, result.text, studio.began) == (RunStatus.COMPLETED, "It is there.", ["a"])
    assert await heard(desk, run) == [(), (), (), (ended_with(operation, "SUCCEEDED", "a.mp4"),)]
    receipt = seen[1][-1].results[0]
    assert (receipt.failed, f'"job": "{operation.operation_id}"' in receipt.text) == (False, True)
    # What the model was told of the call does not change afterwards.
    assert seen[3][2] == seen[1][2]
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_another_worker_tells_the_same_story(shop: OpenShop) -> None:
    """The conversation read back from the ledger is the one that was held: the receipt stays a receipt."""
    studio = Studio()
    asked: list[Sequence[Message]] = []
    steps: list[Step] = [ask("render", name="a"), "Begun.", "Done."]

    def script(request: ModelRequest) -> Step:
        asked.append(request.messages)
        return steps[sum(message.role == "assistant" for message in request.messages)]

    tester = scripted(script, studio)
    desk = await shop(tester, serve=False)
    run = await desk.client.start("tester", "Go", id=new_id())
    async with desk.another_worker(tester):
        await until_answered(desk, run, "Begun.")
    studio.done["a"] = "a.mp4"
    async with desk.another_worker(tester):
        assert (await run.result()).text == "Done."
    assert asked[2][: len(asked[1])] == asked[1]
    assert studio.began == ["a"]


async def test_several_jobs_end_in_any_order_and_each_is_told_once(shop: OpenShop) -> None:
    studio = Studio()
    steps = [[ask("render", name="a"), ask("render", name="b"), ask("note", n=1)], "Begun.", "One.", "Both."]
    desk = await shop(agent(*steps, tools=studio.tools))
    run = await desk.client.start("tester", "Go", id=new_id())
    await until_answered(desk, run, "Begun.")
    studio.done["b"] = "b.mp4"
    await until_answered(desk, run, "One.")
    studio.done["a"] = "a.mp4"
    assert (await run.result()).text == "Both."
    a, b, _ = await run.operations()
    assert (await heard(desk, run))[2:] == [
        (ended_with(b, "SUCCEEDED", "b.mp4"),), (ended_with(a, "SUCCEEDED", "a.mp4"),),
    ]  # fmt: skip


async def test_a_run_with_jobs_continues_as_new_and_takes_them_along(shop: OpenShop) -> None:
    studio = Studio()
    steps = [ask("render", name="a"), ask("note", n=1), ask("render", name="b"), "Begun.", "One.", "Both."]
    desk = await shop(agent(*steps, tools=studio.tools))
    run = await desk.client.start("tester", "Go", id=new_id(), continue_after_turns=1)
    await until_answered(desk, run, "Begun.")
    studio.done["a"] = "a.mp4"
    await until_answered(desk, run, "One.")
    studio.done["b"] = "b.mp4"
    assert (await run.result()).text == "Both."
    assert studio.began == ["a", "b"]
    assert [len(told) for told in await heard(desk, run)] == [0, 0, 0, 0, 1, 1]


async def test_words_reach_a_model_that_rests_while_a_job_goes_on(shop: OpenShop) -> None:
    studio = Studio()
    desk = await shop(agent(ask("render", name="a"), "Begun.", "Still at it.", "There.", tools=studio.tools))
    run = await desk.client.start("tester", "Go", id=new_id())
    await until_answered(desk, run, "Begun.")
    await run.say("How is it going?")
    await until_answered(desk, run, "Still at it.")
    studio.done["a"] = "a.mp4"
    assert (await run.result()).text == "There."
    assert (await heard(desk, run))[2] == ("How is it going?",)


async def test_a_job_whose_end_is_not_known_waits_for_a_person_also_across_continue_as_new(shop: OpenShop) -> None:
    studio = Studio(deadline=timedelta(seconds=0.5))
    steps = [ask("render", name="a"), "Begun.", "Going on.", "So it is."]
    desk = await shop(agent(*steps, tools=studio.tools))
    run = await desk.client.start("tester", "Go", id=new_id(), continue_after_turns=1)

    async def waits() -> bool:
        return [waiting.unknown for waiting in (await run.state()).waiting] == [True]

    await until(waits)
    await run.say("Go on.")
    await until_answered(desk, run, "Going on.")
    await until(waits)
    await run.resolve((await first(run)).operation_id, happened=True, by="ada", note="it is on the disk")
    result = await run.result()
    assert (result.text, result.operations[0].outcome) == ("So it is.", Outcome.SUCCEEDED)
    assert "it is on the disk" in (await heard(desk, run))[3][0]


async def test_a_word_that_is_said_while_the_run_continues_as_new_is_taken_along(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = Studio(deadline=timedelta(seconds=0.5))
    steps = [[ask("render", name="a"), ask("render", name="b")], "Begun.", "Going on.", "One.", "Both."]
    desk = await shop(agent(*steps, tools=studio.tools))
    run = await desk.client.start("tester", "Go", id=new_id(), continue_after_turns=1)
    writing, go = asyncio.Event(), asyncio.Event()
    record = desk.boundary.ledger.record_resolution

    async def slowly(run_id: str, resolution: Resolution, judge: Any) -> CallResult:
        writing.set()
        await go.wait()
        return await record(run_id, resolution, judge)

    monkeypatch.setattr(desk.boundary.ledger, "record_resolution", slowly)

    async def both_wait() -> bool:
        return [waiting.unknown for waiting in (await run.state()).waiting] == [True, True]

    async def only_the_word_is_open() -> bool:
        description = await run.handle.describe()
        return [one.activity_type.name for one in description.raw_description.pending_activities] == ["record_decision"]

    await until(both_wait)
    one, two = await run.operations()
    first_word = asyncio.create_task(run.resolve(one.operation_id, happened=True, by="ada"))
    await writing.wait()
    await run.say("Go on.")
    await until_answered(desk, run, "Going on.")
    # It continues as new when the first word is written down; the state is what the workflow knows after the turn.
    await until(only_the_word_is_open)
    await run.state()
    second_word = asyncio.create_task(run.resolve(two.operation_id, happened=False, by="ada"))
    go.set()
    await asyncio.gather(first_word, second_word)
    result = await asyncio.wait_for(run.result(), 30)
    assert [operation.outcome for operation in result.operations] == [Outcome.SUCCEEDED, Outcome.FAILED]
    assert [event.kind for event in await desk.ledger.read_events(run.id)].count("resolved") == 2


async def test_a_run_that_is_cancelled_while_it_rests_shows_what_is_not_known(shop: OpenShop) -> None:
    studio = Studio()
    desk = await shop(agent(ask("render", name="a"), "Begun.", tools=studio.tools))
    run = await desk.client.start("tester", "Go", id=new_id())
    await until_answered(desk, run, "Begun.")
    await run.cancel()
    result = await run.result()
    assert (result.status, result.operations[0].outcome) == (RunStatus.CANCELLED, Outcome.UNKNOWN)


@pytest.mark.parametrize("found", ["in the ledger", "by looking"])
async def test_a_job_that_has_ended_before_its_worker_could_say_that_it_began_is_told(
    shop: OpenShop, found: str
) -> None:
    """Killed between the ledger and Temporal: the next attempt finds the work ended, and the model gets both words."""
    studio = Studio()
    desk = await shop(agent(ask("render", name="a"), "Begun.", "There.", tools=studio.tools), serve=False)
    pend = desk.ledger.pend

    async def pend_and_die(*args: Any, **options: Any) -> Any:
        await pend(*args, **options)
        run_id, operation_id = args[:2]
        if found == "in the ledger":
            word = Settlement(outcome=Outcome.SUCCEEDED, content="a.mp4", meta={"callback": True})
            await desk.ledger.settle(run_id, operation_id, OUTSIDE, word)
        studio.done["a"] = "a.mp4"
        raise ConnectionError("killed")

    desk.ledger.pend = pend_and_die  # type: ignore[method-assign]  # the point at which it dies
    run = await desk.client.start("tester", "Go", id=new_id())
    async with desk.another_worker(agent(ask("render", name="a"), "Begun.", "There.", tools=studio.tools)):
        result = await run.result()
    assert (studio.began, result.operations[0].result) == (["a"], "a.mp4")
    told = [text for turn in await heard(desk, run) for text in turn]
    assert told == [ended_with(await first(run), "SUCCEEDED", "a.mp4")]


def test_background_work_that_nobody_would_hear_of_is_refused() -> None:
    with pytest.raises(ContractError, match="nobody would hear of the work's end"):

        @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y", background=True)
        async def render() -> Pending:
            """Render."""
            return Pending()
