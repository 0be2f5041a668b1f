"""Results of reads that may be given again, shared by all workers.

A name stands for a tool's results for a tenant. It has a number that goes up when they are no longer true, so that a read
that began before can't be kept after.
"""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from handfast.contracts.identity import canonical_json
from handfast.ledger.entries import now_ms
from handfast.ledger.tables import cached, generations


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is kept under a key."""

    generation: int
    """Of the name, when it was looked up."""
    content: Any = None
    expires_at: int = 0
    """0 if nothing is kept, or it is too old."""


def look(connection: Connection, name: str, key: str) -> Found:
    """What is kept under a key, if it is still good."""
    number = connection.execute(select(generations.c.number).where(generations.c.name == name)).scalar() or 0
    row = connection.execute(
        select(cached.c.content, cached.c.expires_at).where(cached.c.key == key, cached.c.expires_at > now_ms())
    ).one_or_none()
    if row is None:
        return Found(generation=number)
    return Found(generation=number, content=json.loads(row.content), expires_at=row.expires_at)


def keep(connection: Connection, name: str, key: str, content: Any, *, generation: int, ttl_ms: int, most: int) -> bool:
    """Keep a result, unless the name's results were forgotten since it was read; the oldest beyond `most` go."""
    now = now_ms()
    number = connection.execute(
        select(generations.c.number).where(generations.c.name == name).with_for_update()
    ).scalar()
    if (number or 0) != generation:
        return False
    if number is None:
        connection.execute(insert(generations).values(name=name, number=0))
    connection.execute(delete(cached).where((cached.c.key == key) | (cached.c.expires_at <= now)))
    text = canonical_json(content)
    connection.execute(insert(cached).values(key=key, name=name, content=text, kept_at=now, expires_at=now + ttl_ms))
    others = select(cached.c.key).where(cached.c.name == name)
    beyond = others.order_by(cached.c.kept_at.desc(), cached.c.key).offset(most).limit(1000)
    old = list(connection.execute(beyond).scalars())
    if old:
        connection.execute(delete(cached).where(cached.c.key.in_(old)))
    return True


def forget(connection: Connection, name: str) -> None:
    """Nothing that was read under this name so far is true any more."""
    changed = connection.execute(
        update(generations).where(generations.c.name == name).values(number=generations.c.number + 1)
    )
    if changed.rowcount == 0:
        connection.execute(insert(generations).values(name=name, number=1))
    connection.execute(delete(cached).where(cached.c.name == name))
