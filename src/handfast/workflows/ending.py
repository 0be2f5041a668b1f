"""How a run ends, and why it must not begin."""

from dataclasses import dataclass

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from handfast.contracts.effects import RunStatus
    from handfast.contracts.errors import ErrorCode


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ends."""

    status: RunStatus
    limit: str = ""
    reason: str = ""
    code: str = ErrorCode.INTERNAL
    answered_by: str = ""
    """The call whose answer is the run's, if it was handed over."""


def ending_of(error: FailureError, *, cancelled: bool) -> Ending:
    """How a run ends because an activity of the engine failed for good. A local one raises its error as it is."""
    cause = error.cause if isinstance(error, ActivityError) else error
    code = cause.type if isinstance(cause, ApplicationError) else None
    if cancelled:
        return Ending(status=RunStatus.CANCELLED, reason="cancelled")
    if code == ErrorCode.LIMIT_REACHED:
        return Ending(status=RunStatus.LIMIT_REACHED, limit="wall_time", reason=str(cause))
    message = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
    return Ending(status=RunStatus.FAILED, reason=message, code=code or ErrorCode.INTERNAL)


def restarting(info: workflow.Info) -> str:
    """Why a run must not be started like this, empty if it may: what restarts a workflow would take the same run id again."""
    if info.cron_schedule:
        return "a run can't be started with a cron schedule, which uses one id for many runs: use a Temporal Schedule"
    if info.retry_policy is not None:
        return "a run can't be started with a retry policy: it recovers by itself, and a new request is a new run"
    return ""
