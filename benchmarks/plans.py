"""`python -m benchmarks.plans`: a plan beside workflows of the same steps, written by hand, and a plan of 1,000 reads at once."""

import asyncio
import resource
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client as Temporal

from benchmarks.beside import median_ms, opened
from benchmarks.peers.calling import Calls
from benchmarks.peers.steps import STEPS, ByHand, Notes, step
from benchmarks.service import serving
from handfast import Agent, Client, Effect, Lane, Limits, Plan, Tier, ToolContext, tool
from handfast.contracts.upstream import Upstream

RUNS, WARM_UP = 60, 5
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


@tool(
    version="1.0.0",
    effect=Effect.KEYED,
    tier=Tier.REVERSIBLE,
    scope="bench:run",
    timeout=timedelta(seconds=30),
)
async def calling(number: int, ctx: ToolContext) -> str:
    """Call the service."""
    return str((await ctx.http("service").post("/work", json={"number": number})).json()["done"])


TOOLS = [
    stepping("read", Effect.READ),
    stepping("keyed", Effect.KEYED),
    stepping("fast", Effect.KEYED, Lane.FAST),
    calling,
]


def plan(name: str, *, serial: bool) -> Plan:
    def one(number: int) -> dict[str, Any]:
        before = [f"s{number - 1}"] if serial and number else []
        return {"tool": name, "with": {"number": number}, "depends_on": before, "stands": True}

    return Plan.model_validate(
        {"name": f"{name}-{serial}", "agent": "bench", "steps": {f"s{number}": one(number) for number in range(STEPS)}}
    )


Systems = dict[str, Callable[[bool], Awaitable[None]]]
"""By name: what carries out the steps, one after the other or side by side."""


def all_systems(temporal: Temporal, client: Client, queues: dict[str, str]) -> tuple[Systems, Systems]:
    """Those whose steps do nothing, and those whose steps call the service; what the others are measured against comes first."""

    def by_hand(step: str, queue: str = "") -> Callable[[bool], Awaitable[None]]:
        async def run(serial: bool) -> None:
            task_queue = queue or next(iter(queues.values()))
            await temporal.execute_workflow(ByHand.run, args=[serial, step], id=uuid.uuid4().hex, task_queue=task_queue)

        return run

    def planned(name: str) -> Callable[[bool], Awaitable[None]]:
        async def run(serial: bool) -> None:
            # Like the other, until Temporal says that it has ended; what the ledger keeps is not read.
            started = await client.start_plan(plan(name, serial=serial), id=uuid.uuid4().hex)
            await started.handle.result()

        return run

    idle = {name: by_hand("step", queue) for name, queue in queues.items()}
    idle["hand-written, written down"] = by_hand("written_step")
    idle |= {f"plan, {name}": planned(name) for name in ("read", "keyed", "fast")}
    return idle, {"hand-written, calling": by_hand("calling_step"), "plan, calling": planned("calling")}


async def compare(systems: Systems, bases: Sequence[str]) -> None:
    """Run by run in turn, so that what else the machine does meets all of them."""
    found: dict[tuple[str, bool], list[float]] = {}
    for serial in (True, False):
        for one in systems.values():
            for _ in range(WARM_UP):
                await one(serial)
        for _ in range(RUNS):
            for name, one in systems.items():
                found.setdefault((name, serial), []).append(await median_ms(lambda: one(serial), 1))  # noqa: B023 - awaited here
    print(f"{STEPS} steps, ms a run, medians of {RUNS} runs in turn; ratios to {' and to '.join(bases)}")
    for serial in (True, False):
        for name in systems:
            ms = statistics.median(found[name, serial])
            ratios = "".join(f"{ms / statistics.median(found[base, serial]):8.2f}x" for base in bases)
            print(f"{'one after the other' if serial else 'side by side':22}{name:28}{ms:8.1f}{ratios}")


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
    bench = Agent(name="bench", tools=TOOLS, limits=LIMITS)
    with tempfile.TemporaryDirectory() as folder:
        notes = Notes(Path(folder) / "notes.db")
        async with serving() as address:
            activities = [step, notes.written_step, Calls(address).calling_step]
            services = {"service": Upstream(base_url=address)}
            opening = opened([bench], workflows=[ByHand], activities=activities, upstreams=services)
            async with opening as (temporal, client, queues):
                idle, calling = all_systems(temporal, client, queues)
                await compare(calling, list(calling)[:1])
                await compare(idle, [next(iter(queues)), "hand-written, written down"])
                await many(client)


if __name__ == "__main__":
    asyncio.run(main())
