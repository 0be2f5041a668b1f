"""Waiting for what will come back: the ledger, and an effect that must not be interrupted."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from holdfast.contracts.errors import LedgerUnavailable

T = TypeVar("T")
FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0
log = structlog.get_logger()


async def patiently(transaction: Callable[[], Awaitable[T]]) -> T:
    """Repeat a ledger transaction until the ledger answers. The activity's heartbeats go on meanwhile."""
    wait = FIRST_WAIT
    while True:
        try:
            return await transaction()
        except LedgerUnavailable as error:
            log.warning("ledger away, waiting", reason=str(error), seconds=wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)


async def uninterrupted(coroutine: Coroutine[Any, Any, T]) -> T:
    """Finish something whatever cancellations arrive: a result that is known must be written down."""
    task = asyncio.create_task(coroutine)
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue
    return task.result()
