"""The moment in which a call is undone, when the operation that undoes it is settled; and a word that comes after it."""

from sqlalchemy import Connection, select, update

from holdfast.contracts.effects import Outcome
from holdfast.ledger.entries import NewEntry, append
from holdfast.ledger.tables import operations

STANDS = (Outcome.SUCCEEDED, Outcome.UNKNOWN)
"""Outcomes of calls that have had an effect, or may have."""


def compensated(connection: Connection, operation_id: str) -> NewEntry | None:
    """Note that a call was undone, whose row is locked by this; the entry to append, None if there is nothing to undo any more."""
    row = connection.execute(
        select(operations.c.outcome).where(operations.c.operation_id == operation_id).with_for_update()
    ).one()
    if row.outcome not in STANDS:
        return None
    values = {"outcome": Outcome.COMPENSATED, "undoing": "done"}
    connection.execute(update(operations).where(operations.c.operation_id == operation_id).values(**values))
    return NewEntry(kind="undone", ref=operation_id, meta={"outcome": Outcome.COMPENSATED})


def stands_again(connection: Connection, run_id: str, operation_id: str) -> None:
    """An attempt that was given up reports that it happened, after the call was undone: nobody knows which came first.

    The call is in doubt again, and owed.
    """
    meta = {"outcome": Outcome.UNKNOWN, "late": True}
    append(connection, run_id, [NewEntry(kind="undone", ref=operation_id, meta=meta)])
    values = {"outcome": Outcome.UNKNOWN, "undoing": ""}
    connection.execute(update(operations).where(operations.c.operation_id == operation_id).values(**values))
