"""Who was told what about which call: each step once, by one worker, again as long as a channel does not take it."""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from handfast.ledger.entries import now_ms
from handfast.ledger.tables import notified

NEVER = 2**62
"""When a step is due that is done."""
DONE = "done"
"""The step of a call that was carried out."""


class Pending(NamedTuple):
    """A step that is to be told once more."""

    operation_id: str
    run_id: str
    step: str
    tries: int


def claim(connection: Connection, run_id: str, operation_id: str, step: str, lease_ms: int) -> int | None:
    """Take a step on, for so long; how often it was tried before. None if it is done, or somebody else has it."""
    now = now_ms()
    where = (notified.c.operation_id == operation_id, notified.c.step == step)
    row = connection.execute(select(notified).where(*where).with_for_update()).one_or_none()
    if row is None:
        values = {"operation_id": operation_id, "step": step, "run_id": run_id, "tries": 1, "next_at": now + lease_ms}
        try:
            with connection.begin_nested():
                connection.execute(insert(notified).values(**values))
        except IntegrityError:
            return None
        return 0
    if row.next_at > now:
        return None
    connection.execute(update(notified).where(*where).values(tries=row.tries + 1, next_at=now + lease_ms))
    return int(row.tries)


def finish(connection: Connection, run_id: str, operation_id: str, steps: Iterable[str]) -> None:
    """Steps are done, also those that were never begun."""
    for step in steps:
        where = (notified.c.operation_id == operation_id, notified.c.step == step)
        if not connection.execute(update(notified).where(*where).values(next_at=NEVER)).rowcount:
            values = {"operation_id": operation_id, "step": step, "run_id": run_id, "tries": 0, "next_at": NEVER}
            connection.execute(insert(notified).values(**values))


def put_off(connection: Connection, operation_id: str, step: str, wait_ms: int, error: str) -> None:
    """A channel did not take a step: it is tried again later."""
    where = (notified.c.operation_id == operation_id, notified.c.step == step)
    connection.execute(update(notified).where(*where).values(next_at=now_ms() + wait_ms, error=error[:300]))


def announce_done(connection: Connection, run_id: str, operation_id: str) -> None:
    """Let somebody be told that a call was carried out. Announced again, it is the same."""
    where = (notified.c.operation_id == operation_id, notified.c.step == DONE)
    if connection.execute(select(notified.c.step).where(*where)).one_or_none() is None:
        values = {"operation_id": operation_id, "step": DONE, "run_id": run_id, "tries": 0, "next_at": now_ms()}
        connection.execute(insert(notified).values(**values))


def told_so_far(connection: Connection, operation_ids: Iterable[str]) -> dict[str, dict[str, int]]:
    """By call and step: when it is due again; `NEVER` if it is done."""
    found: dict[str, dict[str, int]] = {}
    query = select(notified.c.operation_id, notified.c.step, notified.c.next_at)
    for row in connection.execute(query.where(notified.c.operation_id.in_(list(operation_ids)))):
        found.setdefault(row.operation_id, {})[row.step] = row.next_at
    return found


def list_pending(connection: Connection, step: str, limit: int = 100) -> list[Pending]:
    """Steps of that name that were announced and are due."""
    query = (
        select(notified.c.operation_id, notified.c.run_id, notified.c.step, notified.c.tries)
        .where(notified.c.next_at <= now_ms(), notified.c.step == step)
        .order_by(notified.c.next_at)
        .limit(limit)
    )
    return [Pending(*row) for row in connection.execute(query)]
