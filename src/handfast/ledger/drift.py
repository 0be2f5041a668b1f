"""Counts of what does not fit, by tool, version and hour, summed over all workers."""

from collections.abc import Mapping

from sqlalchemy import Connection, delete, func, insert, select, update

from handfast.contracts.drift import LEAST_BEFORE, Counts, Drift
from handfast.ledger.entries import now_ms
from handfast.ledger.tables import drift

HOUR_MS = 3_600_000
NOW_HOURS = 2
"""The hour that runs, and the one before."""
KEPT_HOURS = 24 * 7 + NOW_HOURS


def add_counts(connection: Connection, counts: Mapping[tuple[str, str], Counts], at_ms: int | None = None) -> None:
    """Add what a worker has counted since it did so last, by (tool, version); and forget what is too old."""
    hour = (now_ms() if at_ms is None else at_ms) // HOUR_MS
    for (tool, version), new in sorted(counts.items()):
        where = (drift.c.tool == tool, drift.c.version == version, drift.c.hour == hour)
        more = {name: drift.c[name] + getattr(new, name) for name in Counts.model_fields}
        if connection.execute(update(drift).where(*where).values(**more)).rowcount == 0:
            connection.execute(insert(drift).values(tool=tool, version=version, hour=hour, **new.model_dump()))
        connection.execute(delete(drift).where(drift.c.tool == tool, drift.c.hour <= hour - KEPT_HOURS))


def read_drift(connection: Connection) -> list[Drift]:
    """Every version of every tool that was used in the last hours, by name."""
    since = now_ms() // HOUR_MS - NOW_HOURS
    now = _sums(connection, drift.c.hour > since)
    before = _sums(connection, drift.c.hour <= since)
    found: list[Drift] = []
    for (tool, version), counts in sorted(now.items()):
        usual = before.get((tool, version), Counts())
        if max(usual.asked, usual.answered) < LEAST_BEFORE:
            usual = sum((other for (name, _), other in before.items() if name == tool), Counts())
        found.append(Drift(tool=tool, version=version, now=counts, before=usual))
    return found


def _sums(connection: Connection, where: object) -> dict[tuple[str, str], Counts]:
    columns = [func.sum(drift.c[name]).label(name) for name in Counts.model_fields]
    query = select(drift.c.tool, drift.c.version, *columns).where(where).group_by(drift.c.tool, drift.c.version)  # type: ignore[arg-type]
    return {
        (row.tool, row.version): Counts(**{name: int(getattr(row, name)) for name in Counts.model_fields})
        for row in connection.execute(query)
    }
