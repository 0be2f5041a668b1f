"""The public keys of the people who approve."""

import json

from sqlalchemy import Connection, insert, select, update

from handfast.contracts.grants import Approver
from handfast.ledger.entries import now_ms
from handfast.ledger.tables import keys


def list_keys(connection: Connection, *, revoked: bool = False) -> list[Approver]:
    """Who may approve, oldest key first; with `revoked` also who might once."""
    query = select(keys).order_by(keys.c.made_at, keys.c.key_id)
    if not revoked:
        query = query.where(keys.c.revoked_at.is_(None))
    return [
        Approver(
            name=row.name,
            public=row.public,
            roles=tuple(json.loads(row.roles)),
            tenants=tuple(json.loads(row.tenants)),
            local=row.kind == "local",
            made_at=row.made_at,
            made_by=row.made_by,
            revoked_at=row.revoked_at or 0,
            revoked_by=row.revoked_by,
        )
        for row in connection.execute(query)
    ]


def add_key(connection: Connection, approver: Approver, by: str) -> Approver:
    """Let somebody approve from now on. The same key again changes nothing; one that was revoked stays so."""
    found = next((one for one in list_keys(connection, revoked=True) if one.key_id == approver.key_id), None)
    if found is not None:
        return found
    made = approver.model_copy(update={"made_at": now_ms(), "made_by": by})
    connection.execute(
        insert(keys).values(
            key_id=made.key_id,
            name=made.name,
            public=made.public,
            roles=json.dumps(made.roles),
            tenants=json.dumps(made.tenants),
            kind="local" if made.local else "person",
            made_at=made.made_at,
            made_by=by,
        )
    )
    return made


def revoke_key(connection: Connection, key_id: str, by: str) -> bool:
    """Let a key sign nothing that counts from now on; what it has signed and nobody has used yet does not count either.

    False if there is no such key, or it is revoked.
    """
    values = {"revoked_at": now_ms(), "revoked_by": by}
    where = (keys.c.key_id == key_id, keys.c.revoked_at.is_(None))
    return connection.execute(update(keys).where(*where).values(**values)).rowcount == 1
