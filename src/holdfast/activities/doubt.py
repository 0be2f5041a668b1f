"""What to do about an operation that an earlier attempt reserved and never settled. The effect class decides."""

from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError

from holdfast.activities.context import EngineContext
from holdfast.activities.gate import validate
from holdfast.activities.patience import patiently
from holdfast.contracts.effects import Effect, Outcome
from holdfast.contracts.errors import ErrorCode, ToolError
from holdfast.contracts.tool import Tool
from holdfast.contracts.wire import CallInput, CallResult
from holdfast.ledger import Ledger, Looked, Settlement
from holdfast.ledger.entries import now_ms
from holdfast.ledger.operations import RECONCILE

RECONCILE_TRIES = 5


async def clear_doubt(
    ledger: Ledger, tool: Tool, run_id: str, call: CallInput, looked: Looked, context: EngineContext
) -> CallResult | None:
    """What became of the operation, or None if it may run again.

    Raises:
        ApplicationError: It can't be said yet; Temporal asks again after the delay.
    """
    if tool.effect.repeatable:
        return None
    if tool.effect is Effect.ONCE:
        reason = f"an earlier attempt of {tool.name} ended without a word, and nothing protects a repeat"
        return await patiently(lambda: ledger.fence(run_id, call.id, reason))
    return await _reconcile(ledger, tool, run_id, call, looked, context)


async def _reconcile(
    ledger: Ledger, tool: Tool, run_id: str, call: CallInput, looked: Looked, context: EngineContext
) -> CallResult | None:
    """Ask the author's function. What it does not find counts as absent only once it could no longer appear."""
    arguments = validate(tool, looked.arguments)
    try:
        found = await tool.reconcile(arguments, context) if tool.reconcile else None
    except ToolError as error:
        if error.retryable and activity.info().attempt <= looked.attempts + RECONCILE_TRIES:
            raise ApplicationError(f"reconcile: {error}", type=str(error.code)) from error
        return await _unsure(ledger, tool, run_id, call, str(error))
    except Exception as error:  # noqa: BLE001 - the author's code may raise anything, and then is not sure
        return await _unsure(ledger, tool, run_id, call, f"{type(error).__name__}: {error}")
    if found is not None:
        content = tool.result_adapter.dump_python(found, mode="json")
        new = Settlement(outcome=Outcome.SUCCEEDED, content=content, meta={"reconciled": True})
        return (await patiently(lambda: ledger.settle(run_id, call.id, RECONCILE, new))).result
    sure_at = looked.lease_until + int(tool.settles_within.total_seconds() * 1000)
    if now_ms() < sure_at:
        message = f"{tool.name} is not found, but could still appear: looking again then"
        wait = timedelta(milliseconds=sure_at - now_ms() + 1)
        raise ApplicationError(message, type=ErrorCode.OUTCOME_UNKNOWN, next_retry_delay=wait)
    return None


async def _unsure(ledger: Ledger, tool: Tool, run_id: str, call: CallInput, why: str) -> CallResult:
    reason = f"an earlier attempt of {tool.name} ended without a word, and reconcile is not sure ({why})"
    return await patiently(lambda: ledger.fence(run_id, call.id, reason))
