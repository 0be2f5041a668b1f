"""What to do about an operation that an earlier attempt reserved and never settled. The effect class decides."""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from handfast.activities.context import EngineContext
from handfast.activities.failure import MAX_MESSAGE, MAX_SEARCHED
from handfast.activities.patience import patiently
from handfast.contracts.arguments import load_arguments
from handfast.contracts.causes import cause_of
from handfast.contracts.effects import Effect, Outcome
from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.provenance import marks_of
from handfast.contracts.texts import PublicText, clean_text, message_of
from handfast.contracts.tool import Tool
from handfast.contracts.wire import CallInput, CallResult
from handfast.ledger import Ledger, Looked, Settlement
from handfast.ledger.entries import now_ms
from handfast.ledger.late import RECONCILE
from handfast.tools.hiding import shown, without_values

RECONCILE_TRIES = 5


async def clear_doubt(
    ledger: Ledger, tool: Tool, run_id: str, call: CallInput, looked: Looked, context: EngineContext
) -> CallResult | None:
    """What became of the operation, or None if it may run again.

    Raises:
        ApplicationError: It can't be said yet; Temporal asks again after the delay.
    """
    if must_look(tool, looked):
        return await _reconcile(ledger, tool, run_id, call, looked, context)
    if tool.effect.repeatable:
        return None
    reason = f"an earlier attempt of {tool.name} ended without a word, and nothing protects a repeat"
    return await patiently(lambda: ledger.fence(run_id, call.id, reason))


def must_look(tool: Tool, looked: Looked) -> bool:
    """Whether somebody has to look before a call in doubt may run again: its key, if it has one, is no longer remembered."""
    if tool.effect is not Effect.KEYED:
        return tool.effect is Effect.RECONCILED
    return now_ms() - looked.began_at > tool.key_lifetime.total_seconds() * 1000


async def find(tool: Tool, looked: Looked, context: EngineContext) -> Any:
    """What the author's function finds of the call, as JSON; None if there is nothing.

    Raises:
        ToolError: It does not know, or does not answer in time.
        Exception: Whatever else the author's code raises.
    """
    if tool.reconcile is None:
        raise ToolError(f"{tool.name} names no reconcile=, and its key is older than {tool.key_lifetime}")
    arguments = load_arguments(tool, looked.arguments, looked.defaulted)
    if isinstance(arguments, dict):
        raise ToolError(f"the arguments of the call don't fit {tool.name} {tool.version}: {', '.join(arguments)}")
    try:
        async with asyncio.timeout(tool.timeout.total_seconds()):
            found = await tool.reconcile(arguments.value, context)
    except (Exception, BaseExceptionGroup) as error:
        cause = cause_of(error, harmless=True)
        if isinstance(cause.error, ToolError):
            cause.error.retry_after = cause.retry_after
            raise cause.error  # noqa: B904 - it may be the cause of what holds it, and would be its own
        if not isinstance(error, TimeoutError):
            raise
        message = f"reconcile did not end within {tool.timeout.total_seconds():g} s"
        raise ToolError(message, code=ErrorCode.TIMEOUT, retryable=True, retry_after=cause.retry_after) from error
    if found is None:
        return None
    # What is no result of the tool, such as False for "no", says nothing of what became of the call.
    return without_values(tool.result_adapter.store(found, read_back=tool.compensate is not None), context.seen)


async def _reconcile(
    ledger: Ledger, tool: Tool, run_id: str, call: CallInput, looked: Looked, context: EngineContext
) -> CallResult | None:
    """Ask the author's function. What it does not find counts as absent only once it could no longer appear."""
    try:
        found = await find(tool, looked, context)
    except ToolError as error:
        if error.retryable and activity.info().attempt <= looked.attempts + RECONCILE_TRIES:
            wait = None if error.retry_after is None else timedelta(seconds=error.retry_after)
            message = _told(context, f"reconcile: {message_of(error)}")
            raise ApplicationError(message, type=str(error.code), next_retry_delay=wait) from error
        return await _unsure(ledger, tool, run_id, call, _told(context, message_of(error)))
    except Exception as error:  # noqa: BLE001 - the author's code may raise anything, and then is not sure
        why = _told(context, f"{type(error).__name__}: {message_of(error)}")
        return await _unsure(ledger, tool, run_id, call, why)
    if found is not None:
        meta = {"reconciled": True, **marks_of(tool, Outcome.SUCCEEDED, found)}
        new = Settlement(outcome=Outcome.SUCCEEDED, content=found, meta=meta)
        return (await patiently(lambda: ledger.settle(run_id, call.id, RECONCILE, new))).result
    sure_at = looked.lease_until + int(tool.settles_within.total_seconds() * 1000)
    if now_ms() < sure_at:
        message = f"{tool.name} is not found, but could still appear: looking again then"
        wait = timedelta(milliseconds=sure_at - now_ms() + 1)
        raise ApplicationError(PublicText(message), type=ErrorCode.OUTCOME_UNKNOWN, next_retry_delay=wait)
    return None


def _told(context: EngineContext, why: str) -> str:
    """Why nobody knows, without the secrets that the call was given."""
    return shown(without_values(clean_text(why[:MAX_SEARCHED]), context.seen), (), 0, MAX_MESSAGE)


async def _unsure(ledger: Ledger, tool: Tool, run_id: str, call: CallInput, why: str) -> CallResult:
    reason = f"an earlier attempt of {tool.name} ended without a word, and nobody can say what became of it ({why})"
    return await patiently(lambda: ledger.fence(run_id, call.id, reason))
