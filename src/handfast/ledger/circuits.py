"""Circuits as all workers share them: one row for each upstream and tenant."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

from sqlalchemy import Connection, bindparam, insert, select, update

from handfast.contracts.circuit import Circuit
from handfast.ledger.entries import now_ms
from handfast.ledger.statement import Statement
from handfast.ledger.tables import circuits

T = TypeVar("T")
COLUMNS = (circuits.c.failures, circuits.c.successes, circuits.c.opened_at, circuits.c.probe_until)
WHERE = (circuits.c.upstream == bindparam("name"), circuits.c.tenant == bindparam("of"))
READ = Statement(select(*COLUMNS).where(*WHERE))
LOCK = Statement(select(*COLUMNS).where(*WHERE).with_for_update())


def read_circuit(connection: Connection, upstream: str, tenant: str) -> Circuit:
    """A circuit as it stands; one that nobody has written is closed."""
    row = READ.first(connection, {"name": upstream, "of": tenant})
    return Circuit() if row is None else Circuit(**row._asdict())


def change_circuit(
    connection: Connection, upstream: str, tenant: str, change: Callable[[Circuit, int], tuple[Circuit, T]]
) -> tuple[Circuit, T]:
    """Change a circuit, one writer at a time; what it became, and the answer of the change."""
    row = LOCK.first(connection, {"name": upstream, "of": tenant})
    before = Circuit() if row is None else Circuit(**row._asdict())
    after, answer = change(before, now_ms())
    if row is None:
        connection.execute(insert(circuits).values(upstream=upstream, tenant=tenant, **asdict(after)))
    elif after != before:
        where = (circuits.c.upstream == upstream, circuits.c.tenant == tenant)
        connection.execute(update(circuits).where(*where).values(**asdict(after)))
    return after, answer
