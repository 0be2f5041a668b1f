"""A run that is reset to think again: what it did since stays done, is not done twice, and is shown."""

import asyncio
import json
import uuid
from typing import Any

import pytest
from typer.testing import CliRunner

from handfast import Agent, Effect, Lane, Outcome, Run, RunNotFound, RunStatus, Script, Tier, ask, tool
from handfast.client.anchors import read_anchors
from handfast.client.cli.app import app
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step
from tests.conftest import OpenShop, Shop, until
from tests.effects.agents import ROOMY


def new_id() -> str:
    return f"branch-{uuid.uuid4()}"


class Mind:
    """An agent that can be made to think otherwise, and what it has sent."""

    def __init__(self, *steps: Step, tier: Tier = Tier.REVERSIBLE, lane: Lane = Lane.STANDARD, **clauses: Any) -> None:
        self.steps: list[Step] = list(steps)
        self.sent: list[str] = []
        self.looked: list[int] = []
        self.heard: list[str] = []
        self.hold = asyncio.Event()
        self.hold.set()

        @tool(version="1.0.0", effect=Effect.ONCE, tier=tier, scope="letters:w", **clauses)
        async def send(to: str, words: str = "") -> str:
            """Send a letter."""
            self.sent.append(to)
            await self.hold.wait()
            if to == "nobody":
                raise ConnectionError("the line went dead")
            return f"sent to {to}"

        @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="letters:r")
        async def look(n: int) -> int:
            """Look."""
            self.looked.append(n)
            await self.hold.wait()
            return n

        model = Script(self._think, lane=lane)
        self.agent = Agent(name="mind", instructions="Think.", model=model, tools=[send, look], limits=ROOMY)

    def _think(self, request: ModelRequest) -> Step:
        self.heard = [result.text for message in request.messages for result in message.results]
        return self.steps[sum(message.role == "assistant" for message in request.messages)]


async def start(desk: Shop, **options: Any) -> Run:
    return await desk.client.start("mind", "Go", id=new_id(), **options)


async def story(run: Run) -> list[tuple[str, int, Outcome | None]]:
    """What was sent to whom, which branch left it behind, and what became of it."""
    return [(o.arguments["to"], o.left_by, o.outcome) for o in await run.operations() if o.tool == "send"]


async def require_sound(desk: Shop, run: Run) -> None:
    anchors = await read_anchors(desk.client.temporal, run.id)
    assert anchors
    assert (await desk.ledger.verify(run.id, anchors)).faults == ()


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize("options", [{}, {"continue_after_turns": 1}], ids=["one history", "a history a turn"])
async def test_a_closed_run_thinks_again_and_repeats_no_effect(
    shop: OpenShop, options: dict[str, int], lane: Lane
) -> None:
    mind = Mind(ask("look", n=1), ask("send", to="ada"), ask("send", to="bob"), "Both.", lane=lane)
    desk = await shop(mind.agent)
    run = await start(desk, **options)
    assert (await run.result()).text == "Both."
    mind.steps[1:] = [ask("look", n=2), [ask("send", to="bob"), ask("send", to="cyd")], "Others."]
    await run.reset(2, by="ada", reason="not to her")
    result = await run.result()
    assert (result.status, result.text, mind.sent) == (RunStatus.COMPLETED, "Others.", ["ada", "bob", "cyd"])
    assert mind.heard == ["1", "2", "sent to bob", "sent to cyd"]
    assert await story(run) == [
        ("ada", 1, Outcome.SUCCEEDED), ("bob", 0, Outcome.SUCCEEDED), ("cyd", 0, Outcome.SUCCEEDED),
    ]  # fmt: skip
    orphans = [operation.arguments for of, operation in await desk.ledger.list_orphans() if of == run.id]
    assert orphans == [{"to": "ada", "words": ""}]
    await require_sound(desk, run)


async def test_two_equal_effects_are_two_also_after_a_reset(shop: OpenShop) -> None:
    mind = Mind([ask("send", to="ada"), ask("send", to="ada")], "Two.")
    desk = await shop(mind.agent)
    run = await start(desk)
    await run.result()
    mind.steps[:] = [ask("send", to="ada"), [ask("send", to="ada"), ask("send", to="ada")], "Three."]
    await run.reset(1)
    assert (await run.result()).text == "Three."
    assert mind.sent == ["ada"] * 3
    assert await story(run) == [("ada", 0, Outcome.SUCCEEDED)] * 3


async def test_a_run_can_be_reset_many_times_forth_and_back(shop: OpenShop) -> None:
    mind = Mind(ask("send", to="a"), ask("send", to="b"), ask("send", to="c"), "First.")
    desk = await shop(mind.agent)
    run = await start(desk)
    await run.result()
    thoughts: list[tuple[int, list[Step], str]] = [
        (3, [ask("send", to="d"), "Second."], "Second."),
        (2, [ask("send", to="c"), ask("send", to="b"), "Third."], "Third."),
        (3, [ask("send", to="e"), ask("send", to="d"), "Fourth."], "Fourth."),
    ]
    for turn, steps, words in thoughts:
        mind.steps[turn - 1 :] = steps
        await run.reset(turn)
        assert (await run.result()).text == words
    assert mind.sent == ["a", "b", "c", "d", "e"]
    assert mind.heard == ["sent to a", "sent to c", "sent to e", "sent to d"]
    assert [(to, left) for to, left, _ in await story(run)] == [("b", 3), ("a", 0), ("c", 0), ("e", 0), ("d", 0)]
    await require_sound(desk, run)


async def test_what_was_approved_and_done_is_not_asked_for_again(shop: OpenShop) -> None:
    mind = Mind(ask("send", to="ada"), "Sent.", tier=Tier.IRREVERSIBLE)
    desk = await shop(mind.agent)
    run = await start(desk)
    [waiting] = await until(lambda: waits(run))
    await run.decide(waiting, approve=True, by="ada")
    await run.result()
    mind.steps[:] = [ask("look", n=1), ask("send", to="ada"), ask("send", to="bob"), "Again."]
    await run.reset(1)
    [waiting] = await until(lambda: waits(run))
    await run.decide(waiting, approve=True, by="ada")
    assert (await run.result()).text == "Again."
    assert mind.sent == ["ada", "bob"]


async def waits(run: Run) -> list[str]:
    return [waiting.operation for waiting in (await run.state()).waiting]


async def test_what_was_left_behind_counts_when_the_same_is_asked_in_other_words(shop: OpenShop) -> None:
    mind = Mind(ask("send", to="ada", words="Hello"), "Sent.", same_intent=("to",))
    desk = await shop(mind.agent)
    run = await start(desk)
    await run.result()
    mind.steps[:] = [ask("send", to="ada", words="Good day"), "Not again."]
    await run.reset(1)
    [waiting] = await until(lambda: waits(run))
    [held] = (await run.state()).waiting
    assert held.reason.startswith("duplicate_suspected")
    await run.decide(waiting, approve=False, by="ada")
    assert (await run.result()).text == "Not again."
    assert mind.sent == ["ada"]


async def test_a_call_that_waits_for_a_person_is_left_behind_unexecuted(shop: OpenShop) -> None:
    mind = Mind(ask("look", n=1), ask("send", to="ada"), "Sent.", tier=Tier.IRREVERSIBLE)
    desk = await shop(mind.agent)
    run = await start(desk)
    await until(lambda: waits(run))
    mind.steps[1:] = ["Nothing to send."]
    await run.reset(2)
    assert (await run.result()).text == "Nothing to send."
    assert (mind.sent, await story(run)) == ([], [("ada", 1, Outcome.FAILED)])
    assert run.id not in [of for of, _ in await desk.ledger.list_orphans()]


async def test_a_call_under_way_is_left_behind_in_doubt_and_what_it_did_is_told(shop: OpenShop) -> None:
    mind = Mind(ask("send", to="ada"), "Sent.")
    mind.hold.clear()
    desk = await shop(mind.agent)
    run = await start(desk)

    async def sending() -> bool:
        return mind.sent == ["ada"]

    await until(sending)
    mind.steps[:] = ["Nothing to send."]
    await run.reset(1)
    assert (await run.result()).text == "Nothing to send."
    mind.hold.set()

    async def told() -> bool:
        return any(notice.kind == "late_effect" for notice in await desk.ledger.shared.list_notices())

    await until(told)
    assert await story(run) == [("ada", 1, Outcome.UNKNOWN)]
    [(_, orphan)] = [found for found in await desk.ledger.list_orphans() if found[0] == run.id]
    await run.resolve(orphan.operation_id, happened=True, by="ada")
    assert await story(run) == [("ada", 1, Outcome.SUCCEEDED)]
    await require_sound(desk, run)


async def test_a_doubt_that_is_asked_for_again_stays_a_doubt(shop: OpenShop) -> None:
    mind = Mind(ask("send", to="nobody"), "Sent.")
    desk = await shop(mind.agent)
    run = await start(desk)
    [first] = await until(lambda: waits(run))
    mind.steps[:] = [ask("look", n=1), ask("send", to="nobody"), "Still sent."]
    await run.reset(1)

    async def looked() -> bool:
        return (await run.state()).turn == 2 and await waits(run) == [first]

    await until(looked)
    await run.resolve(first, happened=True, by="ada")
    assert (await run.result()).text == "Still sent."
    assert mind.sent == ["nobody"]


async def test_a_run_that_was_cancelled_goes_on_when_it_is_reset(shop: OpenShop) -> None:
    mind = Mind(ask("look", n=1), ask("send", to="ada"), "Sent.", tier=Tier.IRREVERSIBLE)
    desk = await shop(mind.agent)
    run = await start(desk)
    await until(lambda: waits(run))
    await run.cancel()
    assert (await run.result()).status is RunStatus.CANCELLED
    mind.steps[1:] = ["Never mind."]
    await run.reset(2)
    result = await run.result()
    assert (result.status, result.text) == (RunStatus.COMPLETED, "Never mind.")
    assert [event.kind async for event in run.events()].count("closed") == 2


async def test_a_reset_that_died_halfway_stops_the_old_branch_and_is_said_again(shop: OpenShop) -> None:
    """The ledger has branched, and Temporal does not know yet: nothing more of the old branch counts."""
    mind = Mind(ask("look", n=1), ask("send", to="ada"), "Sent.")
    mind.hold.clear()
    desk = await shop(mind.agent)
    run = await start(desk)

    async def looking() -> bool:
        return mind.looked == [1]

    await until(looking)
    latest = (await run.handle.describe()).run_id
    assert await desk.ledger.begin_branch(run.id, 1, left=latest) == 1
    mind.hold.set()

    async def stopped() -> Any:
        activities = (await run.handle.describe()).raw_description.pending_activities
        return [one for one in activities if "was reset to turn 1" in one.last_failure.message]

    await until(stopped)
    mind.steps[:] = ["Nothing to send."]
    await run.reset(1)
    assert (await run.result()).text == "Nothing to send."
    assert ((await desk.ledger.read_run(run.id)).branches, mind.sent) == ((1,), [])


async def test_only_a_turn_that_was_thought_can_be_thought_again(shop: OpenShop) -> None:
    desk = await shop(Mind("Hello.").agent)
    run = await start(desk)
    await run.result()
    for turn in (0, 2, 99):
        with pytest.raises(RunNotFound, match=f"has no turn {turn}"):
            await run.reset(turn)
    with pytest.raises(RunNotFound, match="handfast runs"):
        await desk.client.run("nobody's").reset(1)
    assert (await run.result()).text == "Hello."


async def test_orphans_are_listed_on_the_command_line(shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> None:
    mind = Mind(ask("send", to="ada"), "Sent.")
    desk = await shop(mind.agent)
    run = await start(desk)
    await run.result()
    mind.steps[:] = ["Nothing to send."]
    monkeypatch.setenv("TEMPORAL_ADDRESS", desk.client.engine.address)
    monkeypatch.setenv("HANDFAST_LEDGER_URL", desk.settings.ledger)

    async def command(*words: str) -> str:
        done = await asyncio.to_thread(CliRunner().invoke, app, list(words))
        assert done.exit_code == 0, done.output
        return done.output

    assert "no effect was left behind" in await command("runs", "--orphans")
    assert "reset to turn 1" in await command("reset", run.id, "--turn", "1", "--by", "ada", "--reason", "not to her")
    assert (await run.result()).text == "Nothing to send."
    [line] = (await command("runs", "--orphans", "--json")).splitlines()
    found = json.loads(line)
    assert (found["run_id"], found["arguments"], found["outcome"]) == (run.id, {"to": "ada", "words": ""}, "SUCCEEDED")
    assert "before it was reset" in await command("runs", "--orphans")
    shown = await command("show", run.id)
    assert ("to turn 1 by ada: not to her" in shown, "(left" in shown) == (True, True)
