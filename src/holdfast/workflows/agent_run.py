"""One workflow runs every agent. It reads no registry and runs no user code: what decides arrives in activity results."""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

from holdfast.workflows import options
from holdfast.workflows.calls import Calls
from holdfast.workflows.clock import WorkClock
from holdfast.workflows.ending import Ending, ending_of, restarting
from holdfast.workflows.people import People
from holdfast.workflows.saga import Saga
from holdfast.workflows.story import tell
from holdfast.workflows.visibility import AGENT, COST, STATUS, TENANT, show_blocked, show_status, show_waiting

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from holdfast.contracts import names
    from holdfast.contracts.effects import Lane, RunStatus
    from holdfast.contracts.errors import ErrorCode
    from holdfast.contracts.limits import Used, limit_near, limit_reached
    from holdfast.contracts.wire import (
        Carried,
        CloseInput,
        Decision,
        Head,
        Opened,
        OpenInput,
        Resolution,
        RunClosed,
        RunRequest,
        RunState,
        Said,
        TurnInput,
        TurnResult,
        UndoInput,
        UndoWord,
    )  # fmt: skip


@workflow.defn(name=names.AGENT_RUN)
class AgentRun:
    """A durable run of an agent: open, think, gate, act, record, close."""

    @workflow.init
    def __init__(self, request: Any) -> None:
        self._fault = ""
        try:
            self._request = RunRequest.model_validate(request)
        except ValidationError as error:
            # Raised here it would be retried for ever; `run` fails visibly instead.
            self._fault = f"the input is no run request: {error.errors(include_url=False)}"
            self._request = RunRequest(agent="?")
        carried = self._request.carried or Carried()
        self._opened = carried.opened or Opened(model="")
        self._turn = carried.turn
        self._spent = carried.used
        self._said = list(carried.said)
        self._paused = carried.paused
        self._turns_here = 0
        self._cancelled = False
        self._closing = False
        self._clock = WorkClock(carried.used.work_seconds)
        self._people = People(show_waiting, carried.words)
        self._calls = Calls(self._clock, self._people, self._may_go_on, self._roll_back, carried)
        self._saga = Saga(self._show_blocked)
        self._undone = False
        """Calls were undone since the last turn, and the run goes on."""
        self._undo_wanted: bool | None = None
        """Whether a cancellation undoes what was done; None if nobody said."""
        self._branch = carried.branch
        self._resting = carried.resting
        """The model has answered, and is asked again when there is news of its jobs."""
        self._thinking: workflow.ActivityHandle[TurnResult] | None = None
        self._near = ""
        """The limit for which the model was asked for its answer in this turn."""

    @workflow.run
    async def run(self, request: Any) -> RunClosed:
        """From the opening to the close; a cancellation ends it in good order."""
        return await tell(self._story(), self._cancel)

    async def _story(self) -> RunClosed:
        try:
            if self._request.carried is None:
                await self._open()
            else:
                self._calls.take_up(self._request.carried.jobs, self._opened)
            ending: Ending | None = None
            while ending is None:
                if self._resting:
                    await self._rest()
                else:
                    ending = await self._take_turn()
                self._calls.jobs.require_sound()
                if ending is None and self._must_continue_as_new():
                    await self._continue_as_new()
        except FailureError as error:
            ending = ending_of(error, cancelled=self._cancelled)
        except Exception as error:  # noqa: BLE001 - a bug must fail the run with its reason, not spin in a task failure
            workflow.logger.exception("bug in AgentRun")
            ending = Ending(status=RunStatus.FAILED, reason=f"{type(error).__name__}: {error}")
        return await self._close(ending)

    async def _open(self) -> None:
        if fault := self._fault or restarting(workflow.info()):
            raise ApplicationError(fault, type=ErrorCode.INTERNAL)
        if workflow.info().typed_search_attributes.get(AGENT) is None:
            workflow.upsert_search_attributes(
                [
                    AGENT.value_set(self._request.agent),
                    STATUS.value_set(RunStatus.RUNNING),
                    TENANT.value_set(self._request.tenant),
                ]
            )
        given = OpenInput(request=self._request, execution=workflow.info().first_execution_run_id)
        self._opened = await workflow.execute_local_activity(
            names.OPEN_RUN, given, result_type=Opened, **options.booking()
        )

    async def _take_turn(self) -> Ending | None:
        """One turn with its calls; how the run ends after it, or None if it goes on."""
        with workflow.create_event_group(str(self._turn + 1)).scope():
            turn = await self._think()
            if turn is not None:
                await self._calls.carry_out(turn.heads, self._turn, self._opened)
                if refused := self._calls.refused_pivot:
                    await self._undo_and_go_on(UndoInput(cause="pivot", by_call=refused))
        ending = self._ending(turn)
        self._resting = ending is None and turn is not None and turn.answered and not self._news
        return ending

    @property
    def _news(self) -> bool:
        """Whether there is something the model does not know yet."""
        return bool(self._said) or self._calls.jobs.stirring

    async def _rest(self) -> None:
        """The model has answered, and work of its calls goes on: wait until there is something to tell it."""
        workflow.set_current_details(f"waits for {len(self._calls.jobs.open)} jobs in the background")
        await workflow.wait_condition(lambda: self._cancelled or self._news or self._must_continue_as_new())
        self._resting = not (self._cancelled or self._news)

    async def _think(self) -> TurnResult | None:
        """The model's next turn, settled; None if the run was cancelled."""
        if not await self._may_go_on():
            return None
        used = self._used()
        self._near = limit_near(self._opened.limits, used) or ""
        left = max(self._opened.limits.wall_time.total_seconds() - used.work_seconds, 1.0)
        said, self._said = tuple(self._said), []
        self._turn += 1
        self._turns_here += 1
        workflow.set_current_details(f"turn {self._turn}, {used.calls} calls, {used.cost_usd:.4f} USD so far")
        turn = TurnInput(
            turn=self._turn,
            said=said,
            answer_now=self._near,
            left=round(left, 1),
            jobs=self._calls.jobs.news,
            branch=self._branch,
            undone=self._undone,
        )
        self._undone = False
        self._thinking = self._ask_model(turn)
        try:
            with self._clock.working():
                result = await self._thinking
        finally:
            self._thinking = None
        self._branch = result.branch
        self._calls.jobs.told(result.jobs)
        self._spent = Used(
            turns=used.turns + 1,
            calls=used.calls + result.calls,
            tokens=used.tokens + result.tokens,
            cost_usd=used.cost_usd + result.cost_usd,
        )
        return result

    def _ask_model(self, turn: TurnInput) -> workflow.ActivityHandle[TurnResult]:
        if self._opened.model_lane is Lane.FAST:
            return workflow.start_local_activity(names.MODEL_TURN, turn, result_type=TurnResult, **options.booking())
        return workflow.start_activity(
            names.MODEL_TURN, turn, result_type=TurnResult, **options.model_turn(self._opened)
        )

    def _ending(self, turn: TurnResult | None) -> Ending | None:
        """How the run ends after this turn, or None if it goes on."""
        if self._cancelled or turn is None:
            return Ending(status=RunStatus.CANCELLED, reason="cancelled")
        if turn.refused:
            return Ending(status=RunStatus.REFUSED, reason="the model declined to answer")
        if turn.full:
            return Ending(status=RunStatus.LIMIT_REACHED, limit="context")
        if self._near:
            return Ending(status=RunStatus.LIMIT_REACHED, limit=self._near)
        if turn.answered and not self._news and not self._calls.jobs.open:
            return Ending(status=RunStatus.COMPLETED)
        limit = limit_reached(self._opened.limits, self._used())
        return Ending(status=RunStatus.LIMIT_REACHED, limit=limit) if limit else None

    async def _close(self, ending: Ending) -> RunClosed:
        self._closing = True
        await self._calls.end_jobs()
        if self._must_undo(ending):
            await self._saga.undo(UndoInput(cause=ending.status, reason=(ending.reason or ending.limit)[:300]))
        close = CloseInput(
            status=ending.status, limit=ending.limit, reason=ending.reason, work_seconds=self._clock.seconds
        )
        closed: RunClosed = await workflow.execute_local_activity(
            names.CLOSE_RUN, close, result_type=RunClosed, **options.booking()
        )
        workflow.upsert_search_attributes([STATUS.value_set(closed.status), COST.value_set(closed.cost_usd)])
        workflow.set_current_details(f"{closed.status}: {closed.turns} turns, {closed.calls} calls")
        if ending.status is RunStatus.FAILED:
            raise ApplicationError(ending.reason, type=ending.code, non_retryable=True)
        if ending.status is RunStatus.CANCELLED:
            raise asyncio.CancelledError(ending.reason)
        return closed

    async def _roll_back(self, head: Head) -> None:
        """Undo what was done since the savepoint that a call of the model names."""
        await self._undo_and_go_on(UndoInput(cause=names.ROLL_BACK, by_call=head.id))

    async def _undo_and_go_on(self, given: UndoInput) -> None:
        await self._saga.undo(given)
        self._undone = True

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
        self._calls.cancel()
        if self._thinking is not None:
            self._thinking.cancel()

    async def _may_go_on(self) -> bool:
        """Wait while the run is paused; False once it is cancelled."""
        await workflow.wait_condition(lambda: self._cancelled or not self._paused)
        return not self._cancelled

    def _used(self) -> Used:
        return self._spent.model_copy(update={"work_seconds": self._clock.seconds})

    def _must_continue_as_new(self) -> bool:
        info = workflow.info()
        forced = 0 < self._request.continue_after_turns <= self._turns_here
        return forced or info.is_continue_as_new_suggested() or info.is_target_worker_deployment_version_changed()

    async def _continue_as_new(self) -> None:
        """Go on in a fresh history, on the newest deployed version. What handlers claimed is in the carried state."""
        self._calls.jobs.moving = True
        await self._calls.jobs.ended()
        await workflow.wait_condition(workflow.all_handlers_finished)
        jobs = self._calls.jobs
        carried = Carried(
            turn=self._turn,
            used=self._used(),
            said=tuple(self._said),
            paused=self._paused,
            opened=self._opened,
            runs=(self._request.carried.runs if self._request.carried else 0) + 1,
            branch=self._branch,
            jobs=jobs.open,
            news=jobs.news,
            words=self._people.words,
            resting=self._resting and not self._news,
        )
        upgrade = workflow.info().is_target_worker_deployment_version_changed()
        behaviour = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE if upgrade else None
        workflow.continue_as_new(
            self._request.model_copy(update={"text": "", "carried": carried}), initial_versioning_behavior=behaviour
        )

    @workflow.update(name=names.SAY)
    async def say(self, said: Said) -> None:
        """Say something to the model before its next turn."""
        self._said.append(said)

    @say.validator
    def _check_say(self, said: Said) -> None:
        if not said.ref and not said.text.strip():
            raise ApplicationError("there is nothing in it to say", type=ErrorCode.INTERNAL)
        self._refuse_when_closing()

    @workflow.update(name=names.DECIDE)
    async def decide(self, decision: Decision) -> None:
        """Approve or reject a call that waits, or is about to."""
        await self._take(decision)

    @decide.validator
    def _check_decision(self, decision: Decision) -> None:
        self._check_word(decision)

    @workflow.update(name=names.RESOLVE)
    async def resolve(self, resolution: Resolution) -> None:
        """Say what became of a call whose outcome is UNKNOWN."""
        await self._take(resolution)

    @resolve.validator
    def _check_resolution(self, resolution: Resolution) -> None:
        self._check_word(resolution)

    def _check_word(self, word: Decision | Resolution) -> None:
        if self._people.takes(word) or not self._may_come(word):
            self._people.require_fitting(word)

    async def _take(self, word: Decision | Resolution) -> None:
        if not self._people.takes(word):
            await workflow.wait_condition(lambda: self._people.takes(word) or not self._may_come(word))
        self._people.claim(word)

    def _may_come(self, word: Decision | Resolution) -> bool:
        """Whether the call may yet come to wait for it: the ledger knows of it before the workflow does.

        In the first turn also before the model is asked: after a reset Temporal repeats the words that were said before.
        """
        opening = self._turn == 0 and not self._closing
        under_way = opening or self._thinking is not None or self._calls.may_come_to_wait(word.operation)
        return under_way and not self._calls.jobs.moving and self._people.may_still_take(word)

    @workflow.update(name=names.UNBLOCK)
    async def unblock(self, word: UndoWord) -> None:
        """Say what becomes of a call that could not be undone."""
        await self._saga.take(word)

    @unblock.validator
    def _check_unblock(self, word: UndoWord) -> None:
        self._saga.require_owed(word)

    @workflow.signal(name=names.UNDO)
    def undo(self, wanted: bool) -> None:
        """Whether a cancellation that follows undoes what was done."""
        self._undo_wanted = wanted

    @workflow.update(name=names.PAUSE)
    async def pause(self) -> None:
        """Start no further turn or call until resumed."""
        self._paused = True

    @pause.validator
    def _check_pause(self) -> None:
        self._refuse_when_closing()

    @workflow.update(name=names.RESUME)
    async def resume(self) -> None:
        """Go on after a pause."""
        self._paused = False

    @workflow.signal(name=names.WAKE)
    def wake(self, operation_id: str) -> None:
        """Somebody outside has a word on a call whose work goes on elsewhere: look now."""
        self._calls.wake(operation_id)

    @workflow.query(name=names.STATE)
    def state(self) -> RunState:
        """Where the run stands."""
        return RunState(
            turn=self._turn,
            used=self._used(),
            paused=self._paused,
            waiting=self._people.waiting,
            blocked=self._saga.blocked,
        )

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise ApplicationError("the run is ending: start a new one", type=ErrorCode.DENIED)
