"""Heartbeats are the engine's work, never the author's."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from temporalio import activity

BEATS_PER_TIMEOUT = 4
beats: ContextVar["Beats | None"] = ContextVar("beats", default=None)


class Beats:
    """The heartbeats of one attempt, and whether one came so late that Temporal may have given the attempt up before."""

    def __init__(self, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._beat = activity.heartbeat
        self._late = False
        self._last = self._loop.time()
        self._next = self._loop.call_later(timeout / BEATS_PER_TIMEOUT, self._again)

    def _again(self) -> None:
        self._late = self.late
        self._beat()
        self._last = self._loop.time()
        self._next = self._loop.call_later(self._timeout / BEATS_PER_TIMEOUT, self._again)

    @property
    def late(self) -> bool:
        """Whether this process, or its event loop, has stood still for half the timeout and more."""
        return self._late or self._loop.time() - self._last > self._timeout / 2

    def end(self) -> None:
        """No more of them."""
        self._next.cancel()


@contextmanager
def beating() -> Generator[None]:
    """Heartbeat while the body runs. A short body costs one timer and no heartbeat; a local activity has none."""
    timeout = activity.info().heartbeat_timeout
    if timeout is None or not timeout:
        yield
        return
    ours = Beats(timeout.total_seconds())
    token = beats.set(ours)
    try:
        yield
    finally:
        beats.reset(token)
        ours.end()


def given_up_late() -> bool:
    """Whether Temporal has given this attempt up because its heartbeats came late, and for nothing else.

    It is under way all the same. The run has not been cancelled, and nobody has ended it.
    """
    ours, details = beats.get(), activity.cancellation_details()
    return ours is not None and ours.late and details is not None and (details.not_found or details.timed_out)
