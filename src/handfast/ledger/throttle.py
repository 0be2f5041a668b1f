"""Rates and concurrency, counted where all workers share them: in the transaction that reserves a call.

A call that a rate holds back is put in a queue and told when to come again: when those before it will have had their turn. So
each of many waiting calls tries about twice, in the order in which they came, and a new one does not overtake them. The
queue only spreads them; the window is what counts, exactly, when the call is there.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from handfast.contracts.clauses import Rate
from handfast.contracts.policy.quotas import Quota
from handfast.ledger.entries import now_ms
from handfast.ledger.tables import operations, windows

SOON_MS = 250
"""When to look again for a place, where nobody knows when one will be free."""
MISSED_MS = 5000
"""How long after its time a waiting call keeps its turn: whoever has not come by then was stopped, or has lost its worker."""
LONGEST_WAIT_MS = 60_000
"""After so long a waiting call comes to see whether those before it still wait."""
MOST_WAITING = 1000
"""How many may queue for one window. Those beyond come back some time after them, and see."""


class Throttled(Exception):
    """A call must wait; nothing was written."""

    def __init__(self, why: str, wait_ms: int, then: str = "wait") -> None:
        super().__init__(why)
        self.wait_ms = wait_ms
        self.then = then
        """`wait`, or what becomes of it instead: `deny` or `ask`."""


@dataclass(frozen=True, kw_only=True)
class Throttle:
    """What holds the calls of one tool back."""

    tool: str
    tenant: str
    user: str
    rates: Sequence[Rate] = ()
    concurrency: int | None = None
    quotas: Sequence[Quota] = ()
    """Limits of policies."""

    @property
    def queues(self) -> bool:
        """Whether what is held back waits in a queue."""
        return bool(self.rates) or any(quota.then == "wait" for quota in self.quotas)


@dataclass(frozen=True, kw_only=True)
class _Window:
    """What stands about one rate: when attempts began, and who waits."""

    count: int
    name: str
    per: int
    """Milliseconds."""
    told: str
    then: str = "wait"
    taken: list[int]
    waiting: dict[str, int]
    """When each operation comes again, in the order of their turns."""

    def turn(self, operation_id: str, now: int) -> int:
        """When an operation may begin, after those before it: `now` if at once."""
        queue = [*self.waiting]
        before = queue.index(operation_id) if operation_id in self.waiting else len(queue)
        times = [*self.taken]
        for _ in range(before + 1):
            full_until = times[-self.count] + self.per if len(times) >= self.count else 0
            times.append(max(now, full_until))
        return times[-1]


def take(connection: Connection, throttle: Throttle, operation_id: str) -> None:
    """Take a place in every window, and one of those under way.

    Raises:
        Throttled: One of them is full. The transaction must be rolled back, and the call may queue up.
    """
    now = now_ms()
    if throttle.concurrency is not None:
        # Its row serialises those who count.
        _locked(connection, f"concurrency/{throttle.tool}")
        _require_place(connection, throttle, operation_id, now)
    for window in _windows(connection, throttle, now):
        turn = window.turn(operation_id, now)
        if turn > now:
            raise Throttled(window.told, turn - now, window.then)
        _write(connection, f"rate/{window.name}", [*window.taken, now])
        if window.waiting.pop(operation_id, None) is not None:
            _write(connection, f"wait/{window.name}", [*window.waiting.items()])


def queue_up(connection: Connection, throttle: Throttle, operation_id: str) -> int:
    """Put a call that was held back in the queues of its windows, or keep its turn there; in how many milliseconds to come again.

    0 if no rate holds it back any more.
    """
    now = now_ms()
    longest = 0
    for window in _windows(connection, throttle, now):
        if window.then != "wait":
            continue
        wait = min(window.turn(operation_id, now) - now, LONGEST_WAIT_MS)
        if wait and (operation_id in window.waiting or len(window.waiting) < MOST_WAITING):
            window.waiting[operation_id] = now + wait
            _write(connection, f"wait/{window.name}", [*window.waiting.items()])
        elif wait:
            wait += random.randrange(LONGEST_WAIT_MS)
        longest = max(longest, wait)
    return longest


def _windows(connection: Connection, throttle: Throttle, now: int) -> Iterator[_Window]:
    """The windows of a call, one after the other; their rows are this transaction's from here on."""
    for quota in throttle.quotas:
        yield _window(connection, quota.name, quota.count, quota.per, now, told=quota.told, then=quota.then)
    for rate in throttle.rates:
        who = {"tool": "", "tenant": throttle.tenant, "user": f"{throttle.tenant}/{throttle.user}"}[rate.each]
        name = f"{throttle.tool}/{rate.each}/{int(rate.per.total_seconds() * 1000)}/{who}"
        yield _window(connection, name, rate.count, rate.per, now, told=f"{throttle.tool} may be tried {rate}")


def _window(
    connection: Connection, name: str, count: int, length: timedelta, now: int, *, told: str, then: str = "wait"
) -> _Window:
    per = int(length.total_seconds() * 1000)
    taken: list[int] = [at for at in _locked(connection, f"rate/{name}") if at > now - per]
    waiting = {one: back for one, back in _locked(connection, f"wait/{name}") if back > now - MISSED_MS}
    return _Window(count=count, name=name, per=per, taken=taken, waiting=waiting, told=told, then=then)


def _require_place(connection: Connection, throttle: Throttle, operation_id: str, now: int) -> None:
    under_way = select(func.count()).where(
        operations.c.state == "reserved",
        operations.c.tool == throttle.tool,
        operations.c.lease_until > now,
        operations.c.operation_id != operation_id,
    )
    if connection.execute(under_way).scalar_one() >= (throttle.concurrency or 0):
        raise Throttled(
            f"{throttle.concurrency} calls of {throttle.tool} are under way",
            random.randrange(SOON_MS, SOON_MS * 6 // 5),
        )


def _locked(connection: Connection, name: str) -> list[Any]:
    """What stands in a row of the windows, which is this transaction's from here on."""
    row = connection.execute(select(windows.c.taken).where(windows.c.name == name).with_for_update()).one_or_none()
    if row is None:
        connection.execute(insert(windows).values(name=name, taken="[]"))
        return []
    found: list[Any] = json.loads(row.taken)
    return found


def _write(connection: Connection, name: str, times: Sequence[Any]) -> None:
    connection.execute(update(windows).where(windows.c.name == name).values(taken=json.dumps(times)))
