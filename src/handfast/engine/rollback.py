"""Starting the workflow that undoes a run which is over."""

import contextlib

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from handfast.contracts import names
from handfast.contracts.timing import TASK_TIME
from handfast.contracts.wire import RunClosed
from handfast.contracts.wire_undo import RollbackRequest


async def start_rollback(temporal: Client, run_id: str, request: RollbackRequest, task_queue: str) -> None:
    """Start it, unless it goes on already: on the queue where the run was, as far as Temporal still knows, else on `task_queue`.

    Raises:
        RPCError: Temporal does not answer, or refuses.
    """
    with contextlib.suppress(RPCError):
        task_queue = (await temporal.get_workflow_handle(run_id).describe()).task_queue
    await temporal.start_workflow(
        names.ROLLBACK_RUN,
        request,
        id=f"{names.ROLLBACK_PREFIX}{run_id}",
        task_queue=task_queue,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        task_timeout=TASK_TIME,
        result_type=RunClosed,
    )
