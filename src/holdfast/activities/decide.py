"""A person's word, and the closing of an operation that Temporal gave up on."""

import structlog
from temporalio.exceptions import ApplicationError

from holdfast.activities.boundary import Boundary, log_outcome, run_id_of_this_activity
from holdfast.activities.patience import patiently
from holdfast.contracts.errors import DecisionRefused, ErrorCode, LedgerConflict
from holdfast.contracts.wire import CallResult, Decision, FenceInput, RecordDecision, Undone

log = structlog.get_logger()


async def record_decision(boundary: Boundary, record: RecordDecision) -> CallResult | Undone:
    """Write down an approval, a rejection, a resolution, or a word on what could not be undone."""
    run_id = run_id_of_this_activity()
    try:
        if record.decision is not None:
            return await _decide(boundary, run_id, record.decision)
        if record.resolution is not None:
            resolution = record.resolution
            return await patiently(lambda: boundary.ledger.record_resolution(run_id, resolution))
        if record.unblock is not None:
            unblock = record.unblock
            return await patiently(lambda: boundary.ledger.unblock(run_id, unblock))
        if record.stuck is not None:
            stuck = record.stuck
            blocked = await patiently(
                lambda: boundary.ledger.block(run_id, stuck.operation, stuck.compensation, stuck.reason)
            )
            return Undone(blocked=stuck.reason if blocked else "")
    except (DecisionRefused, LedgerConflict) as error:
        raise ApplicationError(str(error), type=ErrorCode.DENIED, non_retryable=True) from error
    raise ApplicationError(
        "no decision, resolution or word on undoing was given", type=ErrorCode.INTERNAL, non_retryable=True
    )


async def _decide(boundary: Boundary, run_id: str, decision: Decision) -> CallResult:
    judge = await boundary.permission.judge()
    try:
        return await patiently(lambda: boundary.ledger.record_decision(run_id, decision, judge))
    except DecisionRefused as error:
        log.warning("decision refused", operation_id=decision.operation, reason=str(error))
        why = str(error)
        await patiently(lambda: boundary.ledger.record_refused(run_id, decision, why))
        raise


async def fence(boundary: Boundary, fence_input: FenceInput) -> CallResult:
    """Close an operation to late attempts; the ledger says what became of it."""
    run_id = run_id_of_this_activity()
    structlog.contextvars.bind_contextvars(operation_id=fence_input.id)
    try:
        result = await patiently(lambda: boundary.ledger.fence(run_id, fence_input.id, fence_input.reason))
    except LedgerConflict as error:
        raise ApplicationError(str(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error
    log_outcome(result)
    return result
