"""Carrying out the calls of one turn: in parallel, in order where they conflict, after approval where one is needed.

A call whose work goes on in the background is left to a job, so that the turn can end.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

from handfast.workflows import options
from handfast.workflows.asking import Asking
from handfast.workflows.bookkeeping import book, locally
from handfast.workflows.children import ChildHandle, Children
from handfast.workflows.clock import WorkClock
from handfast.workflows.jobs import Jobs
from handfast.workflows.people import People

with workflow.unsafe.imports_passed_through():
    from handfast.contracts.effects import Effect, Lane, Outcome, Verdict
    from handfast.contracts.names import FENCE, ROLL_BACK, WAIT_FOR_MESSAGE
    from handfast.contracts.plan_steps import PlanTurnInput
    from handfast.contracts.wire import CallInput, CallResult, Carried, FenceInput, Head, Job, Opened, TurnResult


AT_ONCE = 0.001
"""Seconds until the first look at a job that was taken along."""


class Calls:
    """The calls of one run, as its workflow carries them out."""

    def __init__(
        self,
        clock: WorkClock,
        people: People,
        may_go_on: Callable[[], Awaitable[bool]],
        roll_back: Callable[[Head], Awaitable[None]],
        is_told: Callable[[], bool],
        children: Children,
        carried: Carried,
    ) -> None:
        self._clock = clock
        self._people = people
        self._may_go_on = may_go_on
        self._roll_back = roll_back
        self._is_told = is_told
        self._children = children
        self.jobs = Jobs(carried.news)
        self._under_way: dict[str, Any] = {}
        """By operation: what can be asked to stop."""
        self._stopped: set[str] = set()
        """Calls that nobody needs any more."""
        self._in_turn: dict[str, asyncio.Lock] = {}
        """By what must not be done at once: whose turn it is, among calls that are not of one turn of a model."""
        self._unsettled = {job.head.id for job in carried.jobs}
        self._elsewhere: set[str] = set()
        """Calls whose work goes on elsewhere, and nobody is looking just now."""
        self._awake: set[str] = set()
        """Those whose work may have ended there."""
        self._ending = False
        """No further call is started, and nobody is waited for."""
        self.asking = Asking(people, self._gives_up, self._fence, lambda: self.jobs.moving, carried.reviews)
        self._outcomes: dict[str, Outcome] = {}
        """Of the turn's calls that were carried out."""
        self.handed_over = ""
        """The turn's call whose answer is the run's."""
        self._followed: dict[str, TurnResult] = {}
        """By call: the turn that it has settled on the way."""

    def cancel(self, *, undo: bool | None = None) -> None:
        """Start no further call, and ask those under way to stop; `undo` is for those that are runs of their own."""
        self._ending = True
        self._children.undo = undo
        for handle in list(self._under_way.values()):
            handle.cancel()

    def hold(self, *, held: bool) -> None:
        """Pass a pause, or its end, on to the calls that are runs of their own."""
        self._children.hold(held=held)

    def end(self) -> None:
        """Start no further call and wait for nobody; let those under way come to their end, so that what they did is known.

        Those that are runs of their own are asked to: that leaves no doubt.
        """
        self._ending = True
        for handle in list(self._under_way.values()):
            if isinstance(handle, ChildHandle):
                handle.cancel()

    def stop(self, head: Head) -> None:
        """Do without one call: it is not begun, and asked to stop where that leaves no doubt that nobody could clear up."""
        self._stopped.add(head.id)
        if head.id in self._under_way and (head.effect is Effect.READ or head.stoppable):
            self._under_way[head.id].cancel()

    def wake(self, operation_id: str) -> None:
        """Look at a call whose work goes on elsewhere before its time. What became of it says the ledger."""
        if operation_id in self._unsettled:
            self._awake.add(operation_id)

    def may_come_to_wait(self, operation_id: str) -> bool:
        """Whether it is a call of this turn, or a job, that a person may have a word on before the workflow knows.

        Not while its work goes on elsewhere, which may take days: only a look can find that it has ended.
        """
        return operation_id in self._unsettled and operation_id not in self._elsewhere

    async def carry_out(self, heads: Sequence[Head], turn: int, opened: Opened) -> None:
        """Every call of a turn, until each is settled."""
        self._unsettled.update(head.id for head in heads if head.verdict is not Verdict.DENY)
        self._people.expect(heads)
        self._outcomes.clear()
        self.asking.refused_pivot = self.handed_over = ""
        before: list[Head] = []
        for stage in stages(heads):
            held = any(head.pivot for _, head in [*stage, *enumerate(before)]) and not self._all_succeeded(before)
            if held or self.handed_over:
                await asyncio.gather(*(self._hold_back(head) for _, head in stage if head.verdict is not Verdict.DENY))
            else:
                await self._carry_out(stage, turn, opened)
            before.extend(head for _, head in stage)
            handed_over = (head.id for _, head in stage if head.hand_off and self._all_succeeded([head]))
            self.handed_over = self.handed_over or next(handed_over, "")

    def _all_succeeded(self, heads: Iterable[Head]) -> bool:
        return all(self._outcomes.get(head.id) is Outcome.SUCCEEDED for head in heads)

    async def _hold_back(self, head: Head) -> None:
        why = "it commits the job" if head.pivot else "it comes after what commits the job"
        why = f"{why}, and not every call before it in the turn has succeeded; ask for it again"
        await self._fence(head, "the run was handed over before" if self.handed_over else why)
        self._unsettled.discard(head.id)

    async def _carry_out(self, stage: Sequence[tuple[int, Head]], turn: int, opened: Opened) -> None:
        lanes: dict[str, list[tuple[int, Head]]] = {}
        for index, head in stage:
            if head.verdict is not Verdict.DENY:
                lanes.setdefault(head.conflict or head.id, []).append((index, head))
        if len(lanes) == 1:
            [lane] = lanes.values()
            await self._in_order(lane, turn, opened)
            return
        tasks = [asyncio.create_task(self._in_order(lane, turn, opened)) for lane in lanes.values()]
        # A bug in one lane ends the run, but not before the calls under way in the others are settled.
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in filter(None, ended):
            raise error

    async def carry_out_one(
        self,
        head: Head,
        index: int,
        turn: int,
        opened: Opened,
        then: PlanTurnInput | None = None,
        *,
        beside: bool = False,
    ) -> Outcome | None:
        """One call of a turn beside others, until it is settled: what became of it, None if it was not carried out.

        Calls with the same conflict come one after the other. The end of work that goes on elsewhere is waited for. The turn `then`
        may be settled on the way, if the call succeeds, and so have those `beside` it: see `followed_by`.
        """
        if head.verdict is Verdict.KEPT:
            return Outcome.SUCCEEDED
        if head.verdict is Verdict.DENY:
            return None
        self._unsettled.add(head.id)
        self._people.expect([head])
        call = CallInput(id=head.id, turn=turn, index=index, digest=head.digest, then=then, beside=beside)
        async with self._in_turn.setdefault(head.conflict or head.id, asyncio.Lock()):
            try:
                result = await self._begin(head, call, opened)
                if result is not None:
                    await self._see_through(head, call, opened, result)
            finally:
                self._unsettled.discard(head.id)
                if not head.conflict:
                    del self._in_turn[head.id]
        return self._outcomes.pop(head.id, None)

    def followed_by(self, head: Head) -> TurnResult | None:
        """The turn that a call has settled on the way, if it did; told once."""
        return self._followed.pop(head.id, None)

    async def leave_out(self, heads: Iterable[Head]) -> None:
        """Close calls that were asked for and are not carried out any more."""
        for head in heads:
            if head.verdict is not Verdict.DENY:
                await self._fence(head, "the run was ended")

    def take_up(self, jobs: Iterable[Job], opened: Opened) -> None:
        """Go on with the jobs that were taken along: look at each at once."""
        for job in jobs:
            look = CallResult(pending=AT_ONCE)
            self.jobs.start(job, self._see_through(job.head, job.call, opened, look))

    async def end_jobs(self) -> None:
        """Wait for no job any longer: what goes on elsewhere is shown as not known."""
        self._ending = True
        await self.jobs.ended()

    async def _in_order(self, lane: list[tuple[int, Head]], turn: int, opened: Opened) -> None:
        for index, head in lane:
            call = CallInput(id=head.id, turn=turn, index=index, digest=head.digest)
            try:
                await self._settle(head, call, opened)
            except BaseException:
                self._ending = True
                raise
            finally:
                if head.id not in self.jobs:
                    self._unsettled.discard(head.id)

    async def _settle(self, head: Head, call: CallInput, opened: Opened) -> None:
        result = await self._begin(head, call, opened)
        if result is not None:
            seen_through = self._see_through(head, call, opened, result)
            if result.background:
                self.jobs.start(Job(head=head, call=call), seen_through)
            else:
                await seen_through

    async def _begin(self, head: Head, call: CallInput, opened: Opened) -> CallResult | None:
        """What came of the call's execution, None if it is settled without one."""
        asks = head.verdict is Verdict.ASK
        while True:
            if asks and not await self.asking.approved(head, call):
                return None
            if not await self._may_go_on() or self._gives_up(head):
                await self._fence(head, "the run was ended, or has found another way")
                return None
            if head.tool == ROLL_BACK:
                await self._roll_back(head)
            if head.tool == WAIT_FOR_MESSAGE:
                await self._wait_for_message(head)
            result = await self._execute(head, call, opened)
            if not result.waiting:
                return result
            asks = True

    async def _wait_for_message(self, head: Head) -> None:
        """Wait until somebody has written, with no worker's slot held."""
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._is_told() or self._gives_up(head), timeout=timedelta(seconds=head.timeout)
            )

    async def _see_through(self, head: Head, call: CallInput, opened: Opened, result: CallResult) -> bool:
        """Look at work that goes on elsewhere until it has ended, and wait for a person's word if nobody knows how.

        False if the run continues as new before that: the next execution takes the job up.
        """
        while result.pending:
            if await self._woken(head, result.pending):
                call = call.model_copy(update={"look": call.look + 1})
                if head.id in self.jobs:
                    self.jobs.update(Job(head=head, call=call))
                result = await self._execute(head, call, opened)
            elif not self._gives_up(head):
                return False
            else:
                result = await self._fence(head, "the run was ended while the call's work went on elsewhere")
        while result.outcome is Outcome.UNKNOWN and not self._gives_up(head):
            if self.jobs.moving and self._people.word(head.id) is None:
                return False
            result = await self.asking.resolved(head)
        self._unsettled.discard(head.id)
        self._outcomes[head.id] = result.outcome
        return True

    async def _woken(self, head: Head, seconds: float) -> bool:
        """Wait until it is worth looking again at work that goes on elsewhere; False if nobody looks from here any more."""
        if seconds > AT_ONCE:
            # A job that was just taken along may wait for a person's word: the first look, now, finds that.
            self._elsewhere.add(head.id)
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._gives_up(head) or self.jobs.moving or head.id in self._awake,
                timeout=timedelta(seconds=seconds),
            )
        self._elsewhere.discard(head.id)
        self._awake.discard(head.id)
        return not (self._gives_up(head) or self.jobs.moving)

    def _gives_up(self, head: Head) -> bool:
        return self._ending or head.id in self._stopped

    async def _execute(self, head: Head, call: CallInput, opened: Opened) -> CallResult:
        if head.child:
            return await self._children.carry_out(head, call, self._under_way, lambda: self._gives_up(head))
        handle: asyncio.Task[CallResult]
        standard = options.call_on_standard_lane(head, opened)
        if head.lane is Lane.FAST:
            handle = locally(head.tool, call, CallResult, options.call_on_fast_lane(head), standard)
        else:
            handle = workflow.start_activity(head.tool, call, result_type=CallResult, **standard)
        self._under_way[head.id] = handle
        try:
            with self._clock.working():
                result: CallResult = await handle
                if result.next is not None:
                    self._followed[head.id] = result.next
                return result
        except (FailureError, asyncio.CancelledError) as error:
            # Temporal says that it failed; only the ledger knows what happened.
            return await self._fence(head, str(error.__cause__ or error or "the run was cancelled"))
        finally:
            del self._under_way[head.id]

    async def _fence(self, head: Head, reason: str) -> CallResult:
        return await book(FENCE, FenceInput(id=head.id, reason=reason[:300]), CallResult)


def stages(heads: Sequence[Head]) -> list[list[tuple[int, Head]]]:
    """The calls of a turn with their places, in the stages in which they are carried out.

    What commits the job, what goes back to a savepoint, and what hands the run over, is a stage of its own: it waits for all calls
    before it.
    """
    found: list[list[tuple[int, Head]]] = [[]]
    for index, head in enumerate(heads):
        alone = head.pivot or head.hand_off or head.tool == ROLL_BACK
        if alone and found[-1]:
            found.append([])
        found[-1].append((index, head))
        if alone:
            found.append([])
    return [stage for stage in found if stage]
