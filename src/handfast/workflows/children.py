"""Calls that are runs of their own: each is a child workflow, begun and ended in the ledger."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError

from handfast.workflows import options
from handfast.workflows.bookkeeping import book
from handfast.workflows.visibility import begun

with workflow.unsafe.imports_passed_through():
    from handfast.contracts import names
    from handfast.contracts.limits import Used
    from handfast.contracts.wire import (
        CallInput,
        CallResult,
        ChildBegun,
        ChildInput,
        Head,
        PlanRequest,
        RunRequest,
    )


HELD_TOGETHER = "held-together"
"""Runs with this patch pass a pause on to their children."""


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
        self._held = False
        self._open: set[str] = set()
        """Those that are begun and whose end is not known."""
        self._being_told: dict[str, asyncio.Task[None]] = {}
        """By run: what passes a pause on, or its end."""

    async def carry_out(
        self, head: Head, call: CallInput, under_way: dict[str, Any], gives_up: Callable[[], bool]
    ) -> CallResult:
        """One call, until its run has ended and the ledger has said how. It is among `under_way` as long as it can be stopped."""
        given = ChildInput(call=call, left=round(self._left(), 1))
        child = await book(names.BEGIN_CHILD, given, ChildBegun)
        if child.result is not None:
            self._count(child.result)
            return child.result
        self._under_way += 1
        self._open.add(child.run_id)
        try:
            started = await self._run(head, child, under_way, gives_up)
            result = await self._ended(child, given.model_copy(update={"unstarted": not started}), gives_up)
        finally:
            self._under_way -= 1
            self._open.discard(child.run_id)
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
        if self._held:
            self._pass_on(child.run_id)
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
            result = await book(names.END_CHILD, given, CallResult)
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

    def hold(self, *, held: bool) -> None:
        """Let all that go on begin nothing further, or go on again."""
        self._held = held
        for run_id in sorted(self._open):
            self._pass_on(run_id)

    def _pass_on(self, run_id: str) -> None:
        if run_id not in self._being_told and workflow.patched(HELD_TOGETHER):
            self._being_told[run_id] = asyncio.create_task(self._tell(run_id))

    async def _tell(self, run_id: str) -> None:
        """One word after the other, so that the last one stands."""
        told: bool | None = None
        while told is not self._held:
            told = self._held
            with contextlib.suppress(FailureError):
                # One that is not started yet is told once it is.
                await workflow.get_external_workflow_handle(run_id).signal(names.HOLD, told)
        del self._being_told[run_id]

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
