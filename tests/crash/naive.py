"""The loop that people write first: a Temporal workflow whose activities are simply retried. `python -m tests.crash.naive`.

The baseline of the crash campaign. It charges as often as the agent of `tests.crash.worker`, with the same waits.
"""

import asyncio
import os
from datetime import timedelta

import httpx
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.crash.worker import SLOW_SECONDS

ADDRESS = os.environ.get("NAIVE_DOWNSTREAM", "")
CHARGES = 2


@activity.defn
async def charge(ref: str) -> None:
    await asyncio.sleep(SLOW_SECONDS)
    async with httpx.AsyncClient(base_url=ADDRESS) as http:
        wanted = {"ref": ref, "manner": "plain", "answer_after": SLOW_SECONDS}
        (await http.post("/charges", json=wanted)).raise_for_status()


@workflow.defn
class NaiveRun:
    @workflow.run
    async def run(self) -> None:
        for number in range(CHARGES):
            ref = f"{workflow.info().workflow_id}-{number}"
            await workflow.execute_activity(
                charge, ref, start_to_close_timeout=timedelta(seconds=2), heartbeat_timeout=timedelta(seconds=1.5)
            )


async def serve() -> None:
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"])
    async with Worker(
        client,
        task_queue=os.environ["HANDFAST_TASK_QUEUE"],
        workflows=[NaiveRun],
        activities=[charge],
        max_concurrent_activities=10,
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
