"""Agents and hand-written workflows on one server, in one process: what is measured side by side."""

import logging
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from temporalio.client import Client as Temporal
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from handfast import Agent, Client
from handfast.contracts.upstream import Upstream
from handfast.engine.connect import connect, require_search_attributes
from handfast.engine.embedded import EmbeddedEngine
from handfast.ledger import Ledger
from handfast.settings import Settings
from handfast.workers.worker import make_boundary, make_worker

RUNNERS = {
    "hand-written, sandboxed": SandboxedWorkflowRunner(),
    "hand-written, unsandboxed": UnsandboxedWorkflowRunner(),
}


async def median_ms(run: Callable[[], Awaitable[object]], runs: int) -> float:
    """The median of so many runs, one after the other."""
    took: list[float] = []
    for _ in range(runs):
        began = time.perf_counter()
        await run()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


@asynccontextmanager
async def opened(
    agents: Sequence[Agent],
    *,
    workflows: Sequence[type],
    activities: Sequence[Callable[..., Any]],
    upstreams: Mapping[str, Upstream] | None = None,
) -> AsyncGenerator[tuple[Temporal, Client, dict[str, str]]]:
    """A worker for the agents, and one for the hand-written workflows with each runner; the queues of these by their names."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedEngine(Path(folder)) as embedded:
            settings = Settings(
                home=Path(folder),
                ledger_url=f"sqlite:///{folder}/ledger.db",
                task_queue="bench",
                upstreams=dict(upstreams or {}),
            )
            ledger = Ledger.connect(settings.ledger)
            await ledger.migrate()
            temporal, _ = await connect(settings, embedded.engine.address)
            await require_search_attributes(temporal)
            boundary = make_boundary(agents, ledger, settings)
            others = [(await connect(settings, embedded.engine.address))[0] for _ in RUNNERS]
            queues = {name: f"hand-{number}" for number, name in enumerate(RUNNERS)}
            first, second = (
                Worker(
                    other,
                    task_queue=queues[name],
                    workflows=workflows,
                    activities=activities,
                    workflow_runner=runner,
                )
                for other, (name, runner) in zip(others, RUNNERS.items(), strict=True)
            )
            async with (
                first,
                second,
                make_worker(temporal, boundary, settings),
                await Client.connect(embedded.engine.address, settings=settings) as client,
            ):
                yield others[0], client, queues
            await boundary.close()
            await ledger.close()
