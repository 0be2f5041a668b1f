"""An agent whose tool blocks the event loop the first time."""

import os
import time
from pathlib import Path

from handfast import Agent, Effect, Script, Tier, ask, tool

MARK = Path(os.environ.get("BLOCK_MARK", "/nonexistent"))


@tool(version="1.0.0", effect=Effect.IDEMPOTENT, tier=Tier.REVERSIBLE, scope="x:y")
async def block() -> str:
    """Block."""
    if not MARK.exists():  # noqa: ASYNC240 - it blocks anyway
        MARK.touch()  # noqa: ASYNC240
        time.sleep(60)  # noqa: ASYNC251 - that is the fault
    return "done"


agent = Agent(name="blocker", model=Script([ask("block"), "done"]), instructions="Block.", tools=[block])
