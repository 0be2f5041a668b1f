"""Running a tool's function once: its time limit, its result as JSON, and every way it can fail as one value."""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from handfast.activities.context import EngineContext
from handfast.activities.watchdog import busy_with
from handfast.contracts.errors import RETRYABLE, ErrorCode, LedgerError, ToolError
from handfast.contracts.pending import Pending
from handfast.contracts.storage import NotStorable
from handfast.contracts.tool import Tool
from handfast.tools.hiding import without_values

LONGEST_MESSAGE = 500
RESULT_LOST = "the call was carried out; only its result is lost, so do not call again"


@dataclass(frozen=True, kw_only=True)
class Done:
    """The function returned. `content` is its result as JSON."""

    content: Any
    lost: str = ""
    """Why what it returned is not known to what reads it as the declared type, such as what undoes the call; empty if it is."""

    def without(self, secrets: Collection[str]) -> "Done":
        """The same, without these."""
        return replace(self, content=without_values(self.content, secrets)) if secrets else self


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


async def run_once(tool: Tool, arguments: BaseModel, context: EngineContext) -> Done | Failed | Pending:
    """Run the tool's function once, within its time limit, whatever it does."""
    result = await _guarded(tool, context, lambda: _call(tool, arguments, context))
    return result if isinstance(result, Failed | Pending) else _stored(tool, result)


async def poll_once(tool: Tool, arguments: BaseModel, reference: str, context: EngineContext) -> Done | Failed | None:
    """Ask the author's `poll` once what became of pending work; None if it goes on."""
    poll = tool.poll
    if poll is None:
        return None
    result = await _guarded(tool, context, lambda: poll(arguments, reference, context))
    return result if result is None or isinstance(result, Failed) else _stored(tool, result)


async def _guarded(tool: Tool, context: EngineContext, call: Callable[[], Awaitable[Any]]) -> Any:
    """What the author's function returns, or `Failed`, within the tool's time limit."""
    seconds = tool.timeout.total_seconds()
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            return await call()
    except TimeoutError as error:
        if time.monotonic() - started >= seconds:
            context.cancel()
            message = f"{tool.name} did not end within {seconds:g} s"
            return Failed(code=ErrorCode.TIMEOUT, message=message, retryable=True, acted=context.may_have_acted)
        return _bug(tool, error, context)
    except asyncio.CancelledError:
        context.cancel()
        return Failed(
            code=ErrorCode.CANCELLED,
            message=f"{tool.name} was cancelled while it ran",
            cancelled=True,
            acted=context.may_have_acted,
        )
    except ToolError as error:
        if isinstance(error.__cause__, ValidationError):
            context.misread()
        happened = error.happened or ("unknown" if context.acted else "no")
        return Failed(
            code=str(error.code),
            message=str(error)[:LONGEST_MESSAGE],
            hint=error.hint,
            fields=error.fields,
            retryable=error.retryable,
            surely_not=happened != "unknown",
            never=happened == "never",
            acted=happened == "unknown",
            retry_after=error.retry_after,
        )
    except LedgerError:
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - authors' code may raise anything
        return _bug(tool, error, context)


async def _call(tool: Tool, arguments: BaseModel, context: EngineContext) -> Any:
    given = tool.signature.bind(arguments, context)
    if tool.signature.threaded:
        return await asyncio.to_thread(tool.function, **given)
    with busy_with(tool.name):
        return await tool.function(**given)


def _bug(tool: Tool, error: BaseException, context: EngineContext) -> Failed:
    if isinstance(error, ValidationError):
        context.misread()
    if context.seen:
        told = without_values("".join(traceback.format_exception(error)), context.seen)
        context.log.warning("tool raised", error=type(error).__name__, exception=told)
    else:
        context.log.warning("tool raised", error=type(error).__name__, exc_info=error)
    message = f"{tool.name} failed: {type(error).__name__}: {error}"[:LONGEST_MESSAGE]
    return Failed(
        code=ErrorCode.TOOL_FAILED,
        message=message,
        retryable=ErrorCode.TOOL_FAILED in RETRYABLE,
        acted=context.may_have_acted,
    )


def _stored(tool: Tool, result: Any) -> Done | Failed:
    """What a function returned, as the ledger keeps it. What undoes the call must be able to read it back."""
    stored = tool.result_adapter
    try:
        content = stored.store(result)
    except NotStorable as error:
        if tool.effect.harmless:
            message = f"{tool.name}: {error}"[:LONGEST_MESSAGE]
            return Failed(code=ErrorCode.RESULT_NOT_SERIALISABLE, message=message, surely_not=True)
        return Done(content=None, lost=f"{RESULT_LOST} ({error})")
    if tool.compensate is None:
        return Done(content=content)
    try:
        return Done(content=stored.survivor(result, content))
    except NotStorable as error:
        return Done(content=content, lost=str(error))
