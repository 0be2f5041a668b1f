"""Erasing a run's contents for data-protection requests. The chain stays and still verifies."""

from sqlalchemy import Connection, func, select, update

from holdfast.contracts.errors import LedgerConflict
from holdfast.ledger.entries import NewEntry, append
from holdfast.ledger.runs import read_run
from holdfast.ledger.tables import entries


def erase_run(connection: Connection, run_id: str) -> int:
    """Delete the contents and salts of a closed run's entries; how many there were.

    Raises:
        LedgerConflict: The run is not closed, so it still needs them.
    """
    run = read_run(connection, run_id)
    if not run.status.closed:
        raise LedgerConflict(f"run {run_id!r} is {run.status}: cancel it or let it end, then erase it")
    holds = (entries.c.run_id == run_id, entries.c.body.is_not(None))
    count = int(connection.execute(select(func.count()).select_from(entries).where(*holds)).scalar_one())
    if count:
        connection.execute(update(entries).where(*holds).values(body=None, salt=None))
        append(connection, run_id, [NewEntry(kind="erased", ref=str(run.head_seq), meta={"entries": count})])
    return count
