"""What the errors of a database mean to a caller: wait, repeat at once, bring the tables up, or give up."""

import contextlib
import sqlite3
from collections.abc import Generator

from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from handfast.contracts.errors import LedgerError, LedgerRace, LedgerSchemaError, LedgerUnavailable

AWAY = ("08", "28", "40", "53", "57", "58", "25006", "25P03", "25P04", "3D000", "55P03")
"""How the SQLSTATEs of PostgreSQL begin that speak of the server and not of what it was asked: the connection or the login, another
transaction in the way, no room, an operator, the system below; read-only, out of time, no such database, a lock not got.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""
OTHER_TABLES = ("42P01", "42703")
"""The SQLSTATEs of a table and of a column that is not there."""
SQLITE_OTHER_TABLES = ("no such table", "no such column", "has no column named")
"""How SQLite says the same."""


def translate(error: BaseException) -> LedgerError | None:
    """What an error of SQLAlchemy or of a driver means to a caller; None if it is none of these."""
    cause = getattr(error, "orig", None) or error
    state: str = getattr(cause, "sqlstate", None) or ""
    if not state and not isinstance(error, (SQLAlchemyError, sqlite3.Error, OSError)):
        return None
    text = str(cause) or type(cause).__name__
    if state in OTHER_TABLES or (not state and any(sign in text for sign in SQLITE_OTHER_TABLES)):
        return LedgerSchemaError(
            f"the ledger has other tables than this version needs ({text}): run `handfast ledger migrate`"
        )
    if state.startswith(AWAY) or _never_answered(error):
        return LedgerUnavailable(f"the ledger does not answer: {text}")
    if isinstance(error, (IntegrityError, sqlite3.IntegrityError)):
        return LedgerRace(f"another writer was faster: {text}")
    return LedgerError(f"the ledger refused: {text}")


def _never_answered(error: BaseException) -> bool:
    """Whether the database has not answered at all, as far as drivers say so without a SQLSTATE."""
    if isinstance(error, (OperationalError, sqlite3.OperationalError, NoConnectionFree, OSError)):
        return True
    lost = bool(getattr(error, "connection_invalidated", False))
    return lost or "Interface" in type(getattr(error, "orig", None)).__name__


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Raise the errors of a database as what they mean."""
    try:
        yield
    except Exception as error:
        meant = translate(error)
        if meant is None:
            raise
        raise meant from error
