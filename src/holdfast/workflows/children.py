"""Calls that are runs of their own: each is a child workflow, begun and ended in the ledger."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError

from holdfast.workflows import options
from holdfast.workflows.visibility import begun

with workflow.unsafe.imports_passed_through():
    from holdfast.contracts import names
    from holdfast.contracts.limits import Used
    from holdfast.contracts.wire import (
        CallInput,
        CallResult,
        ChildBegun,
        ChildInput,
        Head,
        PlanRequest,
        RunRequest,
    )


class Children:
    """The children of one run."""

    def __init__(self, left: Callable[[], float], spend: Callable[[Used], None]) -> None:
        self._left = left
        self._spend = spend
        self._under_way = 0
        self._longest = 0.0
        """Of those that are under way at once: the seconds that the longest has worked. Time passes for all at once."""
        self.undo: bool | None = None
        """Whether a cancellation undoes what they did; None if nobody said."""

    async def carry_out(
        self, head: Head, call: CallInput, under_way: dict[str, Any], gives_up: Callable[[], bool]
    ) -> CallResult:
        """One call, until its run has ended and the ledger has said how. It is among `under_way` as long as it can be stopped."""
        given = ChildInput(call=call, left=round(self._left(), 1))
        child: ChildBegun = await workflow.execute_local_activity(
            names.BEGIN_CHILD, given, result_type=ChildBegun, **options.booking()
        )
        if child.result is not None:
            self._count(child.result)
            return child.result
        self._under_way += 1
        try:
            started = await self._run(head, child, under_way, gives_up)
            result = await self._ended(child, given.model_copy(update={"unstarted": not started}), gives_up)
        finally:
            self._under_way -= 1
        self._count(result)
        return result

    async def _run(
        self, head: Head, child: ChildBegun, under_way: dict[str, Any], gives_up: Callable[[], bool]
    ) -> bool:
        """Start its workflow and wait for its end; False if it was not started. How it ended says the ledger."""
        if gives_up():
            return False
        kind = PlanRequest if head.child == names.PLAN_RUN else RunRequest
        request = kind(agent=child.agent, user=child.user, tenant=child.tenant, by_reference=True)
        try:
            handle = await workflow.start_child_workflow(
                head.child,
                request,
                id=child.run_id,
                search_attributes=begun(child.agent, child.tenant),
                **options.child(head),
            )
        except WorkflowAlreadyStartedError:
            # A reset has begun this again: the run goes on, or has ended.
            return True
        except (FailureError, asyncio.CancelledError):
            return False
        under_way[head.id] = ChildHandle(handle, lambda: self.undo)
        try:
            if gives_up():
                under_way[head.id].cancel()
            with contextlib.suppress(FailureError, asyncio.CancelledError):
                await handle
        finally:
            del under_way[head.id]
        return True

    async def _ended(self, child: ChildBegun, given: ChildInput, gives_up: Callable[[], bool]) -> CallResult:
        """Look until it has ended in the ledger, too. Mostly it has by now."""
        asked_to_end = False
        while True:
            result: CallResult = await workflow.execute_local_activity(
                names.END_CHILD, given, result_type=CallResult, **options.booking()
            )
            if not result.pending:
                return result
            if gives_up() and not asked_to_end:
                asked_to_end = True
                with contextlib.suppress(FailureError):
                    await workflow.get_external_workflow_handle(child.run_id).cancel()
            given = given.model_copy(update={"look": given.look + 1})
            await self._wait(result.pending, None if asked_to_end else gives_up)

    async def _wait(self, seconds: float, gives_up: Callable[[], bool] | None) -> None:
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: gives_up is not None and gives_up(), timeout=timedelta(seconds=seconds)
            )

    def _count(self, result: CallResult) -> None:
        """What it has used counts for its parent."""
        if result.spent is None:
            return
        self._longest = max(self._longest, result.spent.work_seconds)
        self._spend(result.spent.model_copy(update={"work_seconds": 0.0 if self._under_way else self._longest}))
        if not self._under_way:
            self._longest = 0.0


class ChildHandle:
    """A child that can be stopped, and told whether what it did is then undone."""

    def __init__(self, handle: workflow.ChildWorkflowHandle[Any, Any], undo: Callable[[], bool | None]) -> None:
        self._handle = handle
        self._undo = undo
        self._asking: dict[bool | None, asyncio.Task[None]] = {}
        """By what was said about undoing."""

    def cancel(self) -> None:
        """Ask it to end."""
        undo = self._undo()
        if undo not in self._asking:
            self._asking[undo] = asyncio.create_task(self._ask(undo))

    async def _ask(self, undo: bool | None) -> None:
        """As a stranger would, by its id.

        A parent's own request to cancel fails its workflow task, and every repetition of it, if the same task tells that the
        child was terminated: SDK Core knows no such transition.
        """
        with contextlib.suppress(FailureError):
            if undo is not None:
                await self._handle.signal(names.UNDO, undo)
            await workflow.get_external_workflow_handle(self._handle.id).cancel()
