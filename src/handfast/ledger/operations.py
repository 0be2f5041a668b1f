"""The effect protocol in the ledger: reserve, settle, release, fence."""

from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, select, update

from handfast.contracts.effects import Effect, Outcome
from handfast.contracts.errors import ErrorCode, LedgerConflict
from handfast.contracts.wire import CallInput, CallResult
from handfast.ledger.cached import forget
from handfast.ledger.entries import NewEntry, anchor_at, append, find, now_ms
from handfast.ledger.family import family_of, find_child
from handfast.ledger.late import OUTSIDE, Settlement, is_news, keep_evidence
from handfast.ledger.looked import NotAskedFor
from handfast.ledger.statement import Statement
from handfast.ledger.tables import operations, runs
from handfast.ledger.throttle import Throttle, take
from handfast.ledger.undone import compensated


class DuplicateSuspected(LedgerConflict):
    """Another call of the family means the same, and has acted or is about to."""


class OperationMoved(LedgerConflict):
    """Another attempt has changed the operation since this one looked: look again before you act."""


LOCKED = Statement(
    select(
        operations.c.state, operations.c.outcome, operations.c.owner, operations.c.attempts, operations.c.settled_seq,
        operations.c.tool, operations.c.effect, operations.c.undoes,
    )
    .where(operations.c.operation_id == bindparam("id"))
    .with_for_update()
)  # fmt: skip
RESERVE = Statement(
    update(operations)
    .where(operations.c.operation_id == bindparam("id"))
    .values(state="reserved", attempts=bindparam("attempt"), owner=bindparam("by"), lease_until=bindparam("until"))
)
SETTLE = Statement(
    update(operations)
    .where(operations.c.operation_id == bindparam("id"))
    .values(
        state="settled", outcome=bindparam("became"), owner=bindparam("by"), settled_seq=bindparam("seq"),
        settled_at=bindparam("at"),
    )
)  # fmt: skip


def reserve(
    connection: Connection,
    run_id: str,
    call: CallInput,
    owner: str,
    lease_ms: int,
    tool_version: str,
    *,
    seen: int,
    throttle: Throttle | None = None,
    alone: bool = False,
) -> int:
    """Write down that an attempt is about to act, before it acts; its number, from 1.

    It may act only on what it looked at: of two attempts that looked at the same time one is refused.

    Args:
        connection: A transaction.
        run_id: The run.
        call: The operation.
        owner: A random id of this attempt; with the same one it is the same reservation.
        lease_ms: For how long it may act.
        tool_version: Of the contract that serves it.
        seen: How many reservations there were when this attempt looked.
        throttle: What holds the tool's calls back, if anything does.
        alone: Nobody has agreed to the call, and no other one of its family may mean the same.

    Raises:
        Throttled: It must wait. Nothing was written.
        DuplicateSuspected: Another call means the same. Nothing was written.
        OperationMoved: It may not act: settled, waiting, or reserved by another attempt since.
    """
    row = LOCKED.one(connection, {"id": call.id})
    if row.owner == owner:
        return int(row.attempts)
    if row.attempts != seen or row.state in {"settled", "waiting", "pending"}:
        raise OperationMoved(f"operation {call.id!r} is {row.state} after {row.attempts} attempts, not {seen}")
    if throttle is not None:
        take(connection, throttle, call.id)
    if alone:
        _require_alone(connection, run_id, call.id)
    attempt = int(row.attempts) + 1
    lease_until = now_ms() + lease_ms
    RESERVE.run(connection, {"id": call.id, "attempt": attempt, "by": owner, "until": lease_until})
    append(connection, run_id, [reserved_entry(call.id, attempt, lease_until, tool_version)])
    return attempt


def _require_alone(connection: Connection, run_id: str, operation_id: str) -> None:
    """Refuse what means the same as a call of the family that has acted, may have, or is about to.

    The gate has looked when the turn was settled; two agents that are asked at once may have passed it in the same moment.
    """
    family = family_of(connection, run_id)
    # One after the other: whoever comes second sees what the first has reserved.
    connection.execute(select(runs.c.run_id).where(runs.c.run_id == family[0]).with_for_update())
    own = select(operations.c.intent).where(operations.c.operation_id == operation_id).scalar_subquery()
    begun = operations.c.state.in_(["reserved", "pending"])
    acted = operations.c.outcome.in_([Outcome.SUCCEEDED, Outcome.UNKNOWN])
    query = (
        select(operations.c.operation_id)
        .where(operations.c.run_id.in_(family), operations.c.intent == own, operations.c.intent != "", begun | acted)
        .where(operations.c.operation_id != operation_id)
        .limit(1)
    )
    other = connection.execute(query).scalar_one_or_none()
    if other is not None:
        raise DuplicateSuspected(f"operation {operation_id!r} means the same as {other!r}")


def reserved_entry(operation_id: str, attempt: int, lease_until: int, tool_version: str) -> NewEntry:
    """What the chain says of a reservation."""
    meta = {"attempt": attempt, "lease_until": lease_until, "version": tool_version}
    return NewEntry(kind="reserved", ref=f"{operation_id}#{attempt}", meta=meta)


class Settled(NamedTuple):
    """What stands after a settlement."""

    result: CallResult
    mine: bool
    """It is what this attempt found out, not what another one settled before."""


def settle(connection: Connection, run_id: str, operation_id: str, owner: str, new: Settlement) -> Settled:
    """Write down what became of an operation; outcome, result and chain entry in one transaction.

    The first settlement stands. What comes late, from an attempt that was given up, is kept as evidence if it speaks
    against the settlement, or if the effect may have happened twice.

    Raises:
        LedgerConflict: A newer attempt is under way, and this one has no success to report.
    """
    row = LOCKED.one(connection, {"id": operation_id})
    if row.state == "settled":
        recorded = CallResult(outcome=Outcome(row.outcome), anchor=anchor_at(connection, run_id, row.settled_seq))
        if is_news(connection, run_id, row, owner, new):
            keep_evidence(connection, run_id, operation_id, row, owner, new)
        return Settled(recorded, mine=False)
    if row.owner != owner and new.outcome is not Outcome.SUCCEEDED and owner != OUTSIDE:
        raise LedgerConflict(f"operation {operation_id!r} has a newer attempt, which decides what became of it")
    for name in new.invalidates if new.outcome in {Outcome.SUCCEEDED, Outcome.UNKNOWN} else ():
        forget(connection, name)
    undone = (
        compensated(connection, row.undoes, operation_id) if row.undoes and new.outcome is Outcome.SUCCEEDED else None
    )
    anchor, *_ = append(connection, run_id, [settled_entry(operation_id, row.tool, new), *([undone] if undone else ())])
    SETTLE.run(connection, {"id": operation_id, "became": new.outcome, "by": owner, "seq": anchor[0], "at": now_ms()})
    return Settled(CallResult(outcome=new.outcome, anchor=anchor), mine=True)


def settled_entry(operation_id: str, tool: str, new: Settlement) -> NewEntry:
    """What the chain says of a settlement."""
    meta = {"outcome": new.outcome, "tool": tool, **new.meta}
    return NewEntry(kind="settled", ref=operation_id, meta=meta, content=new.content)


def settle_with_effect(
    connection: Connection, run_id: str, operation_id: str, owner: str, new: Settlement
) -> CallResult:
    """Settle at the end of a transaction that holds the effect itself, only if this attempt still has the operation.

    Raises:
        OperationMoved: Another attempt has taken it over. The transaction must be rolled back, and the effect with it.
    """
    row = LOCKED.one(connection, {"id": operation_id})
    if row.state != "reserved" or row.owner != owner:
        raise OperationMoved(f"operation {operation_id!r} was taken over: this attempt's writes are rolled back")
    return settle(connection, run_id, operation_id, owner, new).result


def release(
    connection: Connection,
    run_id: str,
    operation_id: str,
    owner: str,
    code: str,
    *,
    attempt: int,
    surely_not: bool,
    acted: bool,
) -> None:
    """Write down that an attempt failed and another one follows.

    `surely_not` says that it had no effect. If another one has taken over already, and this one may have `acted`, that is kept
    as evidence.
    """
    where = operations.c.operation_id == operation_id
    row = LOCKED.one(connection, {"id": operation_id})
    if row.state != "reserved" or row.owner != owner:
        late = Settlement(outcome=Outcome.UNKNOWN, content={"code": code}, meta={"attempt": attempt}, acted=acted)
        if is_news(connection, run_id, row, owner, late):
            keep_evidence(connection, run_id, operation_id, row, owner, late)
        return
    ref = f"{operation_id}#{row.attempts}"
    if find(connection, run_id, "released", ref) is not None:
        return
    values: dict[str, Any] = {"lease_until": now_ms()}
    if surely_not:
        values["state"] = "asked"
    connection.execute(update(operations).where(where).values(**values))
    meta = {"attempt": row.attempts, "code": code, "surely_not": surely_not}
    append(connection, run_id, [NewEntry(kind="released", ref=ref, meta=meta)])


def record_checkpoint(
    connection: Connection, run_id: str, operation_id: str, owner: str, number: int, value: Any, *, sent: int
) -> None:
    """Keep a value for the next attempt of an operation, and how many unsafe requests were sent before.

    Raises:
        LedgerConflict: Another attempt has taken the operation over: what it does must not go on from here.
    """
    ref = f"{operation_id}#{owner[:8]}#{number}"
    if find(connection, run_id, "checkpoint", ref) is not None:
        return
    row = LOCKED.one(connection, {"id": operation_id})
    # Who looks at pending work is none of its attempts, and the only one there is.
    taken_over = row.state != "pending" and row.attempts and row.owner != owner
    if row.state == "settled" or taken_over:
        raise LedgerConflict(f"operation {operation_id!r} was taken over: this attempt's checkpoint is not kept")
    meta = {"sent": sent} if sent else {}
    [anchor] = append(connection, run_id, [NewEntry(kind="checkpoint", ref=ref, meta=meta, content=value)])
    connection.execute(
        update(operations).where(operations.c.operation_id == operation_id).values(checkpoint_seq=anchor[0])
    )


def fence(
    connection: Connection,
    run_id: str,
    operation_id: str,
    reason: str,
    *,
    error: dict[str, Any] | None = None,
    absent: int | None = None,
) -> CallResult:
    """Close an operation to late attempts and say what became of it: the ledger knows, Temporal does not.

    Args:
        connection: A transaction.
        run_id: The run.
        operation_id: The operation.
        reason: Why nothing more is tried.
        error: What the model is told if it surely did not happen; the reason, unless said.
        absent: How many attempts surely had no effect although the last one left no word: somebody has looked.
    """
    row = connection.execute(
        select(operations)
        .where(operations.c.operation_id == operation_id, operations.c.run_id == run_id)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise NotAskedFor(f"no settled turn of run {run_id!r} asked for operation {operation_id!r}")
    background = row.receipt_seq is not None
    if row.state == "settled":
        anchor = anchor_at(connection, run_id, row.settled_seq)
        return CallResult(outcome=Outcome(row.outcome), anchor=anchor, background=background)
    child = find_child(connection, operation_id) if row.state == "pending" else None
    begun = row.state in {"reserved", "pending"} and child is None
    doubtful = begun and not Effect(row.effect).harmless and row.attempts != absent
    outcome = Outcome.UNKNOWN if doubtful else Outcome.FAILED
    code = ErrorCode.OUTCOME_UNKNOWN if doubtful else ErrorCode.NOT_EXECUTED
    told = "it may or may not have happened" if doubtful else "it did not happen"
    if child is not None:
        told = f"run {child.run_id} says what it has done"
    content = {"code": code, "message": f"{reason or 'the call was stopped'}: {told}", "operation": operation_id}
    if error is not None and not doubtful:
        content = error
    new = Settlement(outcome=outcome, content=content, meta={"fenced": True})
    result = settle(connection, run_id, operation_id, row.owner, new).result
    return result.model_copy(update={"background": background})
