"""One attempt of an operation at a time in one process, and each of them to its end.

A process that stands still, or a tool that blocks its event loop, misses heartbeats. Temporal then gives the call to the next
attempt, often to the same process, where the one before it has gone on meanwhile and is about to say what happened.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from temporalio import activity

from holdfast.activities.heartbeat import given_up_late
from holdfast.activities.patience import uninterrupted
from holdfast.ledger import OperationMoved

T = TypeVar("T")


class OneAttempt:
    """The operations that have an attempt under way in this process."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def of(self, operation_id: str, seconds: float) -> AsyncGenerator[None]:
        """Be the only attempt of an operation. One that is under way is waited for, but not longer than it may act.

        Raises:
            OperationMoved: One has just ended: look again.
            CancelledError: This one was cancelled, and has not begun.
        """
        other = self._under_way.get(operation_id)
        if other is not None:
            # Also if the run is cancelled meanwhile: what became of the call is what the other one finds out.
            ended, _ = await uninterrupted(asyncio.wait({other}, timeout=seconds))
            if ended:
                raise OperationMoved(f"an attempt of operation {operation_id!r} has just ended")
        if activity.is_cancelled():
            raise asyncio.CancelledError
        mine = self._under_way[operation_id] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            mine.set_result(None)
            if self._under_way.get(operation_id) is mine:
                del self._under_way[operation_id]


async def to_its_end(act: Coroutine[Any, Any, T]) -> T:
    """What acting comes to, also if Temporal has given this attempt up because its heartbeats came late.

    What it finds out counts unless somebody else has settled the call. A cancellation for another reason interrupts it, and so
    does a worker that must stop.
    """
    acting = asyncio.create_task(act)
    try:
        return await asyncio.shield(acting)
    except asyncio.CancelledError:
        if given_up_late():
            stopping = asyncio.create_task(activity.wait_for_worker_shutdown())
            with suppress(asyncio.CancelledError):
                await asyncio.wait({acting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
        acting.cancel()
        return await uninterrupted(acting)
