"""`python -m benchmarks.measure SYSTEM WHAT ADDRESS`: one measurement of one system in a process of its own, as JSON.

WHAT is `speed` (10 turns: latency one run at a time, throughput with 20 at once, peak memory) or `history` (bytes of
Temporal history by turn).
"""

import asyncio
import json
import logging
import os
import resource
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from benchmarks.peers.base import System

TURNS = 10
WARM_UP, ONE_BY_ONE, AT_ONCE, TOGETHER = 5, 25, 20, 100
HISTORY_TURNS = {"pydantic-ai": 60, "openai-agents": 60}
LONG = 300


def hand(*, sandboxed: bool) -> System:
    from benchmarks.peers.hand import Hand

    return Hand(sandboxed=sandboxed)


def handfast(**options: Any) -> System:
    from benchmarks.peers.handfast_ import Handfast

    return Handfast(**options)


def pydantic_ai() -> System:
    from benchmarks.peers.pydantic_ai_ import PydanticAi

    return PydanticAi()


def openai_agents() -> System:
    from benchmarks.peers.openai_agents_ import OpenAiAgents

    return OpenAiAgents()


def _effect(name: str) -> Any:
    from handfast import Effect

    return Effect(name)


SYSTEMS: dict[str, Callable[[], System]] = {
    "hand-written, sandboxed": lambda: hand(sandboxed=True),
    "hand-written, unsandboxed": lambda: hand(sandboxed=False),
    "handfast, KEYED": handfast,
    "handfast, KEYED, PostgreSQL": lambda: handfast(postgres=True),
    "handfast, READ": lambda: handfast(effect=_effect("READ")),
    "handfast, fast lane": lambda: handfast(lane="fast"),
    "handfast, fast lane, model too": lambda: handfast(lane="fast", model_lane="fast"),
    "pydantic-ai": pydantic_ai,
    "openai-agents": openai_agents,
}


async def speed(system: System, address: str) -> dict[str, Any]:
    """Median latency of single runs, throughput of many with the latency of their calls, peak memory and CPU of this process."""
    async with system.serving(address, f"bench-{uuid.uuid4().hex[:8]}", TURNS):
        for _ in range(WARM_UP):
            await system.run(uuid.uuid4().hex)
        system.protocol_ms()
        latencies: list[float] = []
        for _ in range(ONE_BY_ONE):
            began = time.perf_counter()
            await system.run(uuid.uuid4().hex)
            latencies.append(time.perf_counter() - began)
        alone = system.protocol_ms()
        slots = asyncio.Semaphore(AT_ONCE)

        ids = [uuid.uuid4().hex for _ in range(TOGETHER)]

        async def one(run_id: str) -> None:
            async with slots:
                await system.run(run_id)

        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(one(run_id) for run_id in ids))
        took = time.perf_counter() - began
        calls = [ms for run_id in ids[AT_ONCE : AT_ONCE * 2] for ms in await call_milliseconds(system, run_id)]
        return {
            "protocol_ms": alone,
            "protocol_at_once_ms": system.protocol_ms(),
            "call_ms": statistics.median(calls) if calls else 0.0,
            "latency_ms": statistics.median(latencies) * 1000,
            "runs_per_second": TOGETHER / took,
            "cpu_ms": (time.process_time() - cpu) / TOGETHER * 1000,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


async def call_milliseconds(system: System, run_id: str) -> list[float]:
    """From the scheduling of each tool activity to its reported end; nothing for local activities."""
    started: dict[int, int] = {}
    number = 0
    took: list[float] = []
    async for event in system.handle(run_id).fetch_history_events():
        at = event.event_time.ToNanoseconds()
        if event.HasField("activity_task_scheduled_event_attributes"):
            number += 1
            if number % 2 == 0:
                started[event.event_id] = at
        ended = event.activity_task_completed_event_attributes.scheduled_event_id
        if ended in started:
            took.append((at - started[ended]) / 1e6)
    return took


async def history(system: System, address: str, turns: int) -> dict[str, Any]:
    """Bytes of history up to the end of each turn."""
    async with system.serving(address, f"bench-{uuid.uuid4().hex[:8]}", turns):
        run_id = uuid.uuid4().hex
        await system.run(run_id)
        sizes: list[int] = []
        total = scheduled = 0
        async for event in system.handle(run_id).fetch_history_events():
            total += event.ByteSize()
            if event.HasField("activity_task_scheduled_event_attributes"):
                scheduled += 1
                if scheduled % 2:
                    sizes.append(total)
        return {"sizes": [*sizes, total], "turns": turns}


async def main(name: str, what: str, address: str) -> None:
    logging.disable(logging.WARNING)
    system = SYSTEMS[name]()
    if what == "speed":
        result = await speed(system, address)
    else:
        result = await history(system, address, HISTORY_TURNS.get(name, LONG))
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    # The SDK's native threads may crash an interpreter that is being taken down, after everything was measured.
    sys.stdout.flush()
    os._exit(0)
