"""Holdfast: SQLite ledger with full synchronisation, reserve and settle for each call, results by reference."""

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle

from benchmarks.peers.base import RESULT, System
from holdfast import Agent, Client, Effect, Lane, Limits, Script, Tier, ask, tool
from holdfast.engine.connect import connect, require_search_attributes
from holdfast.ledger import Ledger
from holdfast.logs import configure_logs
from holdfast.settings import Settings
from holdfast.workers.worker import make_boundary, make_worker


class Holdfast(System):
    def __init__(
        self, *, effect: Effect = Effect.KEYED, lane: Lane = Lane.STANDARD, model_lane: Lane = Lane.STANDARD
    ) -> None:
        self._model_lane = model_lane
        tier = Tier.READ_ONLY if effect is Effect.READ else Tier.REVERSIBLE

        @tool(version="1.0.0", effect=effect, tier=tier, scope="bench:run", lane=lane, timeout=timedelta(seconds=2))
        async def run_tool(number: int) -> str:
            """Run."""
            return RESULT

        self._tool = run_tool

    @asynccontextmanager
    async def serving(self, address: str, queue: str, turns: int) -> AsyncGenerator[None]:
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(home=Path(folder), ledger_url=f"sqlite:///{folder}/ledger.db", task_queue=queue)
            configure_logs(settings)
            agent = Agent(
                name="bench",
                instructions="Run.",
                model=Script([*(ask("run_tool", number=n) for n in range(turns)), "done"], lane=self._model_lane),
                tools=[self._tool],
                limits=Limits(turns=turns * 2 + 2, calls=turns * 2 + 2, tokens=10**9, wall_time=timedelta(hours=1)),
            )
            ledger = Ledger.connect(settings.ledger)
            env = {**os.environ, "HOLDFAST_LEDGER_URL": settings.ledger}
            subprocess.run(
                [sys.executable, "-m", "holdfast.client.cli", "ledger", "migrate"],
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

    async def run(self, run_id: str) -> None:
        run = await self._client.start("bench", "Go", id=run_id)
        await run.handle.result()

    def handle(self, run_id: str) -> WorkflowHandle[Any, Any]:
        return self._client.run(run_id).handle
