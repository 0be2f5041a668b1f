"""Calls that a tool backend carries out for others: begun once, answered once, and repeated from here."""

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from handfast.contracts.served import ServedCall, Stand, Standing
from handfast.ledger.entries import now_ms
from handfast.ledger.tables import served

UNDER_WAY = 0
"""The status of a call that has no answer yet."""


def begin(connection: Connection, call: ServedCall, *, abandoned_ms: int, again: bool) -> Standing:
    """What stands about a call; a new one is written down as the asker's.

    Args:
        connection: A transaction.
        call: The call.
        abandoned_ms: After so long without an answer nobody is at it any more.
        again: An abandoned call may be begun again: it is NEW then.
    """
    row = connection.execute(select(served).where(*_where(call)).with_for_update()).one_or_none()
    if row is None:
        values = call.model_dump() | {"status": UNDER_WAY, "body": "", "began_at": now_ms()}
        connection.execute(insert(served).values(**values))
        return Standing(stand=Stand.NEW)
    if row.digest != call.digest:
        return Standing(stand=Stand.OTHER, request_id=row.request_id)
    if row.status != UNDER_WAY:
        return Standing(stand=Stand.DONE, status=row.status, body=row.body, request_id=row.request_id)
    if now_ms() - row.began_at < abandoned_ms:
        return Standing(stand=Stand.UNDER_WAY, request_id=row.request_id)
    if not again:
        return Standing(stand=Stand.ABANDONED, request_id=row.request_id)
    connection.execute(update(served).where(*_where(call)).values(began_at=now_ms(), request_id=call.request_id))
    return Standing(stand=Stand.NEW)


def answer(connection: Connection, call: ServedCall, status: int, body: str) -> None:
    """Write an answer down. The first one stands."""
    where = (*_where(call), served.c.status == UNDER_WAY)
    connection.execute(update(served).where(*where).values(status=status, body=body))


def withdraw(connection: Connection, call: ServedCall) -> None:
    """Forget that a call was begun: it surely had no effect."""
    connection.execute(delete(served).where(*_where(call), served.c.status == UNDER_WAY))


def _where(call: ServedCall) -> tuple[ColumnElement[bool], ...]:
    return served.c.tool == call.tool, served.c.ns == call.ns, served.c.key == call.key
