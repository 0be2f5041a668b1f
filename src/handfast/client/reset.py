"""Where in Temporal's histories a turn of a run began, and taking the run back there."""

import uuid
from dataclasses import dataclass

from pydantic import BaseModel
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, ResetReapplyExcludeType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client

from handfast.contracts.identity import CALLS
from handfast.contracts.names import MODEL_TURN


@dataclass(frozen=True, kw_only=True)
class Point:
    """The decision to think a turn."""

    execution: str
    """Of the workflow: a run that has continued as new has several."""
    event: int
    """The end of the workflow task that took it."""
    latest: str
    """The execution that runs now, or ran last."""


class _Carried(BaseModel):
    turn: int = 0


class _Request(BaseModel):
    carried: _Carried = _Carried()


class _Activity(BaseModel):
    activity_type: str = ""


async def find_turn(client: Client, run_id: str, turn: int) -> Point | None:
    """Where a turn began, looked for from the newest execution back; None if Temporal does not have it any more.

    Raises:
        RPCError: Temporal does not answer, or does not know the run.
    """
    description = await client.get_workflow_handle(run_id).describe()
    latest = execution = description.run_id
    while execution:
        event, execution_before = await _search(client, run_id, execution, turn)
        if event:
            return Point(execution=execution, event=event, latest=latest)
        execution = execution_before
    return None


async def _search(client: Client, run_id: str, execution: str, turn: int) -> tuple[int, str]:
    """The event in one execution, 0 if it is not there, and the execution before it."""
    before, at = "", 0
    async for event in client.get_workflow_handle(run_id, run_id=execution).fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            started = event.workflow_execution_started_event_attributes
            before = started.continued_execution_run_id
            at = _Request.model_validate_json(started.input.payloads[0].data).carried.turn
        if decided := _thinks(event):
            at += 1
            if at == turn:
                return decided, before
    return 0, before


def _thinks(event: HistoryEvent) -> int:
    """The workflow task that asked the model, if the event is that it did: an activity, or the marker of a local one."""
    scheduled = event.activity_task_scheduled_event_attributes
    if scheduled.activity_type.name == MODEL_TURN:
        return scheduled.workflow_task_completed_event_id
    marker = event.marker_recorded_event_attributes
    for payload in marker.details["data"].payloads if "data" in marker.details else ():
        if _Activity.model_validate_json(payload.data).activity_type == MODEL_TURN:
            return marker.workflow_task_completed_event_id
    return 0


async def reset_to(client: Client, run_id: str, point: Point, branch: int, reason: str) -> None:
    """Let the run go on from a point; what runs of it now is ended. Said again it is the same.

    Raises:
        RPCError: Temporal does not answer, or refuses.
    """
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=run_id, run_id=point.execution),
            reason=reason,
            workflow_task_finish_event_id=point.event,
            # A cancellation was of the branch that is left behind; the words that were said are the user's, and said again.
            reset_reapply_exclude_types=[ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_CANCEL_REQUEST],
            request_id=str(uuid.uuid5(CALLS, f"{run_id}/{branch}")),
        )
    )
