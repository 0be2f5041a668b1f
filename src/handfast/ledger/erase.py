"""Erasing a run's contents for data-protection requests, with those of the runs it has begun. The chains stay and still verify."""

from sqlalchemy import Connection, func, select, update

from handfast.contracts.errors import LedgerConflict
from handfast.ledger.entries import NewEntry, append
from handfast.ledger.family import list_children
from handfast.ledger.runs import read_run
from handfast.ledger.tables import entries, runs


def erase_run(connection: Connection, run_id: str) -> int:
    """Delete the contents and salts of a closed run's entries and of its children's; how many there were.

    Raises:
        LedgerConflict: One of the runs is not closed, so it still needs them.
    """
    run = read_run(connection, run_id)
    if not run.status.closed:
        raise LedgerConflict(f"run {run_id!r} is {run.status}: cancel it or let it end, then erase it")
    below = sum(erase_run(connection, str(child.run_id)) for child in list_children(connection, run_id))
    holds = (entries.c.run_id == run_id, entries.c.body.is_not(None))
    count = int(connection.execute(select(func.count()).select_from(entries).where(*holds)).scalar_one())
    if count:
        connection.execute(update(entries).where(*holds).values(body=None, salt=None))
        connection.execute(update(runs).where(runs.c.run_id == run_id).values(called_from=""))
        append(connection, run_id, [NewEntry(kind="erased", ref=str(run.head_seq), meta={"entries": count})])
    return count + below
