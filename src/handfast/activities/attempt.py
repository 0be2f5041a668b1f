"""Running a tool's function once: its time limit, its result as JSON, and every way it can fail as one value."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from handfast.activities.context import EngineContext
from handfast.activities.failure import MAX_MESSAGE, RAISED, Failed, failure_of
from handfast.activities.watchdog import busy_with
from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.pending import Pending
from handfast.contracts.storage import NotStorable
from handfast.contracts.tool import Tool
from handfast.tools.hiding import without_values

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
    if result is None or isinstance(result, Failed):
        return result
    found = _stored(tool, result)
    if isinstance(found, Failed) or not found.lost.startswith(RESULT_LOST):
        return found
    # What is no result, such as False for "not yet", does not say that the work has ended: it is asked again.
    message = f"{tool.name}: poll returned a {type(result).__name__}, which is no result of the tool"
    return Failed(code=ErrorCode.RESULT_NOT_SERIALISABLE, message=message, retryable=True)


async def _guarded(tool: Tool, context: EngineContext, call: Callable[[], Awaitable[Any]]) -> Any:
    """What the author's function returns, or `Failed`, within the tool's time limit."""
    seconds = tool.timeout.total_seconds()
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            return await call()
    except RAISED as error:
        return failure_of(tool, error, context, late=time.monotonic() - started >= seconds)


async def _call(tool: Tool, arguments: BaseModel, context: EngineContext) -> Any:
    given = tool.signature.bind(arguments, context)
    if tool.signature.threaded:
        returned = await asyncio.to_thread(_call_plain, tool, given)
    else:
        with busy_with(tool.name):
            returned = await tool.function(**given)
    # A decorator that is no coroutine itself hands on what it wraps, and nothing of that has run yet.
    while inspect.isawaitable(returned):
        with busy_with(tool.name):
            returned = await returned
    if inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        message = f"{tool.name} returned a generator, of which nothing has run: it must return its whole result"
        raise ToolError(message, hint="its author must correct it", happened="unknown")
    return returned


def _call_plain(tool: Tool, given: dict[str, Any]) -> Any:
    """Call a plain `def`. No future can hold a `StopIteration`: whoever waits for its thread would wait for ever."""
    try:
        return tool.function(**given)
    except StopIteration as error:
        msg = "the function raised StopIteration"
        raise RuntimeError(msg) from error


def _stored(tool: Tool, result: Any) -> Done | Failed:
    """What a function returned, as the ledger keeps it. What undoes the call must be able to read it back."""
    stored = tool.result_adapter
    try:
        content = stored.store(result)
    except NotStorable as error:
        if tool.effect.harmless:
            message = f"{tool.name}: {error}"[:MAX_MESSAGE]
            return Failed(code=ErrorCode.RESULT_NOT_SERIALISABLE, message=message, surely_not=True)
        return Done(content=None, lost=f"{RESULT_LOST} ({error})")
    if tool.compensate is None:
        return Done(content=content)
    try:
        return Done(content=stored.survivor(result, content))
    except NotStorable as error:
        return Done(content=content, lost=str(error))
