"""A loop written by hand with the SDK alone: the floor that any engine is measured against. No ledger, no protection."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

with workflow.unsafe.imports_passed_through():
    from benchmarks.peers.base import RESULT, System


@dataclass
class Turn:
    number: int
    turns: int


@activity.defn
async def ask_model(turn: Turn) -> str:
    return "call" if turn.number <= turn.turns else "done"


@activity.defn
async def run_tool(number: int) -> int:
    return len(RESULT)


@workflow.defn
class HandLoop:
    @workflow.run
    async def run(self, turns: int) -> str:
        number = 1
        while True:
            said = await workflow.execute_activity(
                ask_model, Turn(number, turns), start_to_close_timeout=timedelta(seconds=30)
            )
            if said == "done":
                return said
            await workflow.execute_activity(run_tool, number, start_to_close_timeout=timedelta(seconds=30))
            number += 1


class Hand(System):
    def __init__(self, *, sandboxed: bool) -> None:
        self._sandboxed = sandboxed

    @asynccontextmanager
    async def serving(self, address: str, queue: str, turns: int) -> AsyncGenerator[None]:
        self._client, self._queue, self._turns = await Client.connect(address), queue, turns
        runner = SandboxedWorkflowRunner() if self._sandboxed else UnsandboxedWorkflowRunner()
        async with Worker(
            self._client,
            task_queue=queue,
            workflows=[HandLoop],
            activities=[ask_model, run_tool],
            workflow_runner=runner,
        ):
            yield

    async def run(self, run_id: str) -> None:
        await self._client.execute_workflow(HandLoop.run, self._turns, id=run_id, task_queue=self._queue)

    def handle(self, run_id: str) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(run_id)
