"""What is refused of what is said to a run, before it is sent and by Temporal's answer."""

from collections.abc import Generator
from contextlib import contextmanager

from temporalio.client import RPCTimeoutOrCancelledError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from handfast.contracts.errors import DecisionRefused, EngineUnavailable, RunError, RunNotFound
from handfast.contracts.texts import clean_text

LONGEST_WORDS = 2000
"""Characters of a reason or a note. They travel through Temporal."""


def clean_words(*, by: str = "", reason: str = "") -> tuple[str, str]:
    """Who says something and why, as Temporal can carry it.

    Raises:
        DecisionRefused: It is too long.
    """
    for role, word in (("by", by), ("reason", reason)):
        if len(word) > LONGEST_WORDS:
            msg = f"{role} of {len(word)} characters: allowed are {LONGEST_WORDS}"
            raise DecisionRefused(msg)
    return clean_text(by), clean_text(reason)


@contextmanager
def refusals(run_id: str) -> Generator[None]:
    """Turn Temporal's answers about a run into ours."""
    try:
        yield
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        raise DecisionRefused(cause.message if isinstance(cause, ApplicationError) else str(cause)) from error
    except RPCTimeoutOrCancelledError as error:
        msg = f"Temporal did not answer in time for run {run_id!r}: no worker may be alive; say it again"
        raise EngineUnavailable(msg) from error
    except RPCError as error:
        match error.status:
            case RPCStatusCode.NOT_FOUND:
                message = f"run {run_id!r} is not running in Temporal: it was never started there, or it has ended"
                raise RunNotFound(message) from error
            case RPCStatusCode.UNAVAILABLE:
                raise EngineUnavailable(f"Temporal does not answer: {error.message}") from error
            case _:
                raise RunError(f"Temporal refused for run {run_id!r}: {error.message}") from error
