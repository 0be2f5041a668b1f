"""Waiting for what will come back: the ledger, and an effect that must not be interrupted."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from handfast.contracts.errors import ErrorCode, LedgerUnavailable
from handfast.contracts.texts import PublicText

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
            if _must_stop():
                message = "the ledger is away, and this worker must stop: another attempt finds out what became of it"
                raise ApplicationError(PublicText(message), type=ErrorCode.UNAVAILABLE) from error
            log.warning("ledger away, waiting", reason=str(error), seconds=wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)


def _must_stop() -> bool:
    """Whether this worker's time to drain is over."""
    details = activity.cancellation_details() if activity.in_activity() else None
    return details is not None and details.worker_shutdown


async def uninterrupted(work: Coroutine[Any, Any, T] | asyncio.Task[T]) -> T:
    """Finish something whatever cancellations arrive: a result that is known must be written down."""
    task = asyncio.ensure_future(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
