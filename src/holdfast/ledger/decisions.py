"""A person's word on an operation: approval, rejection, and what became of a call whose outcome is UNKNOWN."""

from typing import Any

from sqlalchemy import Connection, select, update

from holdfast.contracts.effects import Outcome
from holdfast.contracts.errors import DecisionRefused, ErrorCode
from holdfast.contracts.wire import CallResult, Decision, Resolution
from holdfast.ledger.entries import NewEntry, append, find
from holdfast.ledger.late import Settlement
from holdfast.ledger.operations import settle
from holdfast.ledger.tables import operations


def hold(connection: Connection, run_id: str, operation_id: str, reason: str = "") -> None:
    """Make an operation wait for a person that was free to run when its turn was settled, and is not any more."""
    row = _row_of(connection, run_id, operation_id)
    if row.state != "asked" or row.attempts or find(connection, run_id, "held", operation_id) is not None:
        return
    values = {"state": "waiting", **({"reason": reason} if reason else {})}
    connection.execute(update(operations).where(operations.c.operation_id == operation_id).values(**values))
    append(connection, run_id, [NewEntry(kind="held", ref=operation_id, meta={"tool": row.tool})])


def record_decision(connection: Connection, run_id: str, decision: Decision) -> CallResult:
    """Write down an approval or a rejection, once.

    Raises:
        DecisionRefused: No such call waits, or it waits with other arguments, or it was decided otherwise.
    """
    row = _row_of(connection, run_id, decision.operation)
    if row.digest != decision.digest:
        raise DecisionRefused(f"operation {decision.operation!r} has digest {row.digest}, not {decision.digest!r}")
    found = find(connection, run_id, "decided", decision.operation)
    if found is None and row.state != "waiting":
        raise DecisionRefused(f"operation {decision.operation!r} does not wait for a decision: it is {row.state}")
    if found is not None and found.meta["approve"] != decision.approve:
        raise DecisionRefused(
            f"operation {decision.operation!r} was already decided by {found.meta['by'] or 'somebody'!r}"
        )
    if found is None:
        meta = {"approve": decision.approve, "by": decision.by, "digest": decision.digest}
        content = {"reason": decision.reason} if decision.reason else None
        append(connection, run_id, [NewEntry(kind="decided", ref=decision.operation, meta=meta, content=content)])
        connection.execute(
            update(operations)
            .where(operations.c.operation_id == decision.operation)
            .values(state="asked", approved=int(decision.approve))
        )
    if decision.approve:
        return CallResult()
    content = {
        "code": ErrorCode.DENIED,
        "message": f"a person rejected this call{f': {decision.reason}' if decision.reason else ''}",
        "hint": "do not ask for it again; go on without it, or tell the user",
        "operation": decision.operation,
    }
    new = Settlement(outcome=Outcome.DENIED, content=content, meta={})
    return settle(connection, run_id, decision.operation, "", new).result


def record_resolution(connection: Connection, run_id: str, resolution: Resolution) -> CallResult:
    """Write down a person's word on an operation whose outcome is UNKNOWN, once.

    Raises:
        DecisionRefused: Its outcome is not UNKNOWN, or it was resolved otherwise.
    """
    row = _row_of(connection, run_id, resolution.operation)
    outcome = Outcome.SUCCEEDED if resolution.happened else Outcome.FAILED
    found = find(connection, run_id, "resolved", resolution.operation)
    if found is not None and found.meta["outcome"] == outcome:
        return CallResult(outcome=outcome, anchor=found.anchor)
    if found is not None or row.outcome != Outcome.UNKNOWN:
        state = (
            f"it was resolved as {found.meta['outcome']}"
            if found
            else f"its outcome is {row.outcome or 'not known yet'}"
        )
        raise DecisionRefused(f"operation {resolution.operation!r} has nothing to resolve: {state}")
    said = "happened" if resolution.happened else "did not happen"
    content: dict[str, Any] = {"message": f"a person looked: this call {said}", "note": resolution.note}
    if not resolution.happened:
        content |= {"code": ErrorCode.NOT_EXECUTED, "operation": resolution.operation}
    meta = {"outcome": outcome, "by": resolution.by}
    [anchor] = append(
        connection, run_id, [NewEntry(kind="resolved", ref=resolution.operation, meta=meta, content=content)]
    )
    connection.execute(
        update(operations)
        .where(operations.c.operation_id == resolution.operation)
        .values(outcome=outcome, settled_seq=anchor[0])
    )
    return CallResult(outcome=outcome, anchor=anchor)


def _row_of(connection: Connection, run_id: str, operation_id: str) -> Any:
    where = (operations.c.operation_id == operation_id, operations.c.run_id == run_id)
    row = connection.execute(select(operations).where(*where).with_for_update()).one_or_none()
    if row is None:
        raise DecisionRefused(f"run {run_id!r} has no operation {operation_id!r}; `holdfast show {run_id}` lists them")
    return row
