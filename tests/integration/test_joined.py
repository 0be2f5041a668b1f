"""A plan's turn in the commit of the call before it, with the opening or with the close: all of it, or what stands by itself."""

from dataclasses import replace

from handfast.contracts.effects import Outcome, RunStatus
from handfast.contracts.messages import Message, Text
from handfast.contracts.wire import CallInput, CloseInput, TurnResult
from handfast.contracts.wire_undo import UndoInput
from handfast.ledger import Ledger, NewRun, NewTurn, Settlement, TurnAhead
from tests.integration.test_ledger import FAILURE, OPENING, OTHER_SUCCESS, SUCCESS, ask, open_run

COMPLETED = CloseInput(status=RunStatus.COMPLETED, work_seconds=1.5)


def answer(turn: int, *, branches: tuple[int, ...] = ()) -> NewTurn:
    """A turn that asks for nothing more."""
    message = Message(role="assistant", parts=(Text(text="done"),))
    return NewTurn(
        turn=turn, heard=(), message=message, calls=(), result=TurnResult(answered=True), output="done", branches=branches
    )  # fmt: skip


def ahead(turn: int = 2, *, closes: bool = False, joins: bool = True) -> TurnAhead:
    return TurnAhead(new=answer(turn), close=COMPLETED if closes else None, execution="execution-1", joins=joins)


async def settle(
    ledger: Ledger, call: CallInput, new: Settlement, then: TurnAhead, owner: str = ""
) -> tuple[bool, bool, bool]:
    """Whether the call's settlement, the turn and the close were this one's."""
    found = await ledger.settle_and_ask("r1", call.id, owner, new, then, tool="pay")
    following = found.next
    return (
        found.call.mine,
        following is not None and following.turn.mine,
        following is not None and following.closed is not None,
    )


async def kinds(ledger: Ledger) -> list[str]:
    assert (await ledger.verify("r1")).faults == ()
    return [event.kind for event in await ledger.read_events("r1")]


async def test_the_last_call_of_a_turn_settles_the_next_one_and_closes_the_run(ledger: Ledger) -> None:
    await open_run(ledger)
    one, two, three = await ask(ledger, {"n": 1}, {"n": 2}, {"n": 3})
    assert await settle(ledger, one, SUCCESS, ahead(closes=True)) == (True, False, False)
    assert await settle(ledger, two, SUCCESS, ahead(closes=True)) == (True, False, False)
    assert await settle(ledger, three, SUCCESS, ahead(closes=True)) == (True, True, True)
    assert await kinds(ledger) == ["requested", "opened", "turn", *3 * ["settled"], "turn", "closed"]
    run = await ledger.read_run("r1")
    assert (run.status, run.turns) == (RunStatus.COMPLETED, 2)
    # Told again, by an attempt that does not know that it was written down: nothing is written twice.
    assert await settle(ledger, three, SUCCESS, ahead(closes=True)) == (False, False, False)
    last = await ledger.ask_and_close("r1", answer(2), COMPLETED)
    assert (last.turn.mine, last.closed is not None and last.closed[0].status) == (False, RunStatus.COMPLETED)
    assert (await kinds(ledger)).count("closed") == 1


async def test_a_turn_is_not_settled_ahead_of_a_call_that_has_not_succeeded(ledger: Ledger) -> None:
    await open_run(ledger)
    one, two = await ask(ledger, {"n": 1}, {"n": 2})
    await ledger.settle("r1", one.id, "", FAILURE, tool="pay")
    assert await settle(ledger, two, SUCCESS, ahead(closes=True)) == (True, False, False)
    assert (await kinds(ledger))[-1] == "settled"


async def test_a_turn_that_was_made_of_another_result_than_the_one_that_stands_is_not_settled(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1})
    await ledger.reserve("r1", call, "frozen", 60_000, "1.0.0", seen=0)
    await ledger.reserve("r1", call, "second", 60_000, "1.0.0", seen=1)
    await ledger.settle("r1", call.id, "second", SUCCESS, tool="pay")
    assert await settle(ledger, call, OTHER_SUCCESS, ahead(joins=False), owner="frozen") == (False, False, False)
    assert (await kinds(ledger)).count("turn") == 1


async def test_a_call_is_settled_although_the_run_was_reset_since(ledger: Ledger) -> None:
    await open_run(ledger)
    [first] = await ask(ledger, {"n": 1})
    await ledger.settle("r1", first.id, first.id, SUCCESS, tool="pay")
    [call] = await ask(ledger, {"n": 2}, turn=2)
    await ledger.begin_branch("r1", 3 - 1, left="execution-1")
    [again] = await ask(ledger, {"n": 2}, turn=2, branches=(2,))
    # The turn was made before the reset.
    found = await ledger.settle_and_ask(
        "r1", again.id, again.id, SUCCESS, TurnAhead(new=answer(3), joins=True), tool="pay"
    )
    assert (found.call.mine, found.next) == (True, None)
    assert call.id != again.id
    assert (await kinds(ledger))[-1] == "settled"


async def test_a_run_is_opened_with_its_first_turn_once(ledger: Ledger) -> None:
    await ledger.request_run(NewRun(run_id="r1", agent="a", text="please", user="ada", tenant="t"))
    opened = await ledger.open_and_ask("r1", OPENING, answer(1))
    assert opened.first is not None
    assert opened.first.mine
    again = await ledger.open_and_ask("r1", OPENING, replace(answer(1), output="another"))
    assert again.row == opened.row
    assert again.first is not None
    assert (again.first.mine, again.first.result) == (False, opened.first.result)
    assert await kinds(ledger) == ["requested", "opened", "turn"]


async def test_what_ends_a_run_that_the_ledger_has_as_completed_undoes_nothing(ledger: Ledger) -> None:
    """A worker has closed it and died before Temporal heard of that; a cancellation came meanwhile."""
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1})
    assert await settle(ledger, call, SUCCESS, ahead(closes=True), owner="") == (True, True, True)
    assert (await ledger.undoing.begin("r1", UndoInput(cause=RunStatus.CANCELLED), "execution-1")).steps == ()
    assert "undo" not in await kinds(ledger)
    await ledger.close_run("r1", CloseInput(status=RunStatus.CANCELLED))
    assert (await ledger.read_run("r1")).status is RunStatus.COMPLETED
    # Somebody who asks for it all the same gets it.
    await ledger.undoing.begin("r1", UndoInput(cause="rollback", by="ada"), "another")
    assert "undo" in await kinds(ledger)
    assert [one.outcome for one in await ledger.list_operations("r1")] == [Outcome.SUCCEEDED]
