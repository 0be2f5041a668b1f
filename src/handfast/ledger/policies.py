"""The installation's policy: what holds for every agent of every worker on this ledger, in versions."""

from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select

from handfast.ledger.entries import now_ms
from handfast.ledger.tables import operations, policies, runs


class PolicyVersion(NamedTuple):
    """One version of the policy."""

    number: int
    """From 1; 0 where none was ever set."""
    text: str
    """TOML, as it was set; empty if it was taken away."""
    by: str = ""
    at: int = 0
    """Milliseconds since 1970."""


def newest_policy(connection: Connection) -> PolicyVersion:
    """The version that holds."""
    row = connection.execute(select(policies).order_by(policies.c.number.desc()).limit(1)).one_or_none()
    return PolicyVersion(0, "") if row is None else PolicyVersion(row.number, row.text, row.by, row.at)


def newest_number(connection: Connection) -> int:
    """The number of the version that holds."""
    return int(connection.execute(select(func.max(policies.c.number))).scalar() or 0)


def policy_versions(connection: Connection, most: int) -> list[PolicyVersion]:
    """The versions, the newest first."""
    rows = connection.execute(select(policies).order_by(policies.c.number.desc()).limit(most))
    return [PolicyVersion(row.number, row.text, row.by, row.at) for row in rows]


def set_policy(connection: Connection, text: str, by: str) -> PolicyVersion:
    """Let another policy hold from now on; the same text again changes nothing."""
    before = newest_policy(connection)
    if before.text == text:
        return before
    new = PolicyVersion(before.number + 1, text, by, now_ms())
    connection.execute(insert(policies).values(**new._asdict()))
    return new


def runs_that_wait(connection: Connection) -> list[str]:
    """The runs of which a call waits for a decision."""
    query = (
        select(operations.c.run_id)
        .join(runs, runs.c.run_id == operations.c.run_id)
        .where(operations.c.state == "waiting", operations.c.left_by == 0, runs.c.closed_at.is_(None))
        .distinct()
        .order_by(operations.c.run_id)
    )
    return list(connection.execute(query).scalars())
