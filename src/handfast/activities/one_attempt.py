"""One attempt of an operation at a time in one process, and each of them to its end.

A process that stands still, a tool that blocks its event loop, or a Temporal server that is away, keeps heartbeats from arriving.
Temporal then gives the call to the next attempt, often to the same process, where the one before it has gone on meanwhile and is about
to say what happened.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import activity
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

from handfast.activities.patience import uninterrupted
from handfast.ledger import OperationMoved

T = TypeVar("T")
LOOKS_AGAIN = timedelta(seconds=5)
"""How often an attempt that was given up looks whether its run still goes on."""


class UnderWay:
    """An attempt that is under way in this process."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._unwanted = asyncio.Event()

    async def end_of(self, act: Coroutine[Any, Any, T]) -> T:
        """What acting comes to, also if Temporal has given this attempt up because no heartbeat arrived in time.

        What it finds out counts unless somebody else has settled the call. A cancellation for another reason interrupts it, and so do
        the end of the run and a worker that must stop.
        """
        acting = asyncio.create_task(act)
        try:
            return await asyncio.shield(acting)
        except asyncio.CancelledError:
            try:
                if _given_up():
                    with suppress(asyncio.CancelledError):
                        await self._while_wanted(acting)
            finally:
                acting.cancel()
            return await uninterrupted(acting)

    async def _while_wanted(self, acting: asyncio.Task[Any]) -> None:
        unwanted = asyncio.create_task(self._unwanted.wait())
        stopping = asyncio.create_task(activity.wait_for_worker_shutdown())
        try:
            while not (acting.done() or unwanted.done() or stopping.done()) and await _run_goes_on():
                await asyncio.wait(
                    {acting, unwanted, stopping},
                    timeout=LOOKS_AGAIN.total_seconds(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
        finally:
            unwanted.cancel()
            stopping.cancel()

    async def wait(self, seconds: float) -> bool:
        """Wait for its end, not longer than that; whether it has ended. If the run is cancelled meanwhile, it is interrupted."""
        waiting = asyncio.create_task(asyncio.wait({self.ended}, timeout=seconds))
        while not waiting.done():
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                if not _given_up():
                    self._unwanted.set()
        return self.ended.done()


def _given_up() -> bool:
    """Whether this attempt was cancelled because Temporal knows it no longer: another one follows, or the run has ended."""
    details = activity.cancellation_details()
    return details is not None and (details.not_found or details.timed_out)


async def _run_goes_on() -> bool:
    """Whether the execution that this activity belongs to is still there; if Temporal does not answer, as far as is known."""
    info = activity.info()
    handle = activity.client().get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
    try:
        description = await handle.describe(rpc_timeout=LOOKS_AGAIN)
    except RPCError:
        return True
    return description.status is WorkflowExecutionStatus.RUNNING


class OneAttempt:
    """The operations that have an attempt under way in this process."""

    def __init__(self) -> None:
        self._under_way: dict[str, UnderWay] = {}

    @asynccontextmanager
    async def of(self, operation_id: str, seconds: float) -> AsyncGenerator[UnderWay]:
        """Be the only attempt of an operation. One that is under way is waited for, but not longer than it may act.

        Raises:
            OperationMoved: One has just ended: look again.
            CancelledError: This one was cancelled, and has not begun.
        """
        other = self._under_way.get(operation_id)
        if other is not None and await other.wait(seconds):
            raise OperationMoved(f"an attempt of operation {operation_id!r} has just ended")
        if activity.is_cancelled():
            raise asyncio.CancelledError
        mine = self._under_way[operation_id] = UnderWay()
        try:
            yield mine
        finally:
            mine.ended.set_result(None)
            if self._under_way.get(operation_id) is mine:
                del self._under_way[operation_id]
