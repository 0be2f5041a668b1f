"""SQLite as the ledger's database: one thread that reads, one that writes, and commits that are shared.

The writer takes everything that waits into one `BEGIN IMMEDIATE` (deferred transactions failed 22 of 40 concurrent settles) and one
commit, so concurrent runs share the price of the disk's flush.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from typing_extensions import override

from handfast.contracts.errors import LedgerError, SettingsError
from handfast.ledger.database import Database, Transaction
from handfast.ledger.failures import translate, translated
from handfast.ledger.statement import raw

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")

BUSY_SECONDS = 5.0
"""How long SQLite waits for another process's write before it says that the database is away."""
GROUP = 64
"""The most transactions that share one commit."""


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
            msg = f"the ledger's folder {str(folder)!r} can't be made: {error.strerror}. Set HANDFAST_LEDGER_URL to a writable place"
            raise SettingsError(msg) from error
        self._reader = _Worker(self._engine(), "handfast-ledger-read", writes=False)
        self._writer = _Worker(self._engine(), "handfast-ledger-write", writes=True)
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
        with translated():
            async with self._open_engine.begin() as connection:
                yield connection

    @override
    async def close(self) -> None:
        for worker in (self._reader, self._writer):
            await asyncio.to_thread(worker.stop)
        if self._open_engine is not None:
            await self._open_engine.dispose()


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
