"""A blocked event loop stops every heartbeat of its worker. A thread notices, names the tool, and ends the worker."""

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager

import structlog

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h."""
log = structlog.get_logger()
_running: list[str] = []


@contextmanager
def busy_with(tool: str) -> Generator[None]:
    """Remember that a tool runs on the event loop, so that the watchdog can name it."""
    _running.append(tool)
    try:
        yield
    finally:
        _running.remove(tool)


class Watchdog:
    """Ends the process when its event loop has not run for `seconds`.

    The calls in flight are then retried by another worker or resolved by a person, as their effect class says: better
    than a worker that holds them all and answers nobody.
    """

    def __init__(self, seconds: float, *, end: Callable[[int], None] = os._exit) -> None:
        self._seconds = seconds
        self._end = end
        self._alive_at = time.monotonic()
        self._stop = threading.Event()
        self._loop_thread = threading.get_ident()

    async def watch(self) -> None:
        """Show that the loop is alive until cancelled."""
        self._loop_thread = threading.get_ident()
        self._alive_at = time.monotonic()
        thread = threading.Thread(target=self._look, name="handfast-watchdog", daemon=True)
        thread.start()
        try:
            while True:
                await asyncio.sleep(self._seconds / 5)
                self._alive_at = time.monotonic()
        finally:
            self._stop.set()

    def _look(self) -> None:
        last_look = time.monotonic()
        while not self._stop.wait(self._seconds / 5):
            now = time.monotonic()
            # After a SIGSTOP or a suspended machine the loop gets its chance first.
            if now - last_look > self._seconds / 2:
                self._alive_at = now
            last_look = now
            if now - self._alive_at > self._seconds:
                self._report()
                self._end(EXIT_CODE)
                return

    def _report(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - CPython's documented way
        stack = "".join(traceback.format_stack(frame)[-4:]) if frame else ""
        log.critical(
            "event loop blocked: a tool must not block; make it a plain def, which runs in a thread. Ending this worker",
            seconds=self._seconds,
            tools=sorted(set(_running)),
            stack=stack,
        )
