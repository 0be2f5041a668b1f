"""PostgreSQL as the ledger's database, through asyncpg."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import override

from handfast.contracts.errors import LedgerUnavailable, SettingsError
from handfast.ledger.database import Database, Transaction
from handfast.ledger.failures import translated
from handfast.ledger.statement import DriverCall

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")

COMMAND_SECONDS = 10.0
"""How long PostgreSQL may take for one statement."""


class PostgresDatabase(Database):
    """PostgreSQL through asyncpg."""

    def __init__(self, connect: Mapping[str, Any], *, pool_size: int = 10) -> None:
        """`connect` are the driver's arguments, see `connect_arguments`."""
        from sqlalchemy.ext.asyncio import create_async_engine

        try:
            self._engine = create_async_engine(
                "postgresql+asyncpg://",
                pool_size=pool_size,
                pool_timeout=COMMAND_SECONDS,
                connect_args={**connect, "command_timeout": COMMAND_SECONDS},
            )
        except ImportError as error:
            msg = "PostgreSQL needs its driver: install handfast[postgres]"
            raise SettingsError(msg) from error
        self._committing = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @override
    async def read(self, transaction: Transaction[T]) -> T:
        return await self._twice(lambda: self._read(transaction))

    @override
    async def write(self, transaction: Transaction[T]) -> T:
        return await self._twice(lambda: self._write(transaction))

    @override
    async def at_once(self, make: Callable[[], DriverCall | None]) -> tuple[int, str] | None:
        call = make()
        if call is None:
            return None
        try:
            async with self._committing.connect() as connection:
                # Past SQLAlchemy, whose part would cost as much again.
                driver: Any = (await connection.get_raw_connection()).driver_connection
                try:
                    row = await driver.fetchrow(call.sql, *call.values)
                except BaseException:
                    await connection.invalidate()
                    raise
        except Exception:  # noqa: BLE001 - whatever it was, the long way meets it again and says so
            return None
        return None if row is None else (row[0], row[1])

    async def _read(self, transaction: Transaction[T]) -> T:
        with translated():
            async with self._engine.connect() as connection:
                return await connection.run_sync(transaction)

    async def _write(self, transaction: Transaction[T]) -> T:
        with translated():
            async with self._engine.begin() as connection:
                return await connection.run_sync(transaction)

    async def _twice(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try again at once with a fresh connection: a pooled one may be of a server that has gone since."""
        try:
            return await attempt()
        except LedgerUnavailable:
            return await attempt()

    @override
    @asynccontextmanager
    async def open(self) -> "AsyncGenerator[AsyncConnection]":
        with translated():
            async with self._engine.begin() as connection:
                yield connection

    @override
    async def close(self) -> None:
        await self._engine.dispose()
