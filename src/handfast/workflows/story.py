"""A workflow's story in a task of its own, so that a cancellation can't tear it in the middle."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from temporalio import workflow

T = TypeVar("T")


async def tell(story: Coroutine[Any, Any, T], on_cancel: Callable[[], None]) -> T:
    """See the story through to its end; each cancellation only calls `on_cancel`."""
    task = asyncio.create_task(story)
    while not task.done():
        try:
            await workflow.wait([task])
        except asyncio.CancelledError:
            on_cancel()
    return task.result()
