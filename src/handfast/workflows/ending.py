"""How a run ends, and why it must not begin."""

from dataclasses import dataclass

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from handfast.contracts.effects import RunStatus
    from handfast.contracts.errors import ErrorCode
    from handfast.contracts.texts import PublicText


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ends."""

    status: RunStatus
    limit: str = ""
    reason: str = ""
    code: str = ErrorCode.INTERNAL
    answered_by: str = ""
    """The call whose answer is the run's, if it was handed over."""
    entry: int = 0
    """The ledger's entry that says why, in words that Temporal does not get; 0 if `reason` is all there is."""

    @property
    def shown(self) -> PublicText:
        """The reason as Temporal may hold it."""
        return self.reason if isinstance(self.reason, PublicText) else PublicText(self.code)


def ending_of(error: FailureError, *, cancelled: bool) -> Ending:
    """How a run ends because an activity of the engine failed for good. A local one raises its error as it is."""
    cause = error.cause if isinstance(error, ActivityError) else error
    code = cause.type if isinstance(cause, ApplicationError) else None
    if cancelled:
        return Ending(status=RunStatus.CANCELLED, reason="cancelled")
    if code == ErrorCode.LIMIT_REACHED:
        return Ending(status=RunStatus.LIMIT_REACHED, limit="wall_time", reason=_message(cause), entry=_entry(cause))
    return Ending(
        status=RunStatus.FAILED, reason=_message(cause or error), code=code or ErrorCode.INTERNAL, entry=_entry(cause)
    )


def bug(error: BaseException) -> Ending:
    """How a run ends because of a bug in its workflow: what that says goes to the ledger, and its type to Temporal."""
    workflow.logger.error("bug in the workflow", exc_info=error)
    return Ending(status=RunStatus.FAILED, reason=f"{type(error).__name__}: {error}", code=ErrorCode.INTERNAL)


def _message(error: BaseException | None) -> str:
    """What an error says. What came from Temporal stands in its history already."""
    if not isinstance(error, FailureError):
        return ""
    return error.message if error.failure is None else PublicText(error.message)


def _entry(error: BaseException | None) -> int:
    details = error.details if isinstance(error, ApplicationError) else ()
    return next((one for one in details if isinstance(one, int)), 0)


def restarting(info: workflow.Info) -> str:
    """Why a run must not be started like this, empty if it may: what restarts a workflow would take the same run id again."""
    if info.cron_schedule:
        return "a run can't be started with a cron schedule, which uses one id for many runs: use a Temporal Schedule"
    if info.retry_policy is not None:
        return "a run can't be started with a retry policy: it recovers by itself, and a new request is a new run"
    return ""
