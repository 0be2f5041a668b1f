"""Undoing a run that has ended: on an operator's word, or because its workflow was ended from outside."""

from temporalio import workflow
from temporalio.exceptions import FailureError

from handfast.workflows.bookkeeping import book
from handfast.workflows.saga import LONGEST_WAIT, Saga
from handfast.workflows.story import tell
from handfast.workflows.undoable import Undoable
from handfast.workflows.visibility import show_blocked, show_status

with workflow.unsafe.imports_passed_through():
    from handfast.contracts import names
    from handfast.contracts.effects import RunStatus
    from handfast.contracts.wire import CloseInput, RunClosed, RunState
    from handfast.contracts.wire_undo import RollbackRequest, UndoInput


@workflow.defn(name=names.ROLLBACK_RUN)
class RollbackRun(Undoable):
    """The saga of a run that is over. Its own id names that run."""

    @workflow.init
    def __init__(self, request: RollbackRequest) -> None:
        self._saga = Saga(show_blocked)
        self.stalled = {}

    @workflow.run
    async def run(self, request: RollbackRequest) -> RunClosed:
        """Undo what is owed. It is not cancelled: it ends when nothing is owed any more."""
        return await tell(self._story(request), lambda: None)

    async def _story(self, request: RollbackRequest) -> RunClosed:
        show_blocked(0)
        if request.ends:
            await self._until_over()
        await self._saga.undo(UndoInput(cause=request.cause, reason=request.reason[:300], by=request.by, to=request.to))
        # A run whose workflow was ended from outside is still open in the ledger; one that was closed stays as it is.
        close = CloseInput(
            status=RunStatus.CANCELLED, reason="its workflow was ended from outside, and it was rolled back"
        )
        closed = await book(names.CLOSE_RUN, close, RunClosed)
        show_status(closed.status)
        return closed

    async def _until_over(self) -> None:
        """Ask the run to end as long as it goes on. It comes to its end in good order, and may wait for people meanwhile."""
        run = workflow.get_external_workflow_handle(workflow.info().workflow_id.removeprefix(names.ROLLBACK_PREFIX))
        wait = 0.2
        while True:
            try:
                await run.signal(names.UNDO, arg=True)
                await run.cancel()
            except FailureError:
                # There is no such workflow under way.
                return
            await workflow.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    @workflow.query(name=names.STATE)
    def state(self) -> RunState:
        """What is stuck."""
        return RunState(blocked=self._saga.blocked, stalled=self.stalled)
