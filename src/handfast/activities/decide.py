"""A person's word, and the closing of an operation that Temporal gave up on."""

from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from temporalio.exceptions import ApplicationError

from handfast.activities.boundary import Boundary, log_outcome, run_id_of_this_activity
from handfast.activities.patience import patiently
from handfast.contracts.authority import word_of
from handfast.contracts.errors import DecisionRefused, ErrorCode, LedgerConflict
from handfast.contracts.texts import PublicText
from handfast.contracts.wire import CallResult, FenceInput
from handfast.contracts.wire_undo import Undone
from handfast.contracts.wire_words import Decision, RecordDecision, Resolution, UndoWord

log = structlog.get_logger()


async def record_decision(boundary: Boundary, record: RecordDecision) -> CallResult | Undone:
    """Write down an approval, a rejection, a resolution, or a word on what could not be undone, if it counts."""
    run_id = run_id_of_this_activity()
    try:
        if record.stuck is not None:
            stuck = record.stuck
            blocked = await patiently(
                lambda: boundary.ledger.undoing.block(run_id, stuck.operation, stuck.compensation, stuck.reason)
            )
            return Undone(blocked=stuck.reason if blocked else "")
        return await _take(boundary, run_id, record)
    except (DecisionRefused, LedgerConflict) as error:
        raise ApplicationError(PublicText(error), type=ErrorCode.DENIED, non_retryable=True) from error


async def _take(boundary: Boundary, run_id: str, record: RecordDecision) -> CallResult | Undone:
    ledger, judge = boundary.ledger, await boundary.permission.judge()
    told: Decision | Resolution | UndoWord
    take: Callable[[], Awaitable[CallResult | Undone]]
    if record.decision is not None:
        told, take = record.decision, partial(ledger.record_decision, run_id, record.decision, judge)
    elif record.resolution is not None:
        told, take = record.resolution, partial(ledger.record_resolution, run_id, record.resolution, judge)
    elif record.unblock is not None:
        told, take = record.unblock, partial(ledger.undoing.unblock, run_id, record.unblock, judge)
    else:
        message = "no decision, resolution or word on undoing was given"
        raise ApplicationError(PublicText(message), type=ErrorCode.INTERNAL, non_retryable=True)
    try:
        return await patiently(take)
    except DecisionRefused as error:
        log.warning("a word was refused", operation_id=told.operation, reason=str(error))
        why = str(error)
        await patiently(lambda: ledger.permissions.record_refused(run_id, told.operation, word_of(told), why))
        raise


async def fence(boundary: Boundary, fence_input: FenceInput) -> CallResult:
    """Close an operation to late attempts; the ledger says what became of it."""
    run_id = run_id_of_this_activity()
    structlog.contextvars.bind_contextvars(operation_id=fence_input.id)
    try:
        result = await patiently(lambda: boundary.ledger.fence(run_id, fence_input.id, fence_input.reason))
    except LedgerConflict as error:
        raise ApplicationError(PublicText(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error
    log_outcome(result)
    return result
