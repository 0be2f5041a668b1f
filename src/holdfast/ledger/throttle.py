"""Rates and concurrency, counted where all workers share them: in the transaction that reserves a call."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select, update

from holdfast.contracts.clauses import Rate
from holdfast.ledger.entries import now_ms
from holdfast.ledger.tables import operations, windows

SOON_MS = 250
"""When to look again for a place, where nobody knows when one will be free."""


class Throttled(Exception):
    """A call must wait; nothing was written."""

    def __init__(self, why: str, wait_ms: int) -> None:
        super().__init__(why)
        self.wait_ms = wait_ms


@dataclass(frozen=True, kw_only=True)
class Throttle:
    """What holds the calls of one tool back."""

    tool: str
    tenant: str
    user: str
    rates: Sequence[Rate] = ()
    concurrency: int | None = None


def take(connection: Connection, throttle: Throttle, operation_id: str) -> None:
    """Take a place in every window, and one of those under way.

    Raises:
        Throttled: One of them is full. The transaction must be rolled back.
    """
    now = now_ms()
    if throttle.concurrency is not None:
        # Its row serialises those who count.
        _locked(connection, f"concurrency/{throttle.tool}")
        _require_place(connection, throttle, operation_id, now)
    for rate in throttle.rates:
        who = {"tool": "", "tenant": throttle.tenant, "user": f"{throttle.tenant}/{throttle.user}"}[rate.each]
        per = int(rate.per.total_seconds() * 1000)
        name = f"rate/{throttle.tool}/{rate.each}/{per}/{who}"
        taken = [at for at in _locked(connection, name) if at > now - per]
        if len(taken) >= rate.count:
            wait = taken[len(taken) - rate.count] + per - now
            raise Throttled(f"{throttle.tool} may be tried {rate}", max(wait, 1))
        text = json.dumps([*taken, now])
        connection.execute(update(windows).where(windows.c.name == name).values(taken=text))


def _require_place(connection: Connection, throttle: Throttle, operation_id: str, now: int) -> None:
    under_way = select(func.count()).where(
        operations.c.state == "reserved",
        operations.c.tool == throttle.tool,
        operations.c.lease_until > now,
        operations.c.operation_id != operation_id,
    )
    if connection.execute(under_way).scalar_one() >= (throttle.concurrency or 0):
        raise Throttled(f"{throttle.concurrency} calls of {throttle.tool} are under way", SOON_MS)


def _locked(connection: Connection, name: str) -> list[int]:
    """The times in a window, whose row is this transaction's from here on."""
    row = connection.execute(select(windows.c.taken).where(windows.c.name == name).with_for_update()).one_or_none()
    if row is None:
        connection.execute(insert(windows).values(name=name, taken="[]"))
        return []
    taken: list[int] = json.loads(row.taken)
    return taken
