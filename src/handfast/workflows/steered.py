"""What every run has, an agent's and a plan's: its calls, its people, what it owes, and what may be said to it while it goes on."""

import asyncio
import contextlib
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

from handfast.workflows.bookkeeping import book
from handfast.workflows.calls import Calls
from handfast.workflows.children import Children
from handfast.workflows.clock import WorkClock
from handfast.workflows.ending import Ending, restarting
from handfast.workflows.people import People
from handfast.workflows.saga import Saga
from handfast.workflows.undoable import Undoable
from handfast.workflows.visibility import COST, STATUS, show_blocked, show_status, show_waiting
from handfast.workflows.words import JUDGED_AT_ONCE, require_short

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from handfast.contracts import names
    from handfast.contracts.effects import RunStatus
    from handfast.contracts.errors import ErrorCode
    from handfast.contracts.limits import Used
    from handfast.contracts.texts import PublicText
    from handfast.contracts.wire import Carried, CloseInput, Head, Opened, PlanRequest, RunClosed, RunRequest, RunState
    from handfast.contracts.wire_undo import UndoInput
    from handfast.contracts.wire_words import Decision, Resolution


NOT_OPENED = Opened(model="").anchor
Request = TypeVar("Request", RunRequest, PlanRequest)


def read_request(kind: type[Request], request: Any) -> tuple[Request, str]:
    """What a workflow was started with, and what is wrong with it.

    Raised where the workflow is made, that would be retried for ever: it fails visibly when it begins instead.
    """
    try:
        return kind.model_validate(request), ""
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        return kind(agent="?"), f"the input is no run request: {faults}"


class Steered(Undoable):
    """A run that people can steer. What decides what comes next is its subclass's."""

    def _set_up(self, carried: Carried, continue_after_turns: int) -> None:
        """Take up what an earlier execution left. Called where the workflow is made, before any handler runs."""
        self.stalled = {}
        self._opened = carried.opened or Opened(model="")
        self._turn: int = carried.turn
        self._spent = carried.used
        self._paused = carried.paused
        self._continue_after = continue_after_turns
        self._turns_here: int = 0
        self._cancelled = False
        self._closing = False
        self._closed: RunClosed | None = None
        """How it was closed, if its last turn did that."""
        self._asking = False
        """What comes next is being decided."""
        self._undo_wanted: bool | None = None
        """Whether a cancellation undoes what was done; None if nobody said."""
        self._undone = False
        """Calls were undone since the last turn, and the run goes on."""
        self._clock = WorkClock(carried.used.work_seconds)
        self._people = People(show_waiting, carried.words)
        children = Children(self._seconds_left, self._spend)
        self._calls = Calls(
            self._clock, self._people, self._may_go_on, self._roll_back, self._is_told, children, carried
        )
        self._saga = Saga(self._show_blocked)

    def _require_startable(self, fault: str) -> None:
        """Refuse to begin what has no sound request, or would be started again by itself.

        Raises:
            ApplicationError: The run fails with the reason.
        """
        if fault := fault or restarting(workflow.info()):
            raise ApplicationError(PublicText(fault), type=ErrorCode.INTERNAL)

    async def _close(self, ending: Ending) -> RunClosed:
        self._closing = True
        await self._calls.end_jobs()
        if self._must_undo(ending):
            await self._saga.undo(UndoInput(cause=ending.status, reason=(ending.reason or ending.limit)[:300]))
        closed = self._closed or await self._write_down(ending)
        if closed.status is RunStatus.COMPLETED and self._opened.anchor != NOT_OPENED:
            # The ledger's first word stands: it was closed before what has ended it here came.
            ending = Ending(status=RunStatus.COMPLETED)
        for child in closed.left:
            with contextlib.suppress(FailureError):
                await workflow.get_external_workflow_handle(child).cancel()
        workflow.upsert_search_attributes([STATUS.value_set(closed.status), COST.value_set(closed.cost_usd)])
        workflow.set_current_details(f"{closed.status}: {closed.turns} turns, {closed.calls} calls")
        if ending.status is RunStatus.FAILED:
            raise ApplicationError(ending.shown, type=ending.code, non_retryable=True)
        if ending.status is RunStatus.CANCELLED:
            raise asyncio.CancelledError(ending.shown)
        return closed

    async def _write_down(self, ending: Ending) -> RunClosed:
        close = CloseInput(
            status=ending.status,
            limit=ending.limit,
            reason=ending.reason,
            entry=ending.entry,
            work_seconds=self._clock.seconds,
            answered_by=ending.answered_by,
        )
        return await book(names.CLOSE_RUN, close, RunClosed)

    async def _roll_back(self, head: Head) -> None:
        """Undo what was done since the savepoint that a call of the model names."""
        await self._undo_and_go_on(UndoInput(cause=names.ROLL_BACK, by_call=head.id))

    async def _undo_and_go_on(self, given: UndoInput) -> None:
        await self._saga.undo(given)
        self._undone = True

    def _is_told(self) -> bool:
        """Whether somebody has written to the run's model."""
        return False

    def _show_blocked(self, blocked: int) -> None:
        if blocked or self._closing:
            show_blocked(blocked)
        else:
            show_status(RunStatus.RUNNING)

    def _must_undo(self, ending: Ending) -> bool:
        if ending.status is RunStatus.CANCELLED and self._undo_wanted is not None:
            return self._undo_wanted
        return ending.status in self._opened.undo_on

    def _cancel(self) -> None:
        self._cancelled = True
        self._calls.cancel(undo=self._undo_wanted)

    async def _may_go_on(self) -> bool:
        """Wait while the run is paused; False once it is cancelled."""
        await workflow.wait_condition(lambda: self._cancelled or not self._paused)
        return not self._cancelled

    def _seconds_left(self) -> float:
        return max(self._opened.limits.wall_time.total_seconds() - self._clock.seconds, 0.0)

    def _spend(self, used: Used) -> None:
        """What children have used counts for the run that has begun them."""
        self._clock.add(used.work_seconds)
        self._spent += used.model_copy(update={"work_seconds": 0.0})

    def _used(self) -> Used:
        return self._spent.model_copy(update={"work_seconds": self._clock.seconds})

    def _must_continue_as_new(self) -> bool:
        info = workflow.info()
        forced = 0 < self._continue_after <= self._turns_here
        return forced or info.is_continue_as_new_suggested() or info.is_target_worker_deployment_version_changed()

    def _upgrade(self) -> workflow.ContinueAsNewVersioningBehavior | None:
        """On which worker version it goes on: the newest one, if there is a newer one."""
        newer = workflow.info().is_target_worker_deployment_version_changed()
        return workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE if newer else None

    @workflow.update(name=names.DECIDE)
    async def decide(self, decision: Decision) -> None:
        """Approve or reject a call that waits, or is about to."""
        if workflow.patched(JUDGED_AT_ONCE):
            await self._judge(decision)
        else:
            await self._take(decision)

    @decide.validator
    def _check_decision(self, decision: Decision) -> None:
        require_short(decision.grant, decision.by, decision.reason)
        self._check_word(decision)

    @workflow.update(name=names.RESOLVE)
    async def resolve(self, resolution: Resolution) -> None:
        """Say what became of a call whose outcome is UNKNOWN."""
        if workflow.patched(JUDGED_AT_ONCE):
            await self._judge(resolution)
        else:
            await self._take(resolution)

    @resolve.validator
    def _check_resolution(self, resolution: Resolution) -> None:
        require_short(resolution.grant, resolution.by, resolution.note)
        self._check_word(resolution)

    def _check_word(self, word: Decision | Resolution) -> None:
        if self._people.takes(word) or not self._may_come(word):
            self._people.require_fitting(word)

    async def _take(self, word: Decision | Resolution) -> None:
        await self._until_taken(word)
        self._people.claim(word)

    async def _judge(self, word: Decision | Resolution) -> None:
        """Whether a word counts says the ledger, before the call hears of it: who has no key can't get in anybody's way."""
        await self._until_taken(word)
        self._people.require_fitting(word)
        recorded = await self._calls.asking.record(word)
        if not recorded.waiting:
            self._people.claim(word, recorded)
            if isinstance(word, Decision) and (word.remember or word.changed):
                # It may count for others that wait, and for later ones.
                self._calls.asking.review()

    async def _until_taken(self, word: Decision | Resolution) -> None:
        if not self._people.takes(word):
            await workflow.wait_condition(lambda: self._people.takes(word) or not self._may_come(word))

    def _may_come(self, word: Decision | Resolution) -> bool:
        """Whether the call may yet come to wait for it: the ledger knows of it before the workflow does.

        In the first turn also before the model is asked: after a reset Temporal repeats the words that were said before.
        """
        opening = self._turn == 0 and not self._closing
        under_way = opening or self._asking or self._calls.may_come_to_wait(word.operation)
        return under_way and not self._calls.jobs.moving and self._people.may_still_take(word)

    @workflow.signal(name=names.UNDO)
    def undo(self, *given: Any) -> None:
        """Whether a cancellation that follows undoes what was done: true or false.

        Like every signal it takes whatever is sent: one that it did not take would fail the workflow's task, over and over.
        """
        if len(given) == 1 and isinstance(given[0], bool):
            self._undo_wanted = given[0]

    @workflow.update(name=names.PAUSE)
    async def pause(self) -> None:
        """Start no further turn or call until resumed, in this run and in those it has begun."""
        self._hold(held=True)

    @pause.validator
    def _check_pause(self) -> None:
        self._refuse_when_closing()

    @workflow.update(name=names.RESUME)
    async def resume(self) -> None:
        """Go on after a pause."""
        self._hold(held=False)

    @resume.validator
    def _check_resume(self) -> None:
        """Nothing stands against it, but what it does not take is refused before it is accepted."""

    @workflow.signal(name=names.HOLD)
    def hold(self, *given: Any) -> None:
        """The run that has begun this one is paused, or goes on: true or false."""
        if len(given) == 1 and isinstance(given[0], bool):
            self._hold(held=given[0])

    def _hold(self, *, held: bool) -> None:
        self._paused = held
        self._calls.hold(held=held)

    @workflow.signal(name=names.WAKE)
    def wake(self, *given: Any) -> None:
        """Somebody outside has a word on a call, named by its operation id, whose work goes on elsewhere: look now."""
        if len(given) == 1 and isinstance(given[0], str):
            self._calls.wake(given[0])

    @workflow.signal(name=names.REVIEW)
    def review(self, *_: Any) -> None:
        """The policy has changed: look again whether what waits for a person still must."""
        self._calls.asking.review()

    @workflow.query(name=names.STATE)
    def state(self) -> RunState:
        """Where the run stands."""
        return RunState(
            turn=self._turn,
            used=self._used(),
            paused=self._paused,
            waiting=self._people.waiting,
            blocked=self._saga.blocked,
            stalled=self.stalled,
        )

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise ApplicationError(PublicText("the run is ending: start a new one"), type=ErrorCode.DENIED)
