"""Undoing a run that has ended: on an operator's word, or because its workflow was ended from outside."""

import asyncio

from temporalio import workflow
from temporalio.common import SearchAttributeKey

from holdfast.workflows import options
from holdfast.workflows.saga import Saga

with workflow.unsafe.imports_passed_through():
    from holdfast.contracts import names
    from holdfast.contracts.effects import RunStatus
    from holdfast.contracts.wire import CloseInput, RollbackRequest, RunClosed, RunState, UndoWord

STATUS = SearchAttributeKey.for_keyword(names.SEARCH_STATUS)
UNDOING = "compensating"
BLOCKED = "compensation_blocked"


@workflow.defn(name=names.ROLLBACK_RUN)
class RollbackRun:
    """The saga of a run that is over. Its own id names that run."""

    @workflow.init
    def __init__(self, request: RollbackRequest) -> None:
        self._saga = Saga(self._show)

    @workflow.run
    async def run(self, request: RollbackRequest) -> RunClosed:
        """Undo in a task of its own, so that a cancellation can't tear it in the middle."""
        saga = asyncio.create_task(self._story(request))
        while not saga.done():
            try:
                await workflow.wait([saga])
            except asyncio.CancelledError:
                workflow.logger.warning("a rollback is not cancelled: it ends when nothing is owed")
        return saga.result()

    async def _story(self, request: RollbackRequest) -> RunClosed:
        self._show(0)
        await self._saga.undo("rollback", request.reason, request.by)
        # A run whose workflow was ended from outside is still open in the ledger; one that was closed stays as it is.
        close = CloseInput(
            status=RunStatus.CANCELLED, reason="its workflow was ended from outside, and it was rolled back"
        )
        closed: RunClosed = await workflow.execute_local_activity(
            names.CLOSE_RUN, close, result_type=RunClosed, **options.booking()
        )
        workflow.upsert_search_attributes([STATUS.value_set(closed.status)])
        return closed

    @workflow.update(name=names.UNBLOCK)
    async def unblock(self, word: UndoWord) -> None:
        """Say what becomes of a call that could not be undone."""
        self._saga.claim(word)

    @unblock.validator
    def _check_unblock(self, word: UndoWord) -> None:
        self._saga.require_blocked(word)

    @workflow.query(name=names.STATE)
    def state(self) -> RunState:
        """What is stuck."""
        return RunState(blocked=self._saga.blocked)

    def _show(self, blocked: int) -> None:
        workflow.upsert_search_attributes([STATUS.value_set(BLOCKED if blocked else UNDOING)])
