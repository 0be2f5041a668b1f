"""An agent whose calls wait until a test lets them go on, and leave a line each in a log."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

from handfast import Agent, Effect, Script, Tier, ask, tool

FOLDER = Path(os.environ.get("SLOW_FOLDER", "/nonexistent"))


@tool(
    version="1.0.0",
    effect=Effect(os.environ.get("SLOW_EFFECT", "ONCE")),
    tier=Tier.REVERSIBLE,
    scope="x:y",
    timeout=timedelta(seconds=30),
)
async def step(n: int) -> int:
    """Make a step."""
    (FOLDER / f"begun-{n}").touch()
    while not (FOLDER / f"go-{n}").exists():
        await asyncio.sleep(0.02)
    with (FOLDER / "log").open("a") as log:
        log.write(f"{n}\n")
    return n


slow = Agent(name="slow", model=Script([ask("step", n=1), ask("step", n=2), "done"]), instructions="Go.", tools=[step])
