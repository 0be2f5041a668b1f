"""The moment in which a call is undone, when the operation that undoes it is settled; and a word that comes after it."""

from sqlalchemy import Connection, select, update

from handfast.contracts.effects import Outcome
from handfast.contracts.names import RACE, ROLL_BACK
from handfast.ledger.entries import NewEntry, append
from handfast.ledger.tables import operations

STANDS = (Outcome.SUCCEEDED, Outcome.UNKNOWN)
"""Outcomes of calls that have had an effect, or may have."""
STOPPED = ("skipped", "done")
"""Where undoing a call stands once nothing more is tried."""
PIVOT = "pivot"
"""Of `operations.undo`: nothing undoes the call, and once it has happened nothing before it is undone either."""
RUN = "run"
"""Of `operations.undo`: the call is a run of its own, and whatever of that is owed is owed for the call."""
ASKED_FOR = ("rollback", ROLL_BACK, RACE)
"""Causes for which just this is to be undone: also what was done after a pivot. All others leave a job that is committed."""
ALL = "*"
"""Of `runs.undoing`: everything that is owed is being undone. Else the operation after which it is; empty if nothing is."""


def compensated(connection: Connection, operation_id: str, compensation: str) -> NewEntry | None:
    """Note that a call was undone, whose row is locked by this; the entry to append, None if there is nothing to undo any more."""
    query = select(operations.c.outcome).where(operations.c.operation_id == operation_id)
    if connection.execute(query.with_for_update()).scalar_one() not in STANDS:
        return None
    _change(connection, operation_id, Outcome.COMPENSATED, "done")
    return undone_entry(operation_id, compensation, Outcome.COMPENSATED)


def stands_again(connection: Connection, run_id: str, operation_id: str) -> None:
    """An attempt that was given up reports that it happened, after the call was undone: nobody knows which came first.

    The call is in doubt again, and owed.
    """
    last = last_compensation(connection, run_id, operation_id)
    append(connection, run_id, [undone_entry(operation_id, last, Outcome.UNKNOWN)])
    _change(connection, operation_id, Outcome.UNKNOWN, "")


def last_compensation(connection: Connection, run_id: str, operation_id: str) -> str:
    """The operation that was made last to undo a call; empty if there is none."""
    query = (
        select(operations.c.operation_id)
        .where(operations.c.run_id == run_id, operations.c.undoes == operation_id)
        .order_by(operations.c.left_by)
        .limit(1)
    )
    return str(connection.execute(query).scalar_one_or_none() or "")


def undone_entry(operation_id: str, compensation: str, outcome: Outcome, *, by: str = "") -> NewEntry:
    """What the chain says of a call that was undone, or stands again: UNKNOWN."""
    late = "#late" if outcome is Outcome.UNKNOWN else ""
    meta = {"outcome": outcome, "operation": operation_id, "by": by}
    return NewEntry(kind="undone", ref=f"{operation_id}#{compensation[:8]}{late}", meta=meta)


def _change(connection: Connection, operation_id: str, outcome: Outcome, undoing: str) -> None:
    where = operations.c.operation_id == operation_id
    connection.execute(update(operations).where(where).values(outcome=outcome, undoing=undoing))
