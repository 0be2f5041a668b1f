"""How transactions reach the database. Every transaction is one plain function of a SQLAlchemy `Connection`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from handfast.ledger.statement import DriverCall

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")
Transaction = Callable[[Connection], T]


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
    def open(self) -> "AbstractAsyncContextManager[AsyncConnection]":
        """A connection in a write transaction that commits at the end, for `TRANSACTIONAL` tools."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of every connection."""
