"""What models have used of the budgets that all runs share, and what they may still use while they are asked.

A model call is held back for at most what it may use, counted with what it has used, and let go if it surely was not made. A hold that
nobody has settled in time counts as used: its worker has died, and whether the call was paid is not known.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from handfast.contracts.policy.budgets import Allowance, Spending
from handfast.ledger.entries import now_ms
from handfast.ledger.tables import budgets

NEARLY = 0.9
"""The part of a budget at which runs are asked for their answer."""
KEPT_MS = 30 * 24 * 3600 * 1000
"""How long after its end what was used in a span is known."""


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What a model call may do."""

    exhausted: str = ""
    """The budget that leaves no room for it; nothing is held."""
    near: str = ""
    """The budget that leaves room for an answer and no more."""
    busy: str = ""
    """The budget of which others that are asked now may use up what is left: come again when they have answered. Nothing is held."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What stands about one budget."""

    used: Spending
    holds: dict[str, list[int]]
    """By holder: turns, tokens and cost that it may use, until when, which attempt holds it, and the calls it may ask for."""

    def of_others(self, holder: str) -> Spending:
        """What others may still use."""
        found = Spending()
        for name, kept in self.holds.items():
            if name != holder:
                found += _may_use(kept)
        return found


def hold(
    connection: Connection, holder: str, attempt: int, limits: Sequence[Allowance], most: Spending, lease_ms: int
) -> Hold:
    """Hold back what a model call may use at most, of every budget; or say why not.

    Args:
        connection: A transaction.
        holder: The run and its turn.
        attempt: What an earlier attempt of it held counts as used: it may have been paid.
        limits: The budgets.
        most: What the call may use.
        lease_ms: For how long it is held.
    """
    now = now_ms()
    found = {one.key: _locked(connection, one, holder, attempt, now) for one in sorted(limits, key=lambda one: one.key)}
    near = ""
    for one in limits:
        stands = found[one.key]
        if (stands.used + most).exceeds(one):
            return Hold(exhausted=one.name)
        if (stands.used + stands.of_others(holder) + most).exceeds(one):
            return Hold(busy=one.name)
        if not near and (stands.used.exceeds(one, NEARLY) or (stands.used + most + most).exceeds(one)):
            near = one.name
    for one in limits:
        stands = found[one.key]
        mine = [most.turns, most.tokens, most.cost_micros, now + lease_ms, attempt, most.calls, most.work_ms]
        _write(connection, one.key, stands.used, {**stands.holds, holder: mine})
    return Hold(near=near)


def settle(connection: Connection, keys: Sequence[str], holder: str, used: Spending | None) -> None:
    """Count what a model call has used, in place of what was held back for it; with None it was not made."""
    for key in sorted(keys):
        row = connection.execute(select(budgets).where(budgets.c.name == key).with_for_update()).one_or_none()
        if row is None:
            continue
        stands = _read(row)
        holds = {name: kept for name, kept in stands.holds.items() if name != holder}
        _write(connection, key, stands.used + (used or Spending()), holds)


def list_budgets(connection: Connection) -> list[tuple[str, Spending, Spending, int]]:
    """What was used of each budget in its present span, what may still be while models are asked, and when the span ends."""
    query = select(budgets).where(budgets.c.ends_at > now_ms()).order_by(budgets.c.name)
    return [
        (row.name, stands.used, stands.of_others(""), int(row.ends_at))
        for row in connection.execute(query)
        for stands in [_read(row)]
    ]


def _locked(connection: Connection, limit: Allowance, holder: str, attempt: int, now: int) -> Held:
    """What stands, with holds that are over counted as used. The row is this transaction's from here on."""
    row = connection.execute(select(budgets).where(budgets.c.name == limit.key).with_for_update()).one_or_none()
    if row is None:
        connection.execute(delete(budgets).where(budgets.c.ends_at < now - KEPT_MS))
        values = _values(Spending(), {})
        connection.execute(insert(budgets).values(name=limit.key, ends_at=limit.ends_at, **values))
        return Held(used=Spending(), holds={})
    stands = _read(row)
    used, holds = stands.used, dict[str, list[int]]()
    for name, kept in stands.holds.items():
        over = kept[3] < now or (name == holder and kept[4] != attempt)
        if over:
            used += _may_use(kept)
        else:
            holds[name] = kept
    if used != stands.used:
        _write(connection, limit.key, used, holds)
    return Held(used=used, holds=holds)


def _may_use(kept: Sequence[int]) -> Spending:
    # Those of a version before have no more than five numbers.
    calls, work_ms = (*kept[5:], 0, 0)[:2]
    return Spending(turns=kept[0], tokens=kept[1], cost_micros=kept[2], calls=calls, work_ms=work_ms)


def _read(row: Any) -> Held:
    used = Spending(
        turns=row.turns, tokens=row.tokens, cost_micros=row.cost_micros, calls=row.calls, work_ms=row.work_ms
    )
    return Held(used=used, holds=json.loads(row.holds))


def _write(connection: Connection, key: str, used: Spending, holds: dict[str, list[int]]) -> None:
    connection.execute(update(budgets).where(budgets.c.name == key).values(**_values(used, holds)))


def _values(used: Spending, holds: dict[str, list[int]]) -> dict[str, Any]:
    return {**asdict(used), "holds": json.dumps(holds)}
