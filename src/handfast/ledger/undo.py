"""Undoing in the ledger: which calls are owed a compensation, what became of each, and what people said of those stuck.

What undoes a call is an operation of its own, with `undoes` set and a negative `left_by`, so that it is part of no turn. The call
it undoes keeps its settlement; its outcome becomes `COMPENSATED` in the transaction that settles the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, insert, select, update

from handfast.contracts.authority import word_of
from handfast.contracts.effects import Effect, Outcome, RunStatus
from handfast.contracts.errors import DecisionRefused, LedgerConflict
from handfast.contracts.identity import compensation_id
from handfast.contracts.names import ROLL_BACK, SAVEPOINT, START
from handfast.contracts.wire import CallInput, TurnResult
from handfast.contracts.wire_undo import UndoInput, Undone, UndoPlan, UndoStep
from handfast.contracts.wire_words import UndoWord
from handfast.ledger.decisions import Judge, judge_word, require_over
from handfast.ledger.entries import NewEntry, append, entry_at, find, now_ms
from handfast.ledger.family import find_child
from handfast.ledger.listing import read_call
from handfast.ledger.operations import fence
from handfast.ledger.runs import read_run
from handfast.ledger.tables import operations, runs
from handfast.ledger.undone import ALL, ASKED_FOR, PIVOT, RUN, STANDS, STOPPED, last_compensation, undone_entry

CLASSES = {PIVOT: Effect.READ, RUN: Effect.KEYED}
"""The effect class of what is done about a call that no function undoes: looking whether it happened, or undoing its run."""


@dataclass(frozen=True, kw_only=True)
class ToUndo:
    """A call that is to be undone, as its compensation finds it."""

    operation_id: str
    outcome: Outcome
    result: Any
    """What it returned, as JSON; None where that is not known."""
    tool: str
    version: str
    lease_until: int
    child: str = ""
    """The run that has carried it out, and is undone as a whole."""
    lost: str = ""
    """Why what it returned is not known although it has happened; empty if it is."""
    let_be: bool = False
    """Nothing more is tried: a person has said so, or it is undone."""


def begin_undo(connection: Connection, run_id: str, given: UndoInput, ref: str) -> UndoPlan:
    """Write down that a run is undone, with an operation for every call that is owed one; the last call comes first.

    Of a run that is over, calls that nobody has settled are closed to late attempts before. A run whose pivot has happened is
    committed: then only what somebody asks for is undone, and nothing that was called before the pivot.

    Args:
        connection: A transaction.
        run_id: The run.
        given: Why.
        ref: Of whoever undoes it: said again by the same one, it is the same undoing.
    """
    if given.cause in set(RunStatus) and read_run(connection, run_id).status is RunStatus.COMPLETED:
        # A worker has closed it, and died before Temporal heard of that: what ended it since came too late.
        return UndoPlan()
    to, ref = given.to, given.by_call or ref
    if given.cause == ROLL_BACK:
        savepoint = find_savepoint(connection, run_id, given.by_call)
        if savepoint is None:
            return UndoPlan()
        to = savepoint
    elif not given.by_call:
        # The run is over: what goes on in the background would come too late.
        fence_all(connection, run_id, "the run is undone")
    committed = find_commit(connection, run_id)
    stands = committed and given.cause not in ASKED_FOR
    owed = () if stands else _owed(connection, run_id, to, only=given.only, lock=True)
    steps = [_step(connection, run_id, row, _standing(connection, run_id, row)) for row in owed]
    if find(connection, run_id, "undo", ref) is None:
        meta = {"cause": given.cause, "calls": len(steps), "by": given.by}
        meta |= {name: value for name, value in (("to", to), ("committed", committed), ("only", given.only)) if value}
        content = {"reason": given.reason} if given.reason else None
        append(connection, run_id, [NewEntry(kind="undo", ref=ref, meta=meta, content=content)])
    stage = (to or ALL) if steps and not given.only else ""
    connection.execute(update(runs).where(runs.c.run_id == run_id).values(undoing=stage))
    return UndoPlan(steps=tuple(steps))


def fence_all(connection: Connection, run_id: str, reason: str, *, children: bool = False) -> None:
    """Close every call that nobody has settled to late attempts: what it may have done is not known.

    A call that is a run of its own is left to be undone with it, unless the `children` are given up, too.
    """
    unsettled = select(operations.c.operation_id).where(
        operations.c.run_id == run_id, operations.c.undoes == "", operations.c.state != "settled"
    )
    if not children:
        unsettled = unsettled.where((operations.c.undo != RUN) | (operations.c.state != "pending"))
    for operation_id in connection.execute(unsettled).scalars().all():
        fence(connection, run_id, operation_id, reason)


def find_savepoint(connection: Connection, run_id: str, operation_id: str) -> str | None:
    """What a `roll_back` goes back to: the operation that set the savepoint it names, empty for the start of the run.

    The last one of that name counts. None if there is none.
    """
    asked = read_call(connection, operation_id)
    name = "" if asked is None else str(asked[1].get("to", ""))
    if name in {"", START}:
        return ""
    query = (
        select(operations.c.operation_id)
        .where(operations.c.run_id == run_id, operations.c.left_by == 0, operations.c.tool == SAVEPOINT)
        .where(operations.c.outcome == Outcome.SUCCEEDED)
        .order_by(operations.c.turn_seq.desc(), operations.c.idx.desc())
    )
    for found in connection.execute(query).scalars().all():
        call = read_call(connection, found)
        if call is not None and call[1].get("name") == name:
            return str(found)
    return None


def find_commit(connection: Connection, run_id: str) -> str:
    """The last pivot of a run that has happened, in it or in a run that it has begun: the job is done for good, and stands.

    Empty if there is none.
    """
    row = _last_commit(connection, run_id)
    return "" if row is None else str(row.operation_id)


def _last_commit(connection: Connection, run_id: str) -> Any:
    happened = (operations.c.undo == PIVOT) & (operations.c.outcome == Outcome.SUCCEEDED)
    query = (
        select(operations)
        .where(operations.c.run_id == run_id, operations.c.undoes == "", happened | (operations.c.undo == RUN))
        .order_by(operations.c.turn_seq.desc(), operations.c.idx.desc())
    )
    for row in connection.execute(query):
        child = find_child(connection, row.operation_id) if row.undo == RUN else None
        if row.undo == PIVOT or (child is not None and find_commit(connection, child.run_id)):
            return row
    return None


def list_owed(connection: Connection, run_id: str, to: str = "") -> list[tuple[str, str, int]]:
    """(operation, tool, turn) of what would be undone now, the last call first; of children what they owe."""
    found: list[tuple[str, str, int]] = []
    for row in _owed(connection, run_id, to):
        child = find_child(connection, row.operation_id) if row.undo == RUN else None
        if child is None:
            found.append((row.operation_id, row.tool, row.turn))
        else:
            found.extend(list_owed(connection, child.run_id))
    return found


def child_owes(connection: Connection, operation_id: str) -> bool:
    """Whether anything of a call that is a run of its own is to be undone: it goes on, or what it did stands and can be undone."""
    child = find_child(connection, operation_id)
    return child is not None and (child.closed_at is None or bool(_owed(connection, child.run_id, "")))


def _owed(
    connection: Connection, run_id: str, to: str, *, only: Sequence[str] = (), lock: bool = False
) -> Sequence[Any]:
    """The calls that are owed a compensation, the last one first; only those after `to`, and after a pivot that has happened."""
    own = and_(operations.c.outcome.in_(STANDS), operations.c.undoing.not_in(STOPPED))
    whole = and_(operations.c.undo == RUN, operations.c.undoing != "skipped")
    query = (
        select(operations)
        .where(operations.c.run_id == run_id, operations.c.undoes == "", operations.c.undo != "", own | whole)
        .order_by(operations.c.turn_seq.desc(), operations.c.idx.desc())
    )
    if only:
        query = query.where(operations.c.operation_id.in_(only))
    commit = _last_commit(connection, run_id)
    for row in ([_read(connection, run_id, to)] if to else []) + ([] if commit is None else [commit]):
        query = query.where(_after(row))
    found = connection.execute(query.with_for_update() if lock else query).all()
    return [row for row in found if row.undo != RUN or child_owes(connection, row.operation_id)]


def _after(row: Any) -> Any:
    later = (operations.c.turn_seq == row.turn_seq) & (operations.c.idx > row.idx)
    return (operations.c.turn_seq > row.turn_seq) | later


def _standing(connection: Connection, run_id: str, row: Any) -> str:
    """The operation that undoes a call: the last one that was made for it, unless it is done and the call stands again."""
    last = last_compensation(connection, run_id, row.operation_id)
    if not last or _read(connection, run_id, last).outcome == Outcome.SUCCEEDED:
        return _new(connection, run_id, row)
    return last


def _new(connection: Connection, run_id: str, row: Any) -> str:
    """One more operation to undo a call."""
    made = select(func.count()).where(operations.c.run_id == run_id, operations.c.undoes != "")
    tried = select(func.count()).where(operations.c.run_id == run_id, operations.c.undoes == row.operation_id)
    identity = compensation_id(row.operation_id, connection.execute(tried).scalar_one() + 1)
    same = {
        name: getattr(row, name)
        for name in ("run_id", "turn", "idx", "call_id", "tool", "version", "digest", "tier", "verdict", "turn_seq")
    }
    connection.execute(
        insert(operations).values(
            **same,
            operation_id=identity,
            effect=CLASSES.get(row.undo, row.undo),
            reason="",
            intent="",
            state="asked",
            left_by=-1 - connection.execute(made).scalar_one(),
            undoes=row.operation_id,
            asked_at=now_ms(),
        )
    )
    return identity


def _step(connection: Connection, run_id: str, row: Any, operation_id: str) -> UndoStep:
    turn = TurnResult.model_validate(entry_at(connection, run_id, row.turn_seq).meta["result"])
    head = turn.heads[int(row.idx)]
    child = find_child(connection, row.operation_id) if row.undo == RUN else None
    return UndoStep(
        call=CallInput(id=operation_id, turn=row.turn, index=row.idx, digest=row.digest),
        undoes=row.operation_id,
        tool=row.tool,
        show=head.show,
        group=row.turn_seq,
        queue=head.queue,
        timeout=head.timeout,
        conflict=head.conflict,
        pivot=row.undo == PIVOT,
        child="" if child is None else child.run_id,
    )


def read_to_undo(connection: Connection, run_id: str, operation_id: str) -> ToUndo:
    """The call that an operation of this run undoes.

    Raises:
        LedgerConflict: It undoes none.
    """
    undoes = select(operations.c.undoes).where(operations.c.operation_id == operation_id, operations.c.run_id == run_id)
    row = connection.execute(select(operations).where(operations.c.operation_id == undoes.scalar_subquery())).first()
    if row is None:
        raise LedgerConflict(f"operation {operation_id!r} of run {run_id!r} undoes no call")
    if row.undo == RUN:
        child = find_child(connection, row.operation_id)
        return ToUndo(
            operation_id=row.operation_id,
            outcome=Outcome(row.outcome or Outcome.UNKNOWN),
            result=None,
            tool=row.tool,
            version=row.version,
            lease_until=0,
            child="" if child is None else child.run_id,
        )
    settled = entry_at(connection, run_id, row.settled_seq)
    returned = settled.meta["outcome"] == Outcome.SUCCEEDED and (settled.kind == "settled" or "found" in settled.meta)
    lost = str(settled.meta.get("lost", ""))
    return ToUndo(
        operation_id=row.operation_id,
        outcome=Outcome(row.outcome),
        result=settled.content if returned and not lost else None,
        lost=lost,
        tool=row.tool,
        version=row.version,
        lease_until=row.lease_until,
        let_be=row.undoing in STOPPED,
    )


def record_found(connection: Connection, run_id: str, operation_id: str, *, happened: bool, result: Any) -> bool:
    """Write down what was found of a call in doubt when it was to be undone; False if somebody has said before what became of it."""
    row = _read(connection, run_id, operation_id, lock=True)
    if row.outcome != Outcome.UNKNOWN:
        return False
    outcome = Outcome.SUCCEEDED if happened else Outcome.FAILED
    content = result if happened else {"message": "somebody looked: this call did not happen"}
    entry = NewEntry(
        kind="resolved", ref=operation_id, meta={"outcome": outcome, "by": "", "found": True}, content=content
    )
    [anchor] = append(connection, run_id, [entry])
    _change(connection, operation_id, outcome=outcome, settled_seq=anchor[0])
    return True


def block(
    connection: Connection,
    run_id: str,
    operation_id: str,
    compensation: str,
    reason: str,
    *,
    seen: Outcome | None = None,
) -> bool:
    """Write down that a call could not be undone, and waits for a person.

    False if it was undone, if it need not be any more, or if something else stands of it than what was `seen` by whoever could not.
    """
    row = _read(connection, run_id, operation_id, lock=True)
    if row.outcome not in STANDS or row.undoing in STOPPED or seen not in {None, row.outcome}:
        return False
    if row.undoing != "blocked":
        entry = NewEntry(kind="blocked", ref=compensation, meta={"operation": operation_id}, content={"reason": reason})
        if find(connection, run_id, "blocked", compensation) is None:
            append(connection, run_id, [entry])
        _change(connection, operation_id, undoing="blocked")
    return True


def unblock(connection: Connection, run_id: str, word: UndoWord, judge: Judge | None = None) -> Undone:
    """Write down a person's word on a call that could not be undone, once. Without `judge` it comes from who may write here.

    Raises:
        DecisionRefused: The call does not wait for it, or somebody said otherwise before.
    """
    row = _read(connection, run_id, word.operation, lock=True)
    last = last_compensation(connection, run_id, word.operation)
    said = find(connection, run_id, "unblocked", last)
    if row.undoing != "blocked":
        before = said or find(connection, run_id, "unblocked", _before(connection, run_id, word.operation, last))
        if before is not None and before.meta["action"] == word.action:
            return Undone(retry=last if word.action == "retry" else "", anchor=before.anchor)
        raise DecisionRefused(f"operation {word.operation!r} is not blocked: {row.undoing or row.outcome}")
    by = word.by if judge is None else judge_word(connection, row, word_of(word), judge).by
    if last:
        require_over(connection, _read(connection, run_id, last))
    entries = [
        NewEntry(
            kind="unblocked",
            ref=last,
            meta={"action": word.action, "by": by, "operation": word.operation},
            content={"reason": word.reason} if word.reason else None,
        )
    ]
    retry = ""
    if word.action == "retry":
        retry = _new(connection, run_id, row)
        _change(connection, word.operation, undoing="")
    elif word.action == "skip":
        _change(connection, word.operation, undoing="skipped")
    else:
        _change(connection, word.operation, outcome=Outcome.COMPENSATED, undoing="done")
        entries.append(undone_entry(word.operation, last, Outcome.COMPENSATED, by=by))
    anchors = append(connection, run_id, entries)
    return Undone(retry=retry, anchor=anchors[0])


def _before(connection: Connection, run_id: str, operation_id: str, last: str) -> str:
    """The operation before the last one that was to undo a call."""
    query = (
        select(operations.c.operation_id)
        .where(operations.c.run_id == run_id, operations.c.undoes == operation_id, operations.c.operation_id != last)
        .order_by(operations.c.left_by)
        .limit(1)
    )
    return str(connection.execute(query).scalar_one_or_none() or "")


def _read(connection: Connection, run_id: str, operation_id: str, *, lock: bool = False) -> Any:
    query = select(operations).where(operations.c.operation_id == operation_id, operations.c.run_id == run_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise DecisionRefused(f"run {run_id!r} has no operation {operation_id!r}; `handfast show {run_id}` lists them")
    return row


def _change(connection: Connection, operation_id: str, **values: Any) -> None:
    connection.execute(update(operations).where(operations.c.operation_id == operation_id).values(**values))
