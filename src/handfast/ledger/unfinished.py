"""Runs whose workflow has ended without them: what a sweep asks the ledger before it acts."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select

from handfast.contracts.wire import CloseInput
from handfast.ledger.runs import close_run
from handfast.ledger.tables import operations, runs
from handfast.ledger.undo import fence_all, list_owed
from handfast.ledger.undone import ALL, STANDS, STOPPED


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """A run that was not closed, or whose undoing has not come to its end."""

    run_id: str
    agent: str
    undoing: bool
    """Somebody has begun to undo it."""
    to: str
    """Only the calls after this operation are then undone; all of them if empty."""
    owes: bool
    """It has had effects that can be undone, or may have."""


def read_unfinished(connection: Connection, run_ids: Sequence[str]) -> list[Unfinished]:
    """Those of these runs that are not over, as far as the ledger knows."""
    query = select(runs.c.run_id, runs.c.agent, runs.c.undoing).where(runs.c.run_id.in_(run_ids))
    found = connection.execute(query.where(runs.c.closed_at.is_(None) | (runs.c.undoing != ""))).all()
    unsettled = operations.c.state != "settled"
    stands = operations.c.outcome.in_(STANDS) & operations.c.undoing.not_in(STOPPED)
    owing = (
        select(operations.c.run_id)
        .where(operations.c.run_id.in_([row.run_id for row in found]))
        .where(operations.c.undoes == "", operations.c.undo != "", or_(unsettled, stands))
        .distinct()
    )
    owes: set[str] = set(connection.execute(owing).scalars()) if found else set()
    owes |= {row.run_id for row in found if row.run_id not in owes and list_owed(connection, row.run_id)}
    return [
        Unfinished(
            run_id=row.run_id,
            agent=row.agent,
            undoing=bool(row.undoing),
            to="" if row.undoing == ALL else row.undoing,
            owes=row.run_id in owes,
        )
        for row in found
    ]


def abandon(connection: Connection, run_id: str, close: CloseInput) -> None:
    """Close a run whose workflow can't do it any more, and its calls to late attempts."""
    fence_all(connection, run_id, close.reason, children=True)
    close_run(connection, run_id, close)
