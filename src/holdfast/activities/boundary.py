"""What the activities of one worker share."""

from dataclasses import dataclass, field

from temporalio import activity
from temporalio.exceptions import ApplicationError

from holdfast.activities.transcripts import Transcripts
from holdfast.contracts.errors import ErrorCode
from holdfast.contracts.registry import Registry
from holdfast.ledger import Ledger
from holdfast.llm.resolve import Models
from holdfast.tools.http import Upstreams


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """The ledger, the agents and tools, the models and the HTTP upstreams of one worker."""

    ledger: Ledger
    registry: Registry
    models: Models
    upstreams: Upstreams
    heartbeat_seconds: float = 5.0
    """The heartbeat timeout of this deployment's activities."""
    transcripts: Transcripts = field(default_factory=Transcripts)


def run_id_of_this_activity() -> str:
    """The run an activity works for: its workflow's id, which the server sets and no caller can forge.

    Raises:
        ApplicationError: The activity was executed on its own, with no workflow around it; it does nothing.
    """
    info = activity.info()
    if not info.in_workflow or not info.workflow_id:
        message = f"{info.activity_type} does nothing on its own: start a run instead, such as with `holdfast run`"
        raise ApplicationError(message, type=ErrorCode.NOT_ASKED_FOR, non_retryable=True)
    return info.workflow_id
