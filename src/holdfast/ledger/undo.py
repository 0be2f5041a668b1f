"""Undoing in the ledger: which calls are owed a compensation, what became of each, and what people said of those stuck.

What undoes a call is an operation of its own, with `undoes` set and a negative `left_by`, so that it is part of no turn. The call
it undoes keeps its settlement; its outcome becomes `COMPENSATED` in the transaction that settles the other.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from holdfast.contracts.effects import Effect, Outcome
from holdfast.contracts.errors import DecisionRefused, LedgerConflict
from holdfast.contracts.identity import compensation_id
from holdfast.contracts.results import Undo
from holdfast.contracts.wire import CallInput, TurnResult, UndoInput, Undone, UndoPlan, UndoStep, UndoWord
from holdfast.ledger.entries import Entry, NewEntry, append, entry_at, find, now_ms, read_entries
from holdfast.ledger.operations import fence
from holdfast.ledger.tables import operations
from holdfast.ledger.undone import STANDS, last_compensation, undone_entry

STOPPED = ("skipped", "done")
"""Where undoing stands once nothing more is tried."""


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


def begin_undo(connection: Connection, run_id: str, given: UndoInput, ref: str) -> UndoPlan:
    """Write down that a run is undone, with an operation for every call that is owed one; the last call comes first.

    Calls that nobody has settled are closed to late attempts before: what they may have done is not known.

    Args:
        connection: A transaction.
        run_id: The run.
        given: Why.
        ref: Of whoever undoes it: said again by the same one, it is the same undoing.
    """
    unsettled = select(operations.c.operation_id).where(
        operations.c.run_id == run_id, operations.c.undoes == "", operations.c.state != "settled"
    )
    for operation_id in connection.execute(unsettled).scalars().all():
        fence(connection, run_id, operation_id, "the run is undone")
    owed = connection.execute(_owed(connection, run_id, given.to).with_for_update()).all()
    steps = [_step(connection, run_id, row, _standing(connection, run_id, row)) for row in owed]
    if find(connection, run_id, "undo", ref) is None:
        meta = {"cause": given.cause, "calls": len(steps), "by": given.by}
        content = {"reason": given.reason} if given.reason else None
        append(connection, run_id, [NewEntry(kind="undo", ref=ref, meta=meta, content=content)])
    return UndoPlan(steps=tuple(steps))


def list_owed(connection: Connection, run_id: str, to: str = "") -> list[tuple[str, str, int]]:
    """(operation, tool, turn) of what would be undone now, the last call first."""
    return [(row.operation_id, row.tool, row.turn) for row in connection.execute(_owed(connection, run_id, to))]


def _owed(connection: Connection, run_id: str, to: str) -> Select[Any]:
    """The calls that are owed a compensation, the last one first; only those after the call `to`, if there is one."""
    query = (
        select(operations)
        .where(operations.c.run_id == run_id, operations.c.undoes == "", operations.c.undo != "")
        .where(operations.c.outcome.in_(STANDS), operations.c.undoing.not_in(STOPPED))
        .order_by(operations.c.turn_seq.desc(), operations.c.idx.desc())
    )
    if not to:
        return query
    row = _read(connection, run_id, to)
    later = (operations.c.turn_seq == row.turn_seq) & (operations.c.idx > row.idx)
    return query.where((operations.c.turn_seq > row.turn_seq) | later)


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
            effect=row.undo,
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
    return UndoStep(
        call=CallInput(id=operation_id, turn=row.turn, index=row.idx, digest=row.digest),
        undoes=row.operation_id,
        tool=row.tool,
        show=head.show,
        group=row.turn_seq,
        queue=head.queue,
        timeout=head.timeout,
        conflict=head.conflict,
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
    settled = entry_at(connection, run_id, row.settled_seq)
    returned = settled.meta["outcome"] == Outcome.SUCCEEDED and (settled.kind == "settled" or "found" in settled.meta)
    return ToUndo(
        operation_id=row.operation_id,
        outcome=Outcome(row.outcome),
        result=settled.content if returned else None,
        tool=row.tool,
        version=row.version,
        lease_until=row.lease_until,
    )


def record_found(connection: Connection, run_id: str, operation_id: str, *, happened: bool, result: Any) -> None:
    """Write down what was found of a call in doubt when it was to be undone."""
    row = _read(connection, run_id, operation_id, lock=True)
    if row.outcome != Outcome.UNKNOWN:
        return
    outcome = Outcome.SUCCEEDED if happened else Outcome.FAILED
    content = result if happened else {"message": "somebody looked: this call did not happen"}
    entry = NewEntry(
        kind="resolved", ref=operation_id, meta={"outcome": outcome, "by": "", "found": True}, content=content
    )
    [anchor] = append(connection, run_id, [entry])
    _change(connection, operation_id, outcome=outcome, settled_seq=anchor[0])


def block(connection: Connection, run_id: str, operation_id: str, compensation: str, reason: str) -> None:
    """Write down that a call could not be undone, and waits for a person."""
    row = _read(connection, run_id, operation_id, lock=True)
    if row.outcome in STANDS and row.undoing not in {"blocked", *STOPPED}:
        entry = NewEntry(kind="blocked", ref=compensation, meta={"operation": operation_id}, content={"reason": reason})
        if find(connection, run_id, "blocked", compensation) is None:
            append(connection, run_id, [entry])
        _change(connection, operation_id, undoing="blocked")


def unblock(connection: Connection, run_id: str, word: UndoWord) -> Undone:
    """Write down a person's word on a call that could not be undone, once.

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
    entries = [
        NewEntry(
            kind="unblocked",
            ref=last,
            meta={"action": word.action, "by": word.by, "operation": word.operation},
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
        entries.append(undone_entry(word.operation, last, Outcome.COMPENSATED, by=word.by))
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


def list_undo(connection: Connection, run_id: str) -> list[Undo]:
    """What became of undoing a run, in the order in which that was tried; empty if nobody wanted it undone."""
    begun = read_entries(connection, run_id, kind="undo")
    if not begun:
        return []
    effects = connection.execute(
        select(operations)
        .where(operations.c.run_id == run_id, operations.c.undoes == "", operations.c.effect.not_in([Effect.READ, ""]))
        .where(operations.c.outcome.in_([*STANDS, Outcome.COMPENSATED]) | (operations.c.undoing == "blocked"))
        .order_by(operations.c.turn_seq.desc(), operations.c.idx.desc())
    ).all()
    blocked = {entry.meta["operation"]: entry for entry in read_entries(connection, run_id, kind="blocked")}
    words = {entry.meta["operation"]: entry for entry in read_entries(connection, run_id, kind="unblocked")}
    tries = select(operations.c.undoes, func.sum(operations.c.attempts)).where(operations.c.run_id == run_id)
    tried = {row[0]: int(row[1]) for row in connection.execute(tries.group_by(operations.c.undoes))}
    return [
        Undo(
            operation=row.operation_id,
            tool=row.tool,
            turn=row.turn,
            undone=row.outcome == Outcome.COMPENSATED,
            reason=_reason(row, blocked.get(row.operation_id), words.get(row.operation_id)),
            blocked=row.undoing == "blocked",
            attempts=tried.get(row.operation_id, 0),
        )
        for row in effects
    ]


def _reason(row: Any, blocked: Entry | None, word: Entry | None) -> str:
    if word is not None and word.meta["action"] != "retry":
        by = word.meta["by"] or "somebody"
        said = "" if word.content is None else f": {word.content['reason']}"
        return f"left as it is by {by}{said}" if row.undoing == "skipped" else f"by hand, says {by}{said}"
    if row.outcome == Outcome.COMPENSATED:
        return ""
    if not row.undo:
        return "nothing undoes such a call: its contract names no compensate="
    if blocked is not None:
        return "" if blocked.content is None else str(blocked.content["reason"])
    return "not tried yet"


def _read(connection: Connection, run_id: str, operation_id: str, *, lock: bool = False) -> Any:
    query = select(operations).where(operations.c.operation_id == operation_id, operations.c.run_id == run_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise DecisionRefused(f"run {run_id!r} has no operation {operation_id!r}; `holdfast show {run_id}` lists them")
    return row


def _change(connection: Connection, operation_id: str, **values: Any) -> None:
    connection.execute(update(operations).where(operations.c.operation_id == operation_id).values(**values))
