"""Ten activities in a workflow written by hand: what a plan of ten steps is measured against.

Plain, they protect nothing. Written down, each notes in a SQLite file that it begins and how it has ended, as whoever wants no step to
happen twice would do first; undoing, limits, approvals and a chain they still have not.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow

STEPS = 10


@activity.defn
async def step(number: int) -> str:
    return f"{number}" * 100


class Notes:
    """Where steps are written down; what is written survives a power cut."""

    def __init__(self, path: Path) -> None:
        self._notes = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._notes.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE notes (key TEXT PRIMARY KEY, result TEXT);"
        )
        self._one_at_a_time = asyncio.Lock()

    async def note(self, statement: str, *values: str) -> None:
        async with self._one_at_a_time:
            await asyncio.to_thread(self._notes.execute, statement, values)

    @activity.defn
    async def written_step(self, number: int) -> str:
        info = activity.info()
        key = f"{info.workflow_id}/{info.activity_id}"
        await self.note("INSERT OR IGNORE INTO notes VALUES (?, NULL)", key)
        result = f"{number}" * 100
        await self.note("UPDATE notes SET result = ? WHERE key = ?", result, key)
        return result


@workflow.defn
class ByHand:
    @workflow.run
    async def run(self, serial: bool, name: str = "step") -> int:
        def call(number: int) -> Awaitable[str]:
            return workflow.execute_activity(
                name, number, result_type=str, start_to_close_timeout=timedelta(seconds=30)
            )

        if serial:
            return sum([len(await call(number)) for number in range(STEPS)])
        return sum(map(len, await asyncio.gather(*(call(number) for number in range(STEPS)))))
