"""What the tests of the loop share: an agent with a script, and a tool to call."""

import uuid
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, ResetReapplyExcludeType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowHandle

from handfast import (
    Agent,
    Client,
    Effect,
    Limits,
    Script,
    Tier,
    tool,
)  # fmt: skip
from handfast.contracts.tool import Tool

ROOMY = Limits(turns=100, calls=1000, tokens=10_000_000, cost_usd=10, wall_time=timedelta(hours=1))


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="numbers:read")
async def double(n: int) -> int:
    """Double a number."""
    return 2 * n


def agent(steps: Any, *tools: Tool, **options: Any) -> Agent:
    options = {"name": "tester", "instructions": "Test.", "limits": ROOMY, **options}
    return Agent(model=Script(steps), tools=tools, **options)


async def settled(run: Any, count: int) -> bool:
    return sum(operation.outcome is not None for operation in await run.operations()) >= count


async def reset(
    client: Client, run_id: str, activities: int, *, forget_updates: bool = False
) -> WorkflowHandle[Any, Any]:
    """Reset a workflow, as an operator does, to its first decision after so many of its activities had ended.

    Unless told to forget them, Temporal applies the updates that came after that point again.
    """
    handle = client.temporal.get_workflow_handle(run_id)
    ended, point = 0, 0
    async for event in handle.fetch_history_events():
        ended += event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED and ended >= activities:
            point = event.event_id
            break
    answer = await client.temporal.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.temporal.namespace,
            workflow_execution=WorkflowExecution(workflow_id=run_id),
            reason="an operator",
            request_id=str(uuid.uuid4()),
            workflow_task_finish_event_id=point,
            reset_reapply_exclude_types=[ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE]
            if forget_updates
            else [],
        )
    )
    return client.temporal.get_workflow_handle(run_id, run_id=answer.run_id)
