"""What the owners of tools should know, once for each kind and subject."""

from sqlalchemy import Connection, insert, select, update

from handfast.contracts.results import Notice
from handfast.ledger.entries import moment, now_ms
from handfast.ledger.tables import notices

LONGEST_SUBJECT = 200


def record_notice(connection: Connection, notice: Notice) -> None:
    """Write a notice down. One of the same kind and subject is counted, and told in the newer words."""
    subject, at = notice.subject[:LONGEST_SUBJECT], now_ms()
    where = (notices.c.kind == notice.kind, notices.c.subject == subject)
    told = {"text": notice.text, "owner": notice.owner, "last_at": at}
    counted = connection.execute(update(notices).where(*where).values(times=notices.c.times + 1, **told))
    if counted.rowcount == 0:
        connection.execute(insert(notices).values(kind=notice.kind, subject=subject, first_at=at, times=1, **told))


def list_notices(connection: Connection) -> list[Notice]:
    """Every notice, the newest first."""
    rows = connection.execute(select(notices).order_by(notices.c.last_at.desc()))
    return [
        Notice(
            kind=row.kind,
            subject=row.subject,
            text=row.text,
            owner=row.owner,
            first_at=moment(row.first_at),
            last_at=moment(row.last_at),
            count=row.times,
        )
        for row in rows
    ]
