"""A worker process from start to drain: what `handfast worker` and `handfast dev` run."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from handfast.activities.boundary import Boundary
from handfast.activities.watchdog import Watchdog
from handfast.contracts.agent import Agent
from handfast.contracts.errors import LedgerError
from handfast.engine.connect import connect, require_search_attributes
from handfast.engine.versions import require_server_version
from handfast.ledger import Ledger
from handfast.settings import Settings
from handfast.telemetry import traced
from handfast.workers.health import health_endpoints
from handfast.workers.notifier import Notifier
from handfast.workers.sweeper import Sweeper
from handfast.workers.worker import make_boundary, make_worker

log = structlog.get_logger()


async def serve(
    agents: Sequence[Agent], settings: Settings, *, address: str = "", migrate: bool = False, queues: Sequence[str] = ()
) -> None:
    """Serve agents until SIGTERM or SIGINT, then drain.

    Args:
        agents: What to serve.
        settings: How.
        address: Temporal's, unless configured.
        migrate: Bring the ledger to this version first, as the embedded mode does.
        queues: Task queues of tools to serve instead of the runs' queue.

    Raises:
        HandfastError: Something does not fit; nothing was served.
    """
    stop, began = asyncio.Event(), asyncio.Event()
    starting = asyncio.current_task()

    def end() -> None:
        # Before it serves there is nothing to drain, and what it waits for may never come.
        if not began.is_set() and not stop.is_set() and starting is not None:
            starting.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    with traced("handfast-worker"):
        ledger = Ledger.connect(settings.ledger)
        try:
            if migrate:
                await ledger.migrate()
            await ledger.require_newest()
            async with _serving(agents, ledger, settings, address, queues, stop):
                began.set()
                await stop.wait()
                log.info("draining", seconds=settings.drain_seconds)
        except asyncio.CancelledError:
            if began.is_set() or not stop.is_set():
                raise
        finally:
            await ledger.close()
    log.info("stopped")


@asynccontextmanager
async def _serving(
    agents: Sequence[Agent],
    ledger: Ledger,
    settings: Settings,
    address: str,
    queues: Sequence[str],
    stop: asyncio.Event,
) -> AsyncGenerator[None]:
    boundary = make_boundary(agents, ledger, settings)
    client, engine = await connect(settings, address)
    await require_server_version(client, engine.address)
    await require_search_attributes(client)
    first, *others = queues or (settings.task_queue,)
    workers = [make_worker(client, boundary, settings, task_queue=first)]
    for queue in others:
        # A client for each worker: two on one client and build id are refused.
        another, _ = await connect(settings, address)
        workers.append(make_worker(another, boundary, settings, task_queue=queue))

    async def missing() -> dict[str, str]:
        faults: dict[str, str] = {}
        try:
            await ledger.require_newest()
        except LedgerError as error:
            faults["ledger"] = str(error)
        try:
            await client.service_client.check_health()
        except RPCError as error:
            faults["temporal"] = error.message
        if stop.is_set():
            faults["worker"] = "draining"
        return faults

    async with health_endpoints(settings.health_host, settings.health_port, missing):
        running = [asyncio.create_task(worker.run()) for worker in workers]
        watching = (
            asyncio.create_task(Watchdog(settings.watchdog_seconds).watch()) if settings.watchdog_seconds else None
        )
        sweeping = _sweep(client, boundary, settings) if first == settings.task_queue else None
        notifying = _notify(client, boundary, settings) if first == settings.task_queue else None
        for task in running:
            task.add_done_callback(lambda _: stop.set())
        log.info(
            "serving",
            agents=sorted(boundary.registry.agents),
            tools=sorted(boundary.registry.tools),
            queues=list(queues or (settings.task_queue,)),
            temporal=engine.address,
        )
        try:
            yield
        finally:
            for worker in workers:
                with suppress(RuntimeError):
                    await worker.shutdown()
            await asyncio.gather(*running)
            for background in filter(None, (watching, sweeping, notifying)):
                background.cancel()
            await boundary.close()


def _notify(temporal: Client, boundary: Boundary, settings: Settings) -> "asyncio.Task[None] | None":
    """Tell people that calls wait for them, beside the work."""
    if not settings.notify_seconds:
        return None
    notifier = Notifier(
        temporal, boundary.ledger, boundary.registry, boundary.permission, settings.channels, boundary.credentials
    )
    return asyncio.create_task(notifier.watch(settings.notify_seconds))


def _sweep(temporal: Client, boundary: Boundary, settings: Settings) -> "asyncio.Task[None] | None":
    """Look for runs that were ended from outside, beside the work."""
    if not settings.sweep_seconds:
        return None
    sweeper = Sweeper(temporal, boundary.ledger, boundary.registry, task_queue=settings.task_queue)
    return asyncio.create_task(sweeper.watch(settings.sweep_seconds))
