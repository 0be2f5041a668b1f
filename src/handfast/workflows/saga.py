"""Undoing what a run did: the last turn first, the calls of one turn side by side, each until it is undone or a person let it be."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

from handfast.workflows import options
from handfast.workflows.bookkeeping import book
from handfast.workflows.words import JUDGED_AT_ONCE, refusal

with workflow.unsafe.imports_passed_through():
    from handfast.contracts.errors import ErrorCode
    from handfast.contracts.names import (
        BEGIN_UNDO,
        COMPENSATE,
        PARENT,
        RECORD_DECISION,
        ROLLBACK_PREFIX,
        ROLLBACK_RUN,
    )
    from handfast.contracts.texts import PublicText
    from handfast.contracts.wire_undo import RollbackRequest, UndoInput, Undone, UndoPlan, UndoStep
    from handfast.contracts.wire_words import Blocked, RecordDecision, Stuck, UndoWord

LONGEST_WAIT = 30.0
"""Seconds until it is looked again whether a child is undone that somebody else undoes."""


class Saga:
    """The compensations that one run owes. Nothing stops it but its end: a cancellation does not reach it."""

    def __init__(self, on_change: Callable[[int], None]) -> None:
        self._on_change = on_change
        self._blocked: dict[str, Blocked] = {}
        self._words: dict[str, UndoWord] = {}
        self._said: dict[str, Undone] = {}
        """What came of words that are in the ledger already."""
        self._judging: set[str] = set()
        self._under_way: set[str] = set()
        """Calls that are being undone. The ledger knows that one of them is blocked before this does."""

    @property
    def blocked(self) -> tuple[Blocked, ...]:
        """Calls that could not be undone, and wait for a person; the first one first."""
        return tuple(self._blocked.values())

    async def undo(self, given: UndoInput) -> None:
        """Undo everything that is owed. Ends when nothing is left that somebody has not undone, or left on purpose."""
        # A call that was undone stands again if a late attempt of it reports that it happened.
        while (plan := await self._begin(given)).steps:
            await self._carry_out(plan)

    async def _begin(self, given: UndoInput) -> UndoPlan:
        return await book(BEGIN_UNDO, given, UndoPlan)

    async def _carry_out(self, plan: UndoPlan) -> None:
        self._under_way.update(step.undoes for step in plan.steps)
        for _, group in groupby(plan.steps, key=lambda step: step.group):
            if any(await asyncio.gather(*(self._in_order(lane, plan) for lane in _lanes(list(group))))):
                # What else is owed must be asked again.
                self._under_way.difference_update(step.undoes for step in plan.steps)
                return

    def require_owed(self, word: UndoWord) -> None:
        """Refuse a word on a call that is not being undone.

        Raises:
            ApplicationError: It is not, or somebody was faster.
        """
        if word.operation in self._words or word.operation not in self._under_way:
            ids = ", ".join(self._blocked) or "none"
            message = f"operation {word.operation} does not wait to be undone; blocked: {ids}"
            raise ApplicationError(PublicText(message), type=ErrorCode.DENIED)

    async def take(self, word: UndoWord) -> None:
        """Take a person's word, once the call waits for it; the first one counts.

        Raises:
            ApplicationError: It was undone, or somebody was faster.
        """
        await workflow.wait_condition(lambda: word.operation in self._blocked or word.operation not in self._under_way)
        self.require_owed(word)
        if workflow.patched(JUDGED_AT_ONCE):
            self._said[word.operation] = await self._judge(word)
        self._words[word.operation] = word

    async def _judge(self, word: UndoWord) -> Undone:
        """Whether it counts says the ledger, before the saga hears of it.

        Raises:
            ApplicationError: It does not, or somebody is just saying another one.
        """
        if word.operation in self._judging:
            raise ApplicationError(
                PublicText(f"operation {word.operation}: somebody was faster"), type=ErrorCode.DENIED
            )
        self._judging.add(word.operation)
        try:
            return await self._record(RecordDecision(unblock=word))
        except FailureError as error:
            raise refusal(error) from error
        finally:
            self._judging.discard(word.operation)

    async def _in_order(self, lane: Sequence[UndoStep], plan: UndoPlan) -> bool:
        """Whether one of them turned out to have happened, and commits the job."""
        committed = False
        for step in lane:
            committed = await self._through(step, plan) or committed
            self._under_way.discard(step.undoes)
        return committed

    async def _through(self, step: UndoStep, plan: UndoPlan) -> bool:
        while (undone := await self._undo(step, plan)).blocked:
            said = await self._ask(step, undone.blocked)
            if not said.retry:
                return False
            step = step.model_copy(update={"call": step.call.model_copy(update={"id": said.retry})})
        return undone.committed

    async def _undo(self, step: UndoStep, plan: UndoPlan) -> Undone:
        """Undo one call; if it is a run of its own, that as a whole before."""
        if step.child:
            await self._undo_run(step)
        undone = await self._compensate(step, plan)
        wait = 1.0
        while undone.owed:
            # Somebody undoes that run already, or it goes on and does not stop at once.
            await workflow.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)
            await self._undo_run(step)
            undone = await self._compensate(step, plan)
        return undone

    async def _undo_run(self, step: UndoStep) -> None:
        request = RollbackRequest(cause=PARENT, ends=True)
        with contextlib.suppress(FailureError):
            await workflow.execute_child_workflow(
                ROLLBACK_RUN, request, id=f"{ROLLBACK_PREFIX}{step.child}", **options.rollback(step)
            )

    async def _compensate(self, step: UndoStep, plan: UndoPlan) -> Undone:
        try:
            undone: Undone = await workflow.execute_activity(
                COMPENSATE, step.call, result_type=Undone, **options.compensation(step, plan)
            )
        except FailureError as error:
            reason = str(error.__cause__ or error)[:300]
            stuck = Stuck(operation=step.undoes, compensation=step.call.id, reason=reason)
            return await self._record(RecordDecision(stuck=stuck))
        return undone

    async def _ask(self, step: UndoStep, reason: str) -> Undone:
        """Wait for a person's word, and write it down."""
        while True:
            blocked = Blocked(operation=step.undoes, tool=step.tool, show=step.show, reason=reason[:300])
            self._block(blocked)
            await workflow.wait_condition(lambda: step.undoes in self._words)
            if (said := self._said.pop(step.undoes, None)) is not None:
                self._unblock(step.undoes)
                return said
            try:
                undone = await self._record(RecordDecision(unblock=self._words[step.undoes]))
            except FailureError as error:
                # The ledger refuses it: somebody has said otherwise there, as before a reset.
                reason = str(error.__cause__ or error)
                self._unblock(step.undoes)
            else:
                self._unblock(step.undoes)
                return undone

    async def _record(self, record: RecordDecision) -> Undone:
        handle: workflow.ActivityHandle[Any] = workflow.start_activity(
            RECORD_DECISION, record, result_type=Undone, **options.word()
        )
        undone: Undone = await handle
        return undone

    def _block(self, blocked: Blocked) -> None:
        self._blocked[blocked.operation] = blocked
        if len(self._blocked) == 1:
            self._on_change(1)

    def _unblock(self, operation_id: str) -> None:
        del self._words[operation_id], self._blocked[operation_id]
        if not self._blocked:
            self._on_change(0)


def _lanes(steps: Sequence[UndoStep]) -> list[list[UndoStep]]:
    """The calls of one turn by what they must not do at once, the last one first in each."""
    lanes: dict[str, list[UndoStep]] = {}
    for step in steps:
        lanes.setdefault(step.conflict or step.undoes, []).append(step)
    return list(lanes.values())
