"""How an author's function failed, as one value: what the model is told, and what is known about the effect."""

import asyncio
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from pydantic import ValidationError

from handfast.activities.context import EngineContext
from handfast.activities.transcripts import telling_of
from handfast.contracts.causes import Cause, cause_of, only_cancelled
from handfast.contracts.errors import RETRYABLE, ErrorCode, LedgerError, ToolError
from handfast.contracts.texts import clean_text, message_of
from handfast.contracts.tool import Tool
from handfast.logs import trace_of
from handfast.tools.hiding import shown, without_values

MAX_MESSAGE = 500
"""Characters."""
MAX_SEARCHED = 20_000
"""Characters of what is said of a failure that are searched: so many that what lies across the end of a message is seen."""
MAX_FIELDS, MAX_CODE = 50, 64
RAISED = (Exception, BaseExceptionGroup, asyncio.CancelledError, SystemExit, KeyboardInterrupt)
"""What an author's code may raise."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The function did not return."""

    code: str
    message: str
    hint: str = ""
    fields: dict[str, str] | None = None
    retryable: bool = False
    surely_not: bool = False
    """It surely had no effect."""
    never: bool = False
    """Nor had any attempt before it: the other side answered for the key."""
    acted: bool = False
    """A request of this attempt may have had an effect, as far as the engine saw it go out; or it saw none at all."""
    retry_after: float | None = None
    cancelled: bool = False

    def without(self, secrets: Collection[str]) -> "Failed":
        """The same, without these."""
        if not secrets:
            return self
        return replace(
            self,
            message=without_values(self.message, secrets),
            hint=without_values(self.hint, secrets),
            fields=without_values(self.fields, secrets),
        )

    @property
    def broken(self) -> bool:
        """The other side does not work; it has not refused this call."""
        return self.retryable or self.code == ErrorCode.CIRCUIT_OPEN

    def told(self, operation_id: str) -> dict[str, Any]:
        """What the model is told."""
        told: dict[str, Any] = {"code": self.code, "message": self.message, "operation": operation_id}
        if self.hint:
            told["hint"] = self.hint
        if self.fields:
            told["fields"] = self.fields
        return told


def failure_of(tool: Tool, error: BaseException, context: EngineContext, *, late: bool) -> Failed:
    """What an exception means for the call; `handfast.contracts.causes` has the rule.

    Args:
        tool: Whose function raised it.
        error: What was raised.
        context: The attempt's. From here on no unsafe request of it goes out any more.
        late: The tool's time limit is over.

    Raises:
        LedgerError: The ledger could not do what the function asked of it.
    """
    context.end()
    if only_cancelled(error) and _was_cancelled():
        context.cancel()
        message = f"{tool.name} was cancelled while it ran"
        return Failed(code=ErrorCode.CANCELLED, message=message, cancelled=True, acted=context.may_have_acted)
    cause = cause_of(error, context.requests, harmless=tool.effect.harmless)
    if isinstance(cause.error, LedgerError):
        raise cause.error
    if late and isinstance(error, TimeoutError):
        context.cancel()
        message = f"{tool.name} did not end within {tool.timeout.total_seconds():g} s"
        return replace(_unexplained(ErrorCode.TIMEOUT, message, context), retry_after=cause.retry_after)
    if isinstance(cause.error, ToolError):
        return _explained(tool, cause.error, cause, context)
    return _bug(tool, error, cause, context)


def _was_cancelled() -> bool:
    """Whether the attempt itself was told to stop, and not only something that it started."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def said_of(tool: Tool, context: EngineContext, text: str) -> str:
    """What somebody has said of a failure: searched for secrets and personal data as a whole, and cut then."""
    whole = without_values(clean_text(text[:MAX_SEARCHED]), context.seen)
    return whole if len(whole) <= MAX_MESSAGE else shown(whole, telling_of(tool).hides, 0, MAX_MESSAGE)


def _fields(tool: Tool, context: EngineContext, fields: Mapping[str, str]) -> dict[str, str]:
    named = ((said_of(tool, context, name), said_of(tool, context, fault)) for name, fault in fields.items())
    return dict(islice(named, MAX_FIELDS))


def _explained(tool: Tool, error: ToolError, cause: Cause, context: EngineContext) -> Failed:
    if isinstance(error.__cause__, ValidationError):
        context.misread()
    return Failed(
        code=clean_text(str(error.code))[:MAX_CODE],
        message=said_of(tool, context, message_of(error)),
        hint=said_of(tool, context, error.hint),
        fields=_fields(tool, context, error.fields or {}),
        retryable=error.retryable,
        surely_not=cause.happened != "unknown",
        never=cause.happened == "never",
        acted=cause.happened == "unknown",
        retry_after=cause.retry_after,
    )


def _bug(tool: Tool, raised: BaseException, cause: Cause, context: EngineContext) -> Failed:
    error = cause.error
    if isinstance(error, ValidationError):
        context.misread()
    told = without_values("".join(traceback.format_exception(raised)), context.seen)
    context.log.warning("tool raised", error=type(error).__name__, exception=trace_of(raised))
    context.log.debug("tool raised", error=type(error).__name__, exception=told)
    message = said_of(tool, context, f"{tool.name} failed: {type(error).__name__}: {message_of(error)}")
    return replace(_unexplained(ErrorCode.TOOL_FAILED, message, context), retry_after=cause.retry_after)


def _unexplained(code: ErrorCode, message: str, context: EngineContext) -> Failed:
    return Failed(code=code, message=message, retryable=code in RETRYABLE, acted=context.may_have_acted)
