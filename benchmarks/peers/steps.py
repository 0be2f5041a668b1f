"""Ten activities in a workflow written by hand: what a plan of ten steps is measured against."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

from temporalio import activity, workflow

STEPS = 10


@activity.defn
async def step(number: int) -> str:
    return f"{number}" * 100


@workflow.defn
class ByHand:
    @workflow.run
    async def run(self, serial: bool) -> int:
        def call(number: int) -> Awaitable[str]:
            return workflow.execute_activity(step, number, start_to_close_timeout=timedelta(seconds=30))

        if serial:
            return sum([len(await call(number)) for number in range(STEPS)])
        return sum(map(len, await asyncio.gather(*(call(number) for number in range(STEPS)))))
