"""Heartbeats are the engine's work, never the author's."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from temporalio import activity

BEATS_PER_TIMEOUT = 4


@contextmanager
def beating() -> Generator[None]:
    """Heartbeat while the body runs. A short body costs one timer and no heartbeat; a local activity has none."""
    timeout = activity.info().heartbeat_timeout
    if timeout is None or not timeout:
        yield
        return
    loop = asyncio.get_running_loop()
    interval = timeout.total_seconds() / BEATS_PER_TIMEOUT
    beat = activity.heartbeat
    handle: asyncio.TimerHandle

    def again() -> None:
        nonlocal handle
        beat()
        handle = loop.call_later(interval, again)

    handle = loop.call_later(interval, again)
    try:
        yield
    finally:
        handle.cancel()
