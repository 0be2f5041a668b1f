"""The OpenAI Agents SDK with its Temporal plugin."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from agents import Agent, Model, ModelProvider, ModelResponse, Runner, Usage, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.openai_agents import ModelActivityParameters, OpenAIAgentsPlugin
from temporalio.openai_agents.workflow import activity_as_tool
from temporalio.worker import Worker

from benchmarks.peers.base import RESULT, System

TURNS = 0


class Scripted(Model):
    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:  # noqa: A002
        asked = sum(isinstance(item, dict) and item.get("type") == "function_call" for item in input)
        if asked < TURNS:
            output: Any = ResponseFunctionToolCall(
                arguments=f'{{"number": {asked}}}', call_id=f"c{asked}", name="run_tool", type="function_call"
            )
        else:
            text = ResponseOutputText(annotations=[], text="done", type="output_text")
            output = ResponseOutputMessage(id="", content=[text], role="assistant", status="completed", type="message")
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


class Provider(ModelProvider):
    def get_model(self, model_name: str | None) -> Model:
        return Scripted()


@activity.defn
async def run_tool(number: int) -> str:
    """Run."""
    return RESULT


@workflow.defn
class OpenAiLoop:
    @workflow.run
    async def run(self, text: str) -> str:
        tool = activity_as_tool(run_tool, start_to_close_timeout=timedelta(seconds=30))
        agent = Agent(name="bench", instructions="Run.", model="scripted", tools=[tool])
        return str((await Runner.run(agent, input=text, max_turns=10_000)).final_output)


class OpenAiAgents(System):
    @asynccontextmanager
    async def serving(self, address: str, queue: str, turns: int) -> AsyncGenerator[None]:
        global TURNS
        TURNS = turns
        set_tracing_disabled(disabled=True)
        plugin = OpenAIAgentsPlugin(
            model_params=ModelActivityParameters(start_to_close_timeout=timedelta(seconds=30)),
            model_provider=Provider(),
        )
        self._client, self._queue = await Client.connect(address, plugins=[plugin]), queue
        async with Worker(self._client, task_queue=queue, workflows=[OpenAiLoop], activities=[run_tool]):
            yield

    async def run(self, run_id: str) -> None:
        await self._client.execute_workflow(OpenAiLoop.run, "Go", id=run_id, task_queue=self._queue)

    def handle(self, run_id: str) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(run_id)
