"""`python -m benchmarks.plans`: a plan beside hand-written workflows of the same steps, and a plan of 1,000 reads at once."""

import asyncio
import logging
import resource
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client as Temporal
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from benchmarks.peers.steps import STEPS, ByHand, step
from holdfast import Agent, Client, Effect, Lane, Limits, Plan, Tier, tool
from holdfast.engine.connect import connect, require_search_attributes
from holdfast.engine.embedded import EmbeddedEngine
from holdfast.ledger import Ledger
from holdfast.settings import Settings
from holdfast.workers.worker import make_boundary, make_worker

ROUNDS, RUNS, WARM_UP = 5, 12, 4
MANY = 1000
LIMITS = Limits(turns=10**6, calls=10**6, wall_time=timedelta(hours=1))


def stepping(name: str, effect: Effect, lane: Lane = Lane.STANDARD) -> Any:
    @tool(
        name=name, version="1.0.0", effect=effect, tier=Tier.READ_ONLY if effect is Effect.READ else Tier.REVERSIBLE,
        scope="bench:run", lane=lane, timeout=timedelta(seconds=2),
    )  # fmt: skip
    async def act(number: int) -> str:
        """Step."""
        return f"{number}" * 100

    return act


TOOLS = [stepping("read", Effect.READ), stepping("keyed", Effect.KEYED), stepping("fast", Effect.KEYED, Lane.FAST)]


def plan(name: str, *, serial: bool) -> Plan:
    def one(number: int) -> dict[str, Any]:
        before = [f"s{number - 1}"] if serial and number else []
        return {"tool": name, "with": {"number": number}, "depends_on": before, "stands": True}

    return Plan.model_validate(
        {"name": f"{name}-{serial}", "agent": "bench", "steps": {f"s{number}": one(number) for number in range(STEPS)}}
    )


async def median_ms(run: Callable[[], Awaitable[object]]) -> float:
    took: list[float] = []
    for _ in range(RUNS):
        began = time.perf_counter()
        await run()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


async def side_by_side(temporal: Temporal, client: Client, queues: dict[str, str]) -> None:
    async def by_hand(queue: str, serial: bool) -> None:
        await temporal.execute_workflow(ByHand.run, serial, id=uuid.uuid4().hex, task_queue=queue)

    async def planned(name: str, serial: bool) -> None:
        # Like the other, until Temporal says that it has ended; what the ledger keeps is not read.
        run = await client.start_plan(plan(name, serial=serial), id=uuid.uuid4().hex)
        await run.handle.result()

    systems: dict[str, Callable[[bool], Awaitable[None]]] = {
        **{name: lambda serial, queue=queue: by_hand(queue, serial) for name, queue in queues.items()},  # type: ignore[misc]
        **{f"plan, {name}": lambda serial, name=name: planned(name, serial) for name in ("read", "keyed", "fast")},  # type: ignore[misc]
    }
    found: dict[tuple[str, bool], list[float]] = {}
    for serial in (True, False):
        for one in systems.values():
            for _ in range(WARM_UP):
                await one(serial)
        for _ in range(ROUNDS):
            for name, one in systems.items():
                found.setdefault((name, serial), []).append(await median_ms(lambda: one(serial)))  # noqa: B023 - awaited here
    print(f"{STEPS} steps, ms a run, medians of {ROUNDS} rounds of {RUNS} runs; ratios to {next(iter(queues))}")
    for serial in (True, False):
        base = statistics.median(found[next(iter(queues)), serial])
        for name in systems:
            ms = statistics.median(found[name, serial])
            print(f"{'one after the other' if serial else 'side by side':22}{name:28}{ms:8.1f}{ms / base:8.2f}x")


async def many(client: Client) -> None:
    steps = {"all": {"tool": "read", "for_each": "${request.all}", "with": {"number": "${item}"}, "parallel": 100}}
    wide = Plan.model_validate({"name": "many", "agent": "bench", "request": {"all": "array"}, "steps": steps})
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    run = await client.start_plan(wide, {"all": list(range(MANY))}, id=uuid.uuid4().hex)
    await run.result()
    took = time.perf_counter() - began
    events = [event async for event in run.handle.fetch_history_events()]
    size = sum(event.ByteSize() for event in events)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{MANY} reads, 100 at once: {took:.1f} s, history {size / 1e6:.2f} MB in {len(events)} events, "
        f"peak memory of the worker and client {grown:.0f} MB above what it was"
    )


async def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedEngine(Path(folder)) as embedded:
            settings = Settings(home=Path(folder), ledger_url=f"sqlite:///{folder}/ledger.db", task_queue="plans")
            ledger = Ledger.connect(settings.ledger)
            await ledger.migrate()
            temporal, _ = await connect(settings, embedded.engine.address)
            await require_search_attributes(temporal)
            boundary = make_boundary([Agent(name="bench", tools=TOOLS, limits=LIMITS)], ledger, settings)
            others = [(await connect(settings, embedded.engine.address))[0] for _ in range(2)]
            runners = {
                "hand-written, sandboxed": SandboxedWorkflowRunner(),
                "hand-written, unsandboxed": UnsandboxedWorkflowRunner(),
            }
            queues = {name: f"hand-{number}" for number, name in enumerate(runners)}
            workers = [
                Worker(other, task_queue=queues[name], workflows=[ByHand], activities=[step], workflow_runner=runner)
                for other, (name, runner) in zip(others, runners.items(), strict=True)
            ]
            async with (
                workers[0],
                workers[1],
                make_worker(temporal, boundary, settings),
                await Client.connect(embedded.engine.address, settings=settings) as client,
            ):
                await side_by_side(others[0], client, queues)
                await many(client)
            await boundary.close()
            await ledger.close()


if __name__ == "__main__":
    asyncio.run(main())
