"""What the ledger says when its database fails: each failure provoked in a real PostgreSQL, where whoever can wait must wait."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
from sqlalchemy import Connection, make_url, text

from handfast import LedgerUnavailable
from handfast.contracts.errors import LedgerError, LedgerSchemaError
from handfast.ledger import Ledger
from handfast.ledger import postgres as postgres_module
from handfast.ledger.runs import NewRun
from tests.conftest import new_database, start_postgres


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL server that may be stopped and frozen."""
    server = start_postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.cleanup()


@pytest.fixture
async def url(server: Any) -> str:
    """A database with the ledger's tables."""
    url = new_database(server)
    async with connected(url) as ledger:
        await ledger.migrate()
    return url


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Ledger]:
    ledger = Ledger.connect(url)
    try:
        yield ledger
    finally:
        await ledger.close()


def new_run(number: int) -> NewRun:
    return NewRun(run_id=f"r{number}", agent="a", text="Go", user="ada", tenant="t")


def database_of(url: str) -> str:
    return make_url(url).database or ""


def as_user(url: str, name: str) -> str:
    return make_url(url).set(username=name).render_as_string(hide_password=False)


async def test_a_server_that_restarts_only_ever_keeps_its_callers_waiting(server: Any, url: str) -> None:
    """It also answers while it shuts down and while it starts: that it does not serve anybody."""
    said: Counter[str] = Counter()
    stopped = False

    async with connected(url) as ledger:

        async def write(first: int) -> int:
            number = first
            while not stopped:
                try:
                    await ledger.request_run(new_run(number))
                    number += 8
                except LedgerUnavailable as away:
                    said["refused" if "database system" in str(away) else "gone"] += 1
                    await asyncio.sleep(0.001)
            return number

        writers = [asyncio.create_task(write(first)) for first in range(8)]
        restarts = 0
        while restarts < 3 or (not said["refused"] and restarts < 30):
            await asyncio.sleep(0.1)
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.ensure_postgres_running)
            restarts += 1
        stopped = True
        ends = await asyncio.gather(*writers)
        assert said["refused"], said
        written = {f"r{number}" for first, end in enumerate(ends) for number in range(first, end, 8)}
        assert written <= set(await ledger.run_ids())


async def test_a_server_that_hangs_keeps_its_callers_waiting(
    server: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More callers than connections: some wait for an answer, some for a connection."""
    monkeypatch.setattr(postgres_module, "COMMAND_SECONDS", 1.0)
    async with connected(url) as ledger:
        await asyncio.gather(*(ledger.request_run(new_run(number)) for number in range(30)))
        main = psutil.Process(server.get_pid())
        frozen = [main, *main.children(recursive=True)]
        try:
            for process in frozen:
                process.suspend()
            writes = (ledger.request_run(new_run(number)) for number in range(30, 60))
            ends = await asyncio.gather(*writes, return_exceptions=True)
        finally:
            for process in frozen:
                process.resume()
        assert Counter(type(end).__name__ for end in ends) == {"LedgerUnavailable": 30}
        for number in range(30, 60):
            await ledger.request_run(new_run(number))
        assert len(await ledger.run_ids()) == 60


@pytest.mark.parametrize("limit", ["statement", "lock", "transaction"])
async def test_a_statement_that_takes_too_long_keeps_its_caller_waiting(server: Any, url: str, limit: str) -> None:
    async with connected(url) as other, connected(url) as ledger:
        async with other.open() as beside:
            await beside.execute(text("lock table runs in exclusive mode"))
            server.psql(f"alter database {database_of(url)} set {limit}_timeout = '100ms';")
            with pytest.raises(LedgerUnavailable, match=f"{limit} timeout"):
                await ledger.request_run(new_run(1))
        assert (await ledger.request_run(new_run(1))).run_id == "r1"


async def test_a_server_that_takes_no_writes_keeps_its_callers_waiting(server: Any, url: str) -> None:
    """As one does that has become the standby of another."""
    server.psql(f"alter database {database_of(url)} set default_transaction_read_only = on;")
    async with connected(url) as ledger:
        with pytest.raises(LedgerUnavailable, match="read-only transaction"):
            await ledger.request_run(new_run(1))
        assert await ledger.run_ids() == []


async def test_a_server_with_no_room_for_another_connection_keeps_its_callers_waiting(server: Any, url: str) -> None:
    server.psql("create role guest login connection limit 0;")
    async with connected(as_user(url, "guest")) as ledger:
        with pytest.raises(LedgerUnavailable, match="too many connections"):
            await ledger.run_ids()


async def test_two_transactions_that_wait_for_each_other_are_repeated(url: str) -> None:
    """PostgreSQL ends one of them, which is nobody's fault."""
    async with connected(url) as ledger:
        await ledger.request_run(new_run(1))
        await ledger.request_run(new_run(2))
        tries: Counter[str] = Counter()

        def lock(connection: Connection, *names: str) -> None:
            tries[names[0]] += 1
            for name in names:
                query = text("select run_id from runs where run_id = :name for update")
                connection.execute(query, {"name": name})
                connection.execute(text("select pg_sleep(0.3)"))

        await asyncio.gather(ledger.write(lock, "r1", "r2"), ledger.write(lock, "r2", "r1"))
        assert sorted(tries.values()) == [1, 2]


async def test_a_connection_that_an_operator_ends_is_made_again(server: Any, url: str) -> None:
    async with connected(url) as ledger:
        tries = 0

        def killed(connection: Connection) -> None:
            nonlocal tries
            tries += 1
            connection.execute(text("select pg_sleep(0.5)"))

        writing = asyncio.create_task(ledger.write(killed))
        await asyncio.sleep(0.2)
        server.psql("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid();")
        await writing
        assert tries == 2


async def test_a_login_or_a_database_that_is_not_there_is_not_taken_for_missing_tables(url: str) -> None:
    nowhere = make_url(url).set(database="nowhere").render_as_string(hide_password=False)
    for other, why in ((as_user(url, "nobody"), 'role "nobody"'), (nowhere, 'database "nowhere"')):
        async with connected(other) as ledger:
            with pytest.raises(LedgerUnavailable, match=f"{why} does not exist"):
                await ledger.run_ids()


async def test_what_it_refuses_for_good_is_not_waited_for(url: str) -> None:
    def ask(connection: Connection, statement: str) -> None:
        connection.execute(text(statement))

    async with connected(url) as ledger:
        with pytest.raises(LedgerError, match="division by zero") as refused:
            await ledger.write(ask, "select 1 / 0")
        assert type(refused.value) is LedgerError
        for missing in ("select * from none", "select nothing from runs"):
            with pytest.raises(LedgerSchemaError, match="handfast ledger migrate"):
                await ledger.write(ask, missing)
