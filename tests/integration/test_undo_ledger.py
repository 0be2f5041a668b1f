"""Undoing in the ledger, on both databases: what is owed, what a late word does, what people may say."""

import asyncio

import pytest

from handfast.contracts.effects import Effect, Outcome, RunStatus
from handfast.contracts.errors import DecisionRefused, LedgerConflict
from handfast.contracts.wire import CallInput, CloseInput
from handfast.contracts.wire_undo import UndoInput, UndoStep
from handfast.contracts.wire_words import Resolution, UndoWord
from handfast.ledger import Ledger, OperationMoved, Settlement
from tests.integration.test_ledger import MAYBE, SUCCESS, ask, open_run

MINUTE = 60_000
FAILED = UndoInput(cause=RunStatus.FAILED, reason="it went wrong")


async def carried_out(ledger: Ledger, number: int = 1, effect: Effect = Effect.KEYED) -> list[CallInput]:
    """Calls that have succeeded, one a turn."""
    await open_run(ledger)
    calls: list[CallInput] = []
    for n in range(number):
        [call] = await ask(ledger, {"n": n}, turn=n + 1, effect=effect, undo=effect)
        await ledger.reserve("r1", call, call.id, MINUTE, "1.0.0", seen=0)
        await ledger.settle("r1", call.id, call.id, SUCCESS, tool="pay")
        calls.append(call)
    return calls


async def begun(ledger: Ledger, ref: str = "execution-1") -> tuple[UndoStep, ...]:
    return (await ledger.undoing.begin("r1", FAILED, ref)).steps


async def undo(ledger: Ledger, step: UndoStep) -> None:
    """Carry out a compensation."""
    await ledger.reserve("r1", step.call, step.call.id, MINUTE, "1.0.0", seen=0)
    await ledger.settle("r1", step.call.id, step.call.id, SUCCESS, tool="pay")


async def test_what_is_owed_is_read_from_the_calls_and_undone_with_its_settlement(ledger: Ledger) -> None:
    one, two = await carried_out(ledger, 2)
    [nothing] = await ask(ledger, {"n": 9}, turn=3)
    await ledger.reserve("r1", nothing, nothing.id, MINUTE, "1.0.0", seen=0)
    await ledger.settle("r1", nothing.id, nothing.id, SUCCESS, tool="pay")
    steps = await begun(ledger)
    assert [step.undoes for step in steps] == [two.id, one.id]
    assert await begun(ledger) == steps
    assert await begun(ledger, "another") == steps
    await undo(ledger, steps[0])
    assert [(row.operation_id, row.outcome) for row in await ledger.list_operations("r1")] == [
        (one.id, Outcome.SUCCEEDED), (two.id, Outcome.COMPENSATED), (nothing.id, Outcome.SUCCEEDED),
    ]  # fmt: skip
    assert [step.undoes for step in await begun(ledger)] == [one.id]
    assert [(u.operation, u.undone, u.reason[:28]) for u in await ledger.undoing.undone("r1")] == [
        (nothing.id, False, "nothing undoes such a call: "), (two.id, True, ""), (one.id, False, "not tried yet"),
    ]  # fmt: skip
    assert (await ledger.verify("r1")).faults == ()


async def test_calls_that_nobody_settled_are_closed_before_they_are_undone(ledger: Ledger) -> None:
    await open_run(ledger)
    never, under_way = await ask(ledger, {"n": 1}, {"n": 2}, undo=Effect.KEYED)
    await ledger.reserve("r1", under_way, "frozen", MINUTE, "1.0.0", seen=0)
    [step] = await begun(ledger)
    assert step.undoes == under_way.id
    assert [o.outcome for o in await ledger.list_operations("r1")] == [Outcome.FAILED, Outcome.UNKNOWN]
    with pytest.raises(OperationMoved):
        await ledger.reserve("r1", never, "late", MINUTE, "1.0.0", seen=0)


async def test_a_late_success_of_a_call_that_was_undone_is_owed_again(ledger: Ledger) -> None:
    """It was safe to undo although nobody knew; then the frozen attempt wakes up, and says that it happened."""
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1}, undo=Effect.KEYED)
    await ledger.reserve("r1", call, "frozen", MINUTE, "1.0.0", seen=0)
    [first] = await begun(ledger)
    await undo(ledger, first)
    assert await begun(ledger) == ()
    await ledger.settle("r1", call.id, "frozen", SUCCESS, tool="pay")
    [operation] = await ledger.list_operations("r1")
    assert operation.outcome is Outcome.UNKNOWN
    assert [notice.kind for notice in await ledger.shared.list_notices()] == ["late_effect"]
    [again] = await begun(ledger)
    assert (again.undoes, again.call.id != first.call.id) == (call.id, True)
    await undo(ledger, again)
    await ledger.settle("r1", call.id, "frozen", SUCCESS, tool="pay")
    assert await begun(ledger) == ()
    assert (await ledger.verify("r1")).faults == ()


async def test_a_late_word_that_it_may_have_happened_counts_the_same(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1}, undo=Effect.KEYED)
    await ledger.reserve("r1", call, "frozen", MINUTE, "1.0.0", seen=0)
    await undo(ledger, (await begun(ledger))[0])
    for acted, owed in ((False, 0), (True, 1)):
        await ledger.release("r1", call.id, "frozen", "timeout", attempt=1, surely_not=False, acted=acted)
        assert len(await begun(ledger)) == owed
    assert (await ledger.verify("r1")).faults == ()


@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.ONCE])
async def test_a_late_word_on_what_was_known_to_have_happened_is_news_only_of_a_second_effect(
    ledger: Ledger, effect: Effect
) -> None:
    [call] = await carried_out(ledger, effect=effect)
    await undo(ledger, (await begun(ledger))[0])
    await ledger.settle("r1", call.id, call.id, SUCCESS, tool="pay")
    assert await begun(ledger) == ()
    other = Settlement(outcome=Outcome.SUCCEEDED, content={"done": "by another attempt"}, meta={"attempt": 1})
    await ledger.settle("r1", call.id, "another attempt", other, tool="pay")
    assert len(await begun(ledger)) == int(effect is Effect.ONCE)
    assert (await ledger.verify("r1")).faults == ()


async def blocked(ledger: Ledger) -> tuple[CallInput, UndoStep]:
    """A call whose compensation has failed for good."""
    [call] = await carried_out(ledger)
    [step] = await begun(ledger)
    await ledger.fence("r1", step.call.id, "it was tried 8 times")
    for _ in range(2):
        await ledger.undoing.block("r1", call.id, step.call.id, "it was tried 8 times")
    assert [run.run_id for run in await ledger.list_runs(blocked=True)] == ["r1"]
    return call, step


@pytest.mark.parametrize("action", ["skip", "done"])
async def test_a_word_ends_what_is_blocked_and_counts_once(ledger: Ledger, action: str) -> None:
    call, _ = await blocked(ledger)
    word = UndoWord.model_validate({"operation": call.id, "action": action, "by": "ada", "reason": "closed"})
    said = await ledger.undoing.unblock("r1", word)
    assert await ledger.undoing.unblock("r1", word) == said
    with pytest.raises(DecisionRefused, match="is not blocked"):
        await ledger.undoing.unblock("r1", word.model_copy(update={"action": "retry"}))
    assert (await begun(ledger), await ledger.list_runs(blocked=True)) == ((), [])
    assert (await ledger.verify("r1")).faults == ()


async def test_what_was_left_as_it_is_is_not_tried_again_nor_asked_for(ledger: Ledger) -> None:
    call, step = await blocked(ledger)
    await ledger.undoing.unblock("r1", UndoWord(operation=call.id, action="skip", by="ada"))
    assert (await ledger.undoing.to_undo("r1", step.call.id)).let_be
    assert not await ledger.undoing.block(
        "r1", call.id, step.call.id, "a late attempt has failed", seen=Outcome.SUCCEEDED
    )
    assert await ledger.list_runs(blocked=True) == []


async def test_only_a_call_that_stands_as_it_was_seen_is_left_to_a_person(ledger: Ledger) -> None:
    """And it waits, and is listed, until it is said what is to become of it, also once it is known that it did not happen."""
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1}, undo=Effect.KEYED)
    await ledger.reserve("r1", call, call.id, MINUTE, "1.0.0", seen=0)
    await ledger.settle("r1", call.id, call.id, MAYBE)
    [step] = await begun(ledger)
    stuck = ("r1", call.id, step.call.id, "nobody knows")
    assert not await ledger.undoing.block(*stuck, seen=Outcome.SUCCEEDED)
    assert await ledger.list_runs(blocked=True) == []
    assert await ledger.undoing.block(*stuck, seen=Outcome.UNKNOWN)
    await ledger.record_resolution("r1", Resolution(operation=call.id, happened=False, by="ada"))
    assert [(run.run_id, run.blocked) for run in await ledger.list_runs(blocked=True)] == [("r1", 1)]
    await ledger.undoing.unblock("r1", UndoWord(operation=call.id, action="retry", by="ada"))
    assert await ledger.list_runs(blocked=True) == []


async def test_a_retry_is_another_operation_with_another_key(ledger: Ledger) -> None:
    call, step = await blocked(ledger)
    word = UndoWord(operation=call.id, action="retry", by="ada")
    said = await ledger.undoing.unblock("r1", word)
    assert await ledger.undoing.unblock("r1", word) == said
    assert said.retry not in {"", step.call.id, call.id}
    [again] = await begun(ledger)
    assert again.call.id == said.retry
    await undo(ledger, again)
    assert (await ledger.list_operations("r1"))[0].outcome is Outcome.COMPENSATED
    kinds = [event.kind for event in await ledger.read_events("r1")]
    assert (kinds.count("blocked"), kinds.count("unblocked"), kinds.count("undone")) == (1, 1, 1)
    assert (await ledger.verify("r1")).faults == ()


async def test_what_is_not_known_is_found_or_said_before_it_is_undone(ledger: Ledger) -> None:
    await open_run(ledger)
    found, absent, said = await ask(ledger, {"n": 1}, {"n": 2}, {"n": 3}, undo=Effect.KEYED)
    for call in (found, absent, said):
        await ledger.reserve("r1", call, call.id, MINUTE, "1.0.0", seen=0)
        await ledger.settle("r1", call.id, call.id, MAYBE)
    steps = {step.undoes: step for step in await begun(ledger)}
    assert await ledger.undoing.record_found("r1", found.id, happened=True, result={"n": 1})
    assert await ledger.undoing.record_found("r1", absent.id, happened=False, result=None)
    await ledger.record_resolution("r1", Resolution(operation=said.id, happened=True, by="ada"))
    # What a person has said before stands, whatever is found then.
    assert not await ledger.undoing.record_found("r1", said.id, happened=False, result=None)
    to_undo = [await ledger.undoing.to_undo("r1", steps[call.id].call.id) for call in (found, absent, said)]
    assert [(one.outcome, one.result) for one in to_undo] == [
        (Outcome.SUCCEEDED, {"n": 1}), (Outcome.FAILED, None), (Outcome.SUCCEEDED, None),
    ]  # fmt: skip
    assert [step.undoes for step in await begun(ledger)] == [said.id, found.id]
    await undo(ledger, steps[absent.id])
    assert (await ledger.list_operations("r1"))[1].outcome is Outcome.FAILED
    with pytest.raises(LedgerConflict, match="undoes no call"):
        await ledger.undoing.to_undo("r1", found.id)
    assert (await ledger.verify("r1")).faults == ()


async def test_undoing_goes_back_to_a_point_and_takes_in_what_branches_left_behind(ledger: Ledger) -> None:
    one, two, three = await carried_out(ledger, 3)
    assert [owed[0] for owed in await ledger.undoing.owed("r1", one.id)] == [three.id, two.id]
    with pytest.raises(DecisionRefused, match="has no operation"):
        await ledger.undoing.owed("r1", "none")
    await ledger.close_run("r1", CloseInput(status=RunStatus.COMPLETED))
    await ledger.begin_branch("r1", 2, left="execution-1")
    assert [step.undoes for step in await begun(ledger)] == [three.id, two.id, one.id]
    assert (await ledger.verify("r1")).faults == ()


@pytest.mark.parametrize("action", ["retry", "skip", "done"])
async def test_no_word_on_an_undoing_counts_while_a_frozen_attempt_of_it_may_still_act(
    ledger: Ledger, action: str
) -> None:
    [call] = await carried_out(ledger, effect=Effect.ONCE)
    [step] = await begun(ledger)
    await ledger.reserve("r1", step.call, step.call.id, 700, "1.0.0", seen=0)
    await ledger.fence("r1", step.call.id, "its worker does not answer")
    await ledger.undoing.block("r1", call.id, step.call.id, "nobody knows")
    word = UndoWord.model_validate({"operation": call.id, "action": action, "by": "ada", "reason": "it may stay"})
    with pytest.raises(DecisionRefused, match="may still act for 0"):
        await ledger.undoing.unblock("r1", word)
    await asyncio.sleep(0.75)
    await ledger.undoing.unblock("r1", word)
    assert await ledger.list_runs(blocked=True) == []
