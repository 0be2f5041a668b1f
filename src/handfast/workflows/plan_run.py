"""One workflow carries out every plan: what can begin begins, what is asked for is an operation like a model's call."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

from handfast.workflows.bookkeeping import book
from handfast.workflows.ending import Ending, bug, ending_of
from handfast.workflows.steered import Steered, read_request
from handfast.workflows.story import tell
from handfast.workflows.visibility import show_begun

with workflow.unsafe.imports_passed_through():
    from handfast.contracts import names
    from handfast.contracts.board import Board
    from handfast.contracts.effects import Effect, Outcome, RunStatus
    from handfast.contracts.limits import Used, limit_reached
    from handfast.contracts.plan_steps import PlanStep, PlanTurnInput, StepAsk, StepAsked
    from handfast.contracts.texts import PublicText
    from handfast.contracts.wire import (
        Carried,
        Head,
        OpenedPlan,
        OpenInput,
        PlanCarried,
        PlanRequest,
        RunClosed,
        RunRequest,
        TurnResult,
    )
    from handfast.contracts.wire_undo import UndoInput

FORWARD = 10
"""How often a call behind the pivot is asked for again, unless its step says more: there is no way back."""
LONGEST_WAIT = 60
"""Seconds between two of these."""


MOST_TOLD = 500
"""Every call of a turn is told what follows. Beyond so many entries together the history would pay more than a local activity."""


@workflow.defn(name=names.PLAN_RUN)
class PlanRun(Steered):
    """A durable run of a plan: open, ask for what is ready, carry it out, record, close."""

    @workflow.init
    def __init__(self, request: Any) -> None:
        self._request, self._fault = read_request(PlanRequest, request)
        carried = self._request.carried
        taken = (
            Carried(
                opened=carried.opened,
                turn=carried.turn,
                used=carried.used,
                paused=carried.paused,
                reviews=carried.reviews,
            )
            if carried
            else Carried()
        )
        self._set_up(taken, self._request.continue_after_turns)
        self._steps: tuple[PlanStep, ...] = carried.steps if carried else ()
        self._board = Board(self._steps, carried.progress, carried.again) if carried else Board(())
        self._committed = carried.committed if carried else False
        """A pivot has happened: there is no way back."""
        self._under_way: set[asyncio.Task[None]] = set()
        self._stirred = False
        """Something has ended since it was last looked what is ready."""
        self._end: Ending | None = None
        self._foreseen: tuple[int, TurnResult] | None = None
        """The next turn, if it was settled on the way, by the opening or by the call before it. It must be taken as it is."""

    @workflow.run
    async def run(self, request: Any) -> RunClosed:
        """From the opening to the close; a cancellation ends it in good order."""
        return await tell(self._story(), self._cancel)

    async def _story(self) -> RunClosed:
        try:
            if self._request.carried is None:
                await self._open()
            await self._carry_out()
        except FailureError as error:
            self._end = ending_of(error, cancelled=self._cancelled)
        except Exception as error:  # noqa: BLE001 - a bug must fail the run with its reason, not spin in a task failure
            self._end = bug(error)
        self._calls.end()
        await self._until_all_ended()
        if self._foreseen is not None:
            await self._leave_out(self._foreseen[1])
        return await self._close(self._end or Ending(status=RunStatus.CANCELLED, reason="cancelled"))

    async def _leave_out(self, turn: TurnResult) -> None:
        """Do without a turn that was settled on the way; but if the run was closed with it, whatever came since came too late."""
        if turn.closed is None:
            await self._calls.leave_out(turn.heads)
        else:
            self._closed, self._end = turn.closed, Ending(status=RunStatus.COMPLETED)

    async def _open(self) -> None:
        self._require_startable(self._fault)
        show_begun(self._request.agent, self._request.tenant)
        asked = self._request
        request = RunRequest(
            agent=asked.agent, text=asked.text, user=asked.user, tenant=asked.tenant, by_reference=asked.by_reference
        )
        given = OpenInput(request=request, execution=workflow.info().first_execution_run_id)
        opened = await book(names.OPEN_PLAN, given, OpenedPlan)
        self._opened, self._steps = opened.opened, opened.steps
        self._foreseen = None if opened.first is None else (1, opened.first)
        self._board = Board(self._steps)

    async def _carry_out(self) -> None:
        """Ask for what is ready until nothing is left, something fails that nothing makes up for, or the run is ended."""
        # What has ended while this waited to go on counts: the end is looked at last.
        while await self._may_go_on() and self._end is None:
            self._stirred = False
            if self._foreseen is None and self._must_continue_as_new():
                await self._continue_as_new()
            elif limit := limit_reached(self._opened.limits, Used(work_seconds=self._clock.seconds)):
                self._give_up(Ending(status=RunStatus.LIMIT_REACHED, limit=limit))
            elif asks := self._board.ready():
                await self._ask(asks)
            elif self._board.over:
                await self._ask((), closes=self._opened.closes)
                if self._board.over:
                    self._end = self._end or Ending(status=RunStatus.COMPLETED)
            else:
                workflow.set_current_details(self._board.told())
                await workflow.wait_condition(lambda: self._stirred or self._cancelled or self._end is not None)

    async def _ask(self, asks: tuple[StepAsk, ...], *, closes: bool = False) -> None:
        """Settle a turn and carry out what it asks for.

        If it was settled before, it stands, and may ask for something else: what was ready then. Whatever is left is asked for next.
        """
        result = await self._take_turn(asks, closes=self._clock.seconds if closes else None)
        self._closed = result.closed
        alone = not self._under_way
        places = iter(enumerate(result.heads))
        begun: list[tuple[StepAsked, list[tuple[int, Head]]]] = []
        for told in result.asked:
            heads = [next(places) for _ in range(told.heads)]
            self._board.claim(told)
            self._stirred = True
            if told.fault:
                self._give_up_if_failed(told.step, told.fault, entry=result.anchor[0])
            elif heads:
                begun.append((told, heads))
        # What a turn that was settled before has left out is asked for beside it.
        alone = alone and not self._over and not self._board.ready()
        then = self._follows([told.step for told, _ in begun]) if alone else None
        if then is not None and len(then.asks) * len(result.heads) > MOST_TOLD:
            then = None
        for told, heads in begun:
            self._begin(told, heads, then, beside=len(result.heads) > 1)

    def _follows(self, step_ids: list[str]) -> PlanTurnInput | None:
        """The turn that follows if every call of these steps succeeds, if that can be told; the last of them may then settle it."""
        if any(self._board[step_id].ways > 1 for step_id in step_ids):
            return None
        asks = self._board.foresee(step_ids)
        if asks is None:
            return None
        closes = self._clock.seconds if self._opened.closes and not asks else None
        return PlanTurnInput(turn=self._turn + 1, asks=asks, closes=closes)

    async def _take_turn(self, asks: tuple[StepAsk, ...], closes: float | None) -> TurnResult:
        """Settle the next turn, and with the last one close the run, unless that was done on the way."""
        self._turn += 1
        self._turns_here += 1
        foreseen, self._foreseen = self._foreseen, None
        if foreseen is not None and foreseen[0] == self._turn:
            result = foreseen[1]
        else:
            self._asking = True
            try:
                with self._clock.working():
                    turn = PlanTurnInput(turn=self._turn, asks=asks, closes=closes)
                    result = await book(names.PLAN_TURN, turn, TurnResult)
            finally:
                self._asking = False
        self._spent = self._spent.model_copy(
            update={"turns": self._spent.turns + 1, "calls": self._spent.calls + result.calls}
        )
        return result

    def _begin(self, ask: StepAsk, heads: list[tuple[int, Head]], then: PlanTurnInput | None, *, beside: bool) -> None:
        """Carry out the calls of a step beside everything else. The last of its turn settles on its way what follows them."""
        step, turn = self._board[ask.step], self._turn
        with workflow.create_event_group(step.id).scope():
            if step.ways > 1:
                self._start(self._race(ask, heads, turn))
                return
            for number, (index, head) in enumerate(heads):
                one = StepAsk(step=step.id, first=ask.first + number, retry=ask.retry)
                self._start(self._call(one, head, index, turn, then, beside=beside))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        self._stirred = True
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug must end the run, not vanish in its task.
            self._give_up(bug(error))

    async def _call(
        self, ask: StepAsk, head: Head, index: int, turn: int, then: PlanTurnInput | None, *, beside: bool
    ) -> None:
        """One call of a step."""
        outcome = await self._calls.carry_out_one(head, index, turn, self._opened, then, beside=beside)
        followed = self._calls.followed_by(head)
        if followed is not None and self._turn == turn:
            self._foreseen = (turn + 1, followed)
        self._committed = self._committed or (head.pivot and outcome is Outcome.SUCCEEDED)
        if outcome is Outcome.FAILED and not self._over and ask.retry < self._retries(ask.step):
            await self._wait(ask.retry)
            self._board.retry(ask.model_copy(update={"retry": ask.retry + 1}))
        elif outcome is Outcome.SUCCEEDED:
            self._board.call_ended(ask.step, succeeded=True)
        else:
            self._fail(ask.step, f"its call {head.id} of {head.tool} ended as {outcome or Outcome.DENIED}")

    async def _race(self, ask: StepAsk, heads: list[tuple[int, Head]], turn: int) -> None:
        """Several ways at once: the first that succeeds wins, the others are stopped, and undone."""
        ways = {
            asyncio.create_task(self._calls.carry_out_one(head, index, turn, self._opened)): head
            for index, head in heads
        }
        won: Head | None = None
        left: list[asyncio.Task[Outcome | None]] = list(ways)
        while left and won is None:
            await workflow.wait(left, return_when=asyncio.FIRST_COMPLETED)
            won = next((ways[way] for way in left if way.done() and way.result() is Outcome.SUCCEEDED), None)
            left = [way for way in left if not way.done()]
        for way in left:
            self._calls.stop(ways[way])
        if left:
            await workflow.wait(left)
        if won is None:
            self._fail(ask.step, "none of its ways has succeeded")
            return
        lost = tuple(head.id for _, head in heads if head is not won and head.effect is not Effect.READ)
        if lost and not self._over:
            await self._saga.undo(UndoInput(cause=names.RACE, by_call=won.id, only=lost))
        self._board.call_ended(ask.step, succeeded=True)

    def _fail(self, step_id: str, reason: str) -> None:
        """A call of a step has failed for good; the plan ends with it unless something makes up for it."""
        self._board.call_ended(step_id, succeeded=False)
        self._give_up_if_failed(step_id, reason)

    def _give_up_if_failed(self, step_id: str, reason: str, *, entry: int = 0) -> None:
        if self._board.has_failed(step_id):
            reason = PublicText(f"step {step_id!r}: {reason}")
            self._give_up(Ending(status=RunStatus.FAILED, reason=reason, entry=entry))

    def _give_up(self, ending: Ending) -> None:
        """End the run; the first reason counts. Calls under way come to their end, and are undone with all others."""
        if not self._over:
            self._end = ending
            self._calls.end()

    @property
    def _over(self) -> bool:
        return self._cancelled or self._end is not None

    def _retries(self, step_id: str) -> int:
        said = self._board[step_id].retries
        return max(said, FORWARD) if self._committed else said

    async def _wait(self, retry: int) -> None:
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._over, timeout=min(2**retry, LONGEST_WAIT))

    async def _until_all_ended(self) -> None:
        await workflow.wait_condition(lambda: not self._under_way)

    def _must_undo(self, ending: Ending) -> bool:
        """A step that fails says itself whether the plan is undone: it does not end the plan else."""
        ends_undone = bool(self._steps) and not self._opened.keeps
        return (ending.status is RunStatus.FAILED and ends_undone) or super()._must_undo(ending)

    async def _continue_as_new(self) -> None:
        """Go on in a fresh history, once every call under way has ended."""
        await self._until_all_ended()
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._over:
            return
        carried = PlanCarried(
            opened=self._opened,
            steps=self._steps,
            progress=self._board.progress,
            again=self._board.again,
            turn=self._turn,
            used=self._used(),
            paused=self._paused,
            committed=self._committed,
            runs=(self._request.carried.runs if self._request.carried else 0) + 1,
            reviews=self._calls.asking.reviews,
        )
        request = self._request.model_copy(update={"text": "", "carried": carried})
        workflow.continue_as_new(request, initial_versioning_behavior=self._upgrade())
