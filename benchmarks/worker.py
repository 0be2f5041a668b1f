"""A worker process for the recovery benchmark: `python -m benchmarks.worker` under `handfast worker`'s settings."""

import asyncio
from datetime import timedelta

from handfast import Agent, Effect, Limits, Script, Tier, ask, tool


@tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="bench:run", timeout=timedelta(seconds=10))
async def take_a_second(number: int) -> str:
    """Take a second, so that a kill lands in the middle."""
    await asyncio.sleep(1)
    return "x" * 2000


agent = Agent(
    name="bench",
    instructions="Run.",
    model=Script([*(ask("take_a_second", number=n) for n in range(3)), "done"]),
    tools=[take_a_second],
    limits=Limits(turns=100, wall_time=timedelta(hours=1)),
)
