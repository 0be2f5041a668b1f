"""What waits for people, over all runs."""

import json
from typing import Any

from sqlalchemy import Connection, and_, select

from handfast.contracts.effects import Tier
from handfast.contracts.results import WaitingCall
from handfast.ledger.entries import moment
from handfast.ledger.looked import arguments_of
from handfast.ledger.tables import entries, operations, runs


def list_waiting(
    connection: Connection, *, tenant: str = "", agent: str = "", tool: str = "", run_id: str = "", limit: int = 1000
) -> list[WaitingCall]:
    """The calls that wait for a decision, the oldest first."""
    filters = ((runs.c.tenant, tenant), (runs.c.agent, agent), (operations.c.tool, tool), (runs.c.run_id, run_id))
    query = (
        select(
            operations, runs.c.agent, runs.c.user, runs.c.tenant, runs.c.parent, entries.c.body,
        )
        .select_from(
            operations.join(runs, runs.c.run_id == operations.c.run_id).join(
                entries, and_(entries.c.run_id == operations.c.run_id, entries.c.seq == operations.c.turn_seq)
            )
        )
        .where(operations.c.state == "waiting", operations.c.left_by == 0, runs.c.closed_at.is_(None))
        .where(*(column == value for column, value in filters if value))
        .order_by(operations.c.asked_at, operations.c.operation_id)
        .limit(limit)
    )  # fmt: skip
    rows = list(connection.execute(query))
    agreed = _agreed(connection, [row.operation_id for row in rows if row.tier == Tier.PRIVILEGED])
    return [_waiting(row, agreed.get(row.operation_id, ())) for row in rows]


def _waiting(row: Any, agreed: tuple[str, ...]) -> WaitingCall:
    return WaitingCall(
        run_id=row.run_id,
        operation_id=row.operation_id,
        digest=row.digest,
        tool=row.tool,
        version=row.version,
        tier=Tier(row.tier),
        arguments=arguments_of(row.body, row.idx).stored,
        reason=row.reason,
        agent=row.agent,
        user=row.user,
        tenant=row.tenant,
        parent=row.parent,
        turn=row.turn,
        asked_at=moment(row.asked_at),
        agreed=agreed,
    )


def _agreed(connection: Connection, operation_ids: list[str]) -> dict[str, tuple[str, ...]]:
    """Who has agreed so far to calls that need more than one."""
    found: dict[str, tuple[str, ...]] = {}
    for operation_id in operation_ids:
        query = select(entries.c.meta).where(
            entries.c.run_id
            == select(operations.c.run_id).where(operations.c.operation_id == operation_id).scalar_subquery(),
            entries.c.kind == "granted",
            entries.c.ref.startswith(operation_id, autoescape=True),
        )
        found[operation_id] = tuple(sorted({_by(meta) for meta in connection.execute(query).scalars()}))
    return found


def _by(meta: str) -> str:
    return str(json.loads(meta)["by"])
