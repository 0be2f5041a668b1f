"""What people say to a workflow: how long it may be, and when it counts."""

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from handfast.contracts.errors import ErrorCode
    from handfast.contracts.grants import LONGEST
    from handfast.contracts.texts import PublicText

JUDGED_AT_ONCE = "judged-at-once"
"""Runs with this patch hold a word against the ledger when it is said, and take only what counts (decision 18)."""


def require_short(*parts: str) -> None:
    """Keep out of the history what no honest word is.

    Raises:
        ApplicationError: A part of it is too long.
    """
    if max(map(len, parts)) > LONGEST:
        raise ApplicationError(PublicText(f"a word is longer than {LONGEST} characters"), type=ErrorCode.DENIED)


def refusal(error: FailureError) -> ApplicationError:
    """What whoever has said a word is told that the ledger refuses."""
    cause = error.cause if isinstance(error.cause, ApplicationError) else error
    return ApplicationError(PublicText(cause.message), type=ErrorCode.DENIED)
