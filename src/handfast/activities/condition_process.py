"""Conditions are decided in a process of their own: of bounded time and memory, beside the event loop."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from temporalio.exceptions import ApplicationError

from handfast.contracts import condition_evaluator
from handfast.contracts.condition_evaluator import CPU_SECONDS
from handfast.contracts.conditions import BudgetExceeded, require_cel, undecided
from handfast.contracts.errors import ErrorCode, SettingsError

MAX_WAIT = 6.0
"""Seconds of waiting for an answer: long beside the processor time that it may take, and shorter than a try of the activity."""
BY_OTHERS = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP})
"""How the process ends if somebody ends it, whatever it was asked."""


class ConditionProcess:
    """One process that decides one condition after the other. It is started when first needed, and again after it was lost."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._line = asyncio.Lock()

    async def holds(self, text: str, given: Mapping[str, Any]) -> bool:
        """Whether a condition is true of what is given, as JSON values by name.

        Raises:
            ConditionFailed: It has no truth value, or uses up the time or the memory that it may have.
            ApplicationError: It could not be decided now, or here; asking again may help.
        """
        try:
            require_cel()
        except SettingsError as error:
            raise ApplicationError(str(error), type=ErrorCode.UNAVAILABLE) from error
        asked = json.dumps({"text": text, "given": given}).encode() + b"\n"
        async with self._line:
            try:
                async with asyncio.timeout(MAX_WAIT):
                    answer = await self._ask(asked)
            except TimeoutError as error:
                msg = f"a condition was not decided within {MAX_WAIT:.0f} s: this machine is overloaded"
                raise ApplicationError(msg, type=ErrorCode.UNAVAILABLE) from error
        if not answer:
            raise _lost(text, await self._returncode())
        found = json.loads(answer)
        if "fault" in found:
            raise undecided(text, found["fault"])
        return bool(found["holds"])

    async def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def _ask(self, asked: bytes) -> bytes:
        """The answer; empty if the process has ended instead."""
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", str(Path(condition_evaluator.__file__)),
                stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True,
            )  # fmt: skip
        if process.stdin is None or process.stdout is None:
            return b""
        try:
            with suppress(ConnectionError):
                process.stdin.write(asked)
                await process.stdin.drain()
            return await process.stdout.readline()
        except BaseException:
            # Its answer would be taken for that to the next condition.
            with suppress(ProcessLookupError):
                process.kill()
            self._process = None
            raise

    async def _returncode(self) -> int:
        process, self._process = self._process, None
        return 0 if process is None else await process.wait()


def _lost(text: str, returncode: int) -> Exception:
    if returncode in BY_OTHERS:
        msg = "the process that decides conditions was ended from outside: the condition is asked for again"
        return ApplicationError(msg, type=ErrorCode.UNAVAILABLE)
    if returncode == -signal.SIGPROF:
        why = f"it used up its budget of {CPU_SECONDS:.0f} s of processor time"
    else:
        why = f"the process that evaluates it ended with {returncode}, which a lack of memory may do"
    return undecided(text, f"{why}; let a tool work out the value, and compare its result", BudgetExceeded)
