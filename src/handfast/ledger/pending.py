"""Operations whose work goes on elsewhere."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from handfast.contracts.effects import Outcome
from handfast.contracts.errors import LedgerConflict
from handfast.contracts.wire import CallResult
from handfast.ledger.entries import NewEntry, anchor_at, append, find, now_ms
from handfast.ledger.operations import LOCKED
from handfast.ledger.tables import operations, runs


def receipt(operation_id: str, reference: str) -> dict[str, Any]:
    """What the model gets for work that goes on in the background."""
    return {
        "job": operation_id,
        "reference": reference,
        "status": "under way",
        "hint": "its result comes as a message once it has ended: go on with what does not need it, or end your turn",
    }


def pend(
    connection: Connection,
    run_id: str,
    operation_id: str,
    owner: str,
    reference: str,
    deadline_ms: int,
    *,
    background: bool = False,
) -> CallResult | None:
    """Write down that an attempt has begun work that goes on elsewhere; what stands if a callback was faster.

    In the `background` the model gets a receipt for it, whatever becomes of it later.

    Raises:
        LedgerConflict: Another attempt has taken the operation over.
    """
    row = LOCKED.one(connection, {"id": operation_id})
    if row.state == "settled":
        return CallResult(outcome=Outcome(row.outcome), anchor=anchor_at(connection, run_id, row.settled_seq))
    if find(connection, run_id, "pending", operation_id) is not None:
        return None
    if row.owner != owner:
        raise LedgerConflict(f"operation {operation_id!r} has a newer attempt, which decides what became of it")
    until = now_ms() + deadline_ms
    meta = {"tool": row.tool, "deadline": until}
    [anchor] = append(
        connection,
        run_id,
        [NewEntry(kind="pending", ref=operation_id, meta=meta, content={"reference": reference})],
    )
    where = operations.c.operation_id == operation_id
    given = anchor[0] if background else None
    connection.execute(update(operations).where(where).values(state="pending", lease_until=until, receipt_seq=given))
    return None


@dataclass(frozen=True, kw_only=True)
class Begun:
    """An operation that somebody outside has a word on."""

    run_id: str
    tool: str
    version: str
    state: str
    tenant: str


def find_operation(connection: Connection, operation_id: str) -> Begun | None:
    """The operation of that id, in whatever run, if an attempt of it was ever begun."""
    columns = (
        operations.c.run_id, operations.c.tool, operations.c.version, operations.c.state, operations.c.attempts, runs.c.tenant,
    )  # fmt: skip
    query = select(*columns).join(runs, runs.c.run_id == operations.c.run_id)
    row = connection.execute(query.where(operations.c.operation_id == operation_id)).one_or_none()
    if row is None or (row.state in {"asked", "waiting"} and not row.attempts):
        return None
    return Begun(run_id=row.run_id, tool=row.tool, version=row.version, state=row.state, tenant=row.tenant)
