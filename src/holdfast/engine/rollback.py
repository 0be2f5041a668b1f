"""Starting the workflow that undoes a run which is over."""

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from holdfast.contracts import names
from holdfast.contracts.wire import RollbackRequest, RunClosed


async def start_rollback(temporal: Client, run_id: str, request: RollbackRequest, task_queue: str) -> None:
    """Start it, unless it goes on already.

    Raises:
        RPCError: Temporal does not answer, or refuses.
    """
    await temporal.start_workflow(
        names.ROLLBACK_RUN,
        request,
        id=f"{names.ROLLBACK_PREFIX}{run_id}",
        task_queue=task_queue,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        result_type=RunClosed,
    )
