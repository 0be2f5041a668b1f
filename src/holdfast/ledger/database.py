"""How transactions reach the database. Every transaction is one plain function of a SQLAlchemy `Connection`."""

import contextlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from holdfast.contracts.errors import LedgerError, LedgerRace, LedgerSchemaError, LedgerUnavailable
from holdfast.ledger.statement import DriverCall

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")
Transaction = Callable[[Connection], T]

OTHER_TABLES = ("no such table", "no such column", "UndefinedTable", "UndefinedColumn", "does not exist")
"""How SQLite and PostgreSQL say that a table or a column is not there."""


class Database(ABC):
    """A place for the ledger's tables."""

    @abstractmethod
    async def read(self, transaction: Transaction[T]) -> T:
        """Run a function that only reads.

        Raises:
            LedgerUnavailable: The database does not answer.
        """

    @abstractmethod
    async def write(self, transaction: Transaction[T]) -> T:
        """Run a function that writes, and commit. All of it is there afterwards, or nothing.

        Raises:
            LedgerUnavailable: The database does not answer; whether it committed is not known.
        """

    async def at_once(self, make: Callable[[], DriverCall | None]) -> tuple[int, str] | None:
        """Run one statement that is a transaction of its own; the number and the hash of the entry it has appended.

        None if it has changed nothing, if whether it did is not known, or if there is none or this database gains nothing by
        one: then take the long way, which finds out.
        """
        return None

    @abstractmethod
    def open(self) -> "contextlib.AbstractAsyncContextManager[AsyncConnection]":
        """A connection in a write transaction that commits at the end, for `TRANSACTIONAL` tools."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of every connection."""


def translate(error: SQLAlchemyError | sqlite3.Error) -> LedgerError:
    """What an error of SQLAlchemy or of SQLite's driver means to a caller."""
    text = str(getattr(error, "orig", None) or error)
    if any(sign in text for sign in OTHER_TABLES):
        return LedgerSchemaError(
            f"the ledger has other tables than this version needs ({text}): run `holdfast ledger migrate`"
        )
    away = isinstance(error, (OperationalError, sqlite3.OperationalError))
    if away or (isinstance(error, DBAPIError) and _is_connection_loss(error)):
        return LedgerUnavailable(f"the ledger does not answer: {text}")
    if isinstance(error, (IntegrityError, sqlite3.IntegrityError)):
        return LedgerRace(f"another writer was faster: {text}")
    return LedgerError(f"the ledger refused: {text}")


def _is_connection_loss(error: DBAPIError) -> bool:
    name = type(error.orig).__name__
    return error.connection_invalidated or "Connection" in name or "Interface" in name or "CannotConnect" in name


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Raise the errors of a database as what they mean."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise translate(error) from error
    except (OSError, TimeoutError) as error:
        msg = f"the ledger does not answer: {error or type(error).__name__}"
        raise LedgerUnavailable(msg) from error
