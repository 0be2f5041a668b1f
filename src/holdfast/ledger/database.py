"""How transactions reach the database. Every transaction is one plain function of a SQLAlchemy `Connection`.

SQLite runs them in two threads of its own, one for reading and one for writing. The writer takes everything that waits
into one `BEGIN IMMEDIATE` (deferred transactions failed 22 of 40 concurrent settles) and one commit, so concurrent runs
share the price of the disk's flush. PostgreSQL runs the same functions through asyncpg.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from typing_extensions import override

from holdfast.contracts.errors import LedgerError, LedgerRace, LedgerSchemaError, LedgerUnavailable, SettingsError
from holdfast.ledger.statement import DriverCall, raw

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")
Transaction = Callable[[Connection], T]

BUSY_SECONDS = 5.0
"""How long SQLite waits for another process's write before it says that the database is away."""
COMMAND_SECONDS = 10.0
"""How long PostgreSQL may take for one statement."""
GROUP = 64
"""The most transactions that share one commit."""


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


def connect_database(url: str) -> Database:
    """The database behind a URL: `sqlite:///path` or `postgresql://user@host/name`.

    Raises:
        SettingsError: The URL is not one of these, or its driver is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        msg = f"ledger URL {url!r} can't be read: write sqlite:///PATH or postgresql://USER@HOST/NAME"
        raise SettingsError(msg) from error
    match parsed.get_backend_name():
        case "sqlite":
            return SqliteDatabase(parsed)
        case "postgresql":
            return PostgresDatabase(parsed)
        case other:
            msg = f"ledger URL scheme {other!r} is not known: allowed are sqlite and postgresql"
            raise SettingsError(msg)


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


class SqliteDatabase(Database):
    """A SQLite file in WAL mode with full synchronisation: what is committed survives a power cut."""

    def __init__(self, url: URL) -> None:
        self._url = url
        path = url.database
        if not path or path == ":memory:":
            msg = f"ledger URL {url.render_as_string()!r}: a ledger must outlive its process, so give a file: sqlite:///PATH"
            raise SettingsError(msg)
        folder = Path(path).expanduser().resolve().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"the ledger's folder {str(folder)!r} can't be made: {error.strerror}. Set HOLDFAST_LEDGER_URL to a writable place"
            raise SettingsError(msg) from error
        self._reader = _Worker(self._engine(), "holdfast-ledger-read", writes=False)
        self._writer = _Worker(self._engine(), "holdfast-ledger-write", writes=True)
        self._open_engine: AsyncEngine | None = None

    def _engine(self) -> Engine:
        engine = create_engine(
            self._url.set(drivername="sqlite+pysqlite"),
            poolclass=NullPool,
            connect_args={"timeout": BUSY_SECONDS, "isolation_level": None},
        )
        event.listen(engine, "connect", _set_pragmas)
        return engine

    @override
    async def read(self, transaction: Transaction[T]) -> T:
        return await self._reader.run(transaction)

    @override
    async def write(self, transaction: Transaction[T]) -> T:
        return await self._writer.run(transaction)

    @override
    @asynccontextmanager
    async def open(self) -> "AsyncGenerator[AsyncConnection]":
        if self._open_engine is None:
            # Only TRANSACTIONAL tools need it; every other worker is 5 MB lighter without.
            from sqlalchemy.ext.asyncio import create_async_engine

            self._open_engine = create_async_engine(
                self._url.set(drivername="sqlite+aiosqlite"),
                poolclass=NullPool,
                connect_args={"timeout": BUSY_SECONDS, "isolation_level": None},
            )
            event.listen(self._open_engine.sync_engine, "connect", _set_pragmas)
            event.listen(self._open_engine.sync_engine, "begin", _begin_writing)
        with _translated():
            async with self._open_engine.begin() as connection:
                yield connection

    @override
    async def close(self) -> None:
        for worker in (self._reader, self._writer):
            await asyncio.to_thread(worker.stop)
        if self._open_engine is not None:
            await self._open_engine.dispose()


class PostgresDatabase(Database):
    """PostgreSQL through asyncpg."""

    def __init__(self, url: URL, *, pool_size: int = 10) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine

        try:
            self._engine = create_async_engine(
                url.set(drivername="postgresql+asyncpg"),
                pool_size=pool_size,
                pool_timeout=COMMAND_SECONDS,
                connect_args={"timeout": 5.0, "command_timeout": COMMAND_SECONDS},
            )
        except ImportError as error:
            msg = "PostgreSQL needs its driver: install holdfast[postgres]"
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
        with _translated():
            async with self._engine.connect() as connection:
                return await connection.run_sync(transaction)

    async def _write(self, transaction: Transaction[T]) -> T:
        with _translated():
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
        with _translated():
            async with self._engine.begin() as connection:
                yield connection

    @override
    async def close(self) -> None:
        await self._engine.dispose()


@contextlib.contextmanager
def _translated() -> Any:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise translate(error) from error
    except (OSError, TimeoutError) as error:
        msg = f"the ledger does not answer: {error or type(error).__name__}"
        raise LedgerUnavailable(msg) from error


def _set_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_writing(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]"]
_Job = tuple[Transaction[Any], _Waiter]
_Done = tuple[_Waiter, Any, BaseException | None]


class _Worker:
    """One thread with one SQLite connection, which it opens again after a failure."""

    def __init__(self, engine: Engine, name: str, *, writes: bool) -> None:
        self._engine = engine
        self._begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection: Connection | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def run(self, transaction: Transaction[T]) -> T:
        if self._stopped:
            msg = "this ledger was closed, by its client for instance: connect another one"
            raise LedgerError(msg)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((transaction, (loop, future)))
        return await future

    def stop(self) -> None:
        self._stopped = True
        self._jobs.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while True:
            job = self._jobs.get()
            group: list[_Job] = []
            while job is not None:
                group.append(job)
                if len(group) == GROUP:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._run_group(group)
            if job is None:
                self._drop_connection()
                self._engine.dispose()
                return

    def _run_group(self, group: list[_Job]) -> None:
        done: list[_Done] = []
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            if len(group) == 1:
                done = [self._run_alone(self._connection, group[0])]
            else:
                with self._transaction(self._connection):
                    done = [_run_beside_others(self._connection, job) for job in group]
        except (SQLAlchemyError, sqlite3.Error) as error:
            self._drop_connection()
            failure = translate(error)
            done = [(waiter, None, failure) for _, waiter in group]
        _answer(done)

    def _run_alone(self, connection: Connection, job: _Job) -> _Done:
        transaction, waiter = job
        try:
            with self._transaction(connection):
                result = transaction(connection)
        except (SQLAlchemyError, sqlite3.Error):
            raise
        except Exception as error:  # noqa: BLE001 - it was rolled back, and belongs to the caller, not to this thread
            return waiter, None, error
        return waiter, result, None

    @contextlib.contextmanager
    def _transaction(self, connection: Connection) -> Generator[None]:
        """One, begun and ended by the driver: SQLAlchemy's own part costs as much as a small one does.

        What runs in it may use SQLAlchemy all the same, which then believes in a transaction of its own.
        """
        driver = raw(connection)
        driver.execute(self._begin)
        try:
            yield
        except BaseException:
            (connection if connection.in_transaction() else driver).rollback()
            raise
        (connection if connection.in_transaction() else driver).commit()

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError, sqlite3.Error):
                connection.close()


def _run_beside_others(connection: Connection, job: _Job) -> _Done:
    transaction, waiter = job
    try:
        with _savepoint(raw(connection)):
            return waiter, transaction(connection), None
    except (OperationalError, sqlite3.OperationalError):
        raise
    except (SQLAlchemyError, sqlite3.Error) as error:
        return waiter, None, translate(error)
    except Exception as error:  # noqa: BLE001 - its savepoint was rolled back, and the others go on
        return waiter, None, error


@contextlib.contextmanager
def _savepoint(driver: sqlite3.Connection) -> Generator[None]:
    driver.execute("SAVEPOINT one")
    try:
        yield
    except BaseException:
        driver.execute("ROLLBACK TO one")
        raise
    finally:
        driver.execute("RELEASE one")


def _answer(done: list[_Done]) -> None:
    """Tell every waiter, with one wake-up of each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Done]] = {}
    for one in done:
        by_loop.setdefault(one[0][0], []).append(one)
    for loop, answers in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile, so nobody waits any more
            loop.call_soon_threadsafe(_deliver, answers)


def _deliver(answers: list[_Done]) -> None:
    for (_, future), result, error in answers:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
