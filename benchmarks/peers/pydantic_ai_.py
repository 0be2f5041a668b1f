"""pydantic-ai with its Temporal integration."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from pydantic_ai import Agent
from pydantic_ai.durable_exec.temporal import PydanticAIPlugin, PydanticAIWorkflow, TemporalAgent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import UsageLimits
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from benchmarks.peers.base import RESULT, System

TURNS = 0


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    asked = sum(isinstance(message, ModelResponse) for message in messages)
    if asked >= TURNS:
        return ModelResponse(parts=[TextPart("done")])
    return ModelResponse(parts=[ToolCallPart("run_tool", {"number": asked})])


agent = Agent(FunctionModel(answer), name="bench", instructions="Run.")


@agent.tool_plain
async def run_tool(number: int) -> str:
    """Run."""
    return RESULT


durable = TemporalAgent(agent)


@workflow.defn
class PydanticAiLoop(PydanticAIWorkflow):
    __pydantic_ai_agents__: ClassVar = [durable]

    @workflow.run
    async def run(self, text: str) -> str:
        return (await durable.run(text, usage_limits=UsageLimits(request_limit=10_000))).output


class PydanticAi(System):
    @asynccontextmanager
    async def serving(self, address: str, queue: str, turns: int) -> AsyncGenerator[None]:
        global TURNS
        TURNS = turns
        self._client, self._queue = await Client.connect(address, plugins=[PydanticAIPlugin()]), queue
        async with Worker(self._client, task_queue=queue, workflows=[PydanticAiLoop]):
            yield

    async def run(self, run_id: str) -> None:
        await self._client.execute_workflow(PydanticAiLoop.run, "Go", id=run_id, task_queue=self._queue)

    def handle(self, run_id: str) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(run_id)
