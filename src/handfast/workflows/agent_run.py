"""One workflow runs every agent. It reads no registry and runs no user code: what decides arrives in activity results."""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

from handfast.workflows import options
from handfast.workflows.bookkeeping import book, locally
from handfast.workflows.ending import Ending, bug, ending_of
from handfast.workflows.steered import Steered, read_request
from handfast.workflows.story import tell
from handfast.workflows.visibility import show_begun

with workflow.unsafe.imports_passed_through():
    from handfast.contracts import names
    from handfast.contracts.effects import Lane, RunStatus
    from handfast.contracts.errors import ErrorCode
    from handfast.contracts.limits import Used, limit_near, limit_reached
    from handfast.contracts.texts import PublicText
    from handfast.contracts.wire import Carried, Opened, OpenInput, RunClosed, RunRequest, TurnInput, TurnResult
    from handfast.contracts.wire_undo import UndoInput
    from handfast.contracts.wire_words import Said


@workflow.defn(name=names.AGENT_RUN)
class AgentRun(Steered):
    """A durable run of an agent: open, think, gate, act, record, close."""

    @workflow.init
    def __init__(self, request: Any) -> None:
        self._request, self._fault = read_request(RunRequest, request)
        carried = self._request.carried or Carried()
        self._set_up(carried, self._request.continue_after_turns)
        self._said = list(carried.said)
        self._heard = set(carried.heard)
        """The references of what was said so far. A message that is said again is the same."""
        self._branch = carried.branch
        self._resting = carried.resting
        """The model has answered, and is asked again when there is news of its jobs."""
        self._thinking: asyncio.Task[TurnResult] | None = None
        self._counted = self._clock.own - carried.worked
        """Seconds of own work that the ledger has heard of."""
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
            ending = bug(error)
        return await self._close(ending)

    async def _open(self) -> None:
        self._require_startable(self._fault)
        show_begun(self._request.agent, self._request.tenant)
        given = OpenInput(request=self._request, execution=workflow.info().first_execution_run_id)
        self._opened = await book(names.OPEN_RUN, given, Opened)

    async def _take_turn(self) -> Ending | None:
        """One turn with its calls; how the run ends after it, or None if it goes on."""
        with workflow.create_event_group(str(self._turn + 1)).scope():
            turn = await self._think()
            if turn is not None:
                await self._calls.carry_out(turn.heads, self._turn, self._opened)
                if refused := self._calls.asking.refused_pivot:
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
        left = max(self._seconds_left(), 1.0)
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
            worked=self._worked,
        )
        self._undone = False
        self._thinking, self._asking = self._ask_model(turn), True
        try:
            with self._clock.working():
                result = await self._thinking
        finally:
            self._thinking, self._asking = None, False
        self._counted = self._clock.own
        self._branch = result.branch
        self._calls.jobs.told(result.jobs)
        self._spent = self._spent + Used(turns=1, calls=result.calls, tokens=result.tokens, cost_usd=result.cost_usd)
        return result

    @property
    def _worked(self) -> float:
        """Seconds of own work that the ledger has not heard of."""
        return round(max(self._clock.own - self._counted, 0.0), 3)

    def _ask_model(self, turn: TurnInput) -> "asyncio.Task[TurnResult]":
        if self._opened.model_lane is Lane.FAST:
            return locally(names.MODEL_TURN, turn, TurnResult, options.booking(), options.booking_in_sight())
        handle: workflow.ActivityHandle[TurnResult] = workflow.start_activity(
            names.MODEL_TURN, turn, result_type=TurnResult, **options.model_turn(self._opened)
        )
        return handle

    def _ending(self, turn: TurnResult | None) -> Ending | None:
        """How the run ends after this turn, or None if it goes on."""
        if self._cancelled or turn is None:
            return Ending(status=RunStatus.CANCELLED, reason="cancelled")
        if turn.failed:
            return Ending(status=RunStatus.FAILED, reason=turn.failed, code=ErrorCode.MODEL_ANSWER_INVALID)
        if turn.refused:
            return Ending(status=RunStatus.REFUSED, reason="the model declined to answer")
        if turn.full:
            return Ending(status=RunStatus.LIMIT_REACHED, limit="context")
        if near := self._near or turn.budget:
            return Ending(status=RunStatus.LIMIT_REACHED, limit=near)
        if turn.answered and not self._news and not self._calls.jobs.open:
            return Ending(status=RunStatus.COMPLETED)
        if by_call := self._calls.handed_over:
            return Ending(status=RunStatus.COMPLETED, answered_by=by_call)
        limit = limit_reached(self._opened.limits, self._used())
        return Ending(status=RunStatus.LIMIT_REACHED, limit=limit) if limit else None

    def _cancel(self) -> None:
        super()._cancel()
        if self._thinking is not None:
            self._thinking.cancel()

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
            heard=tuple(sorted(self._heard)),
            reviews=self._calls.asking.reviews,
            worked=self._worked,
        )
        request = self._request.model_copy(update={"text": "", "carried": carried})
        workflow.continue_as_new(request, initial_versioning_behavior=self._upgrade())

    @workflow.update(name=names.SAY)
    async def say(self, said: Said) -> None:
        """Say something to the model before its next turn."""
        if said.ref and said.ref in self._heard:
            return
        self._heard.update([said.ref] if said.ref else [])
        self._said.append(said)

    def _is_told(self) -> bool:
        """Whether there is something that the model does not know yet, for a call that waits for it."""
        return self._news

    @say.validator
    def _check_say(self, said: Said) -> None:
        if not said.ref and not said.text.strip():
            raise ApplicationError(PublicText("there is nothing in it to say"), type=ErrorCode.INTERNAL)
        self._refuse_when_closing()
