"""Waiting for a person's word on a call, or for a policy that lets it go on without one."""

from collections.abc import Awaitable, Callable

from temporalio import workflow
from temporalio.exceptions import FailureError

from handfast.workflows import options
from handfast.workflows.bookkeeping import book
from handfast.workflows.people import People
from handfast.workflows.words import refusal

with workflow.unsafe.imports_passed_through():
    from handfast.contracts.effects import Outcome
    from handfast.contracts.names import RECORD_DECISION, REVIEW_CALL
    from handfast.contracts.wire import CallInput, CallResult, Head
    from handfast.contracts.wire_words import Decision, RecordDecision, Resolution

WORDS_BEFORE_LEDGER = "words-before-ledger"
"""Runs with this patch write a person's word to the ledger once Temporal has it for good (decision 13)."""


class Asking:
    """The calls of one run that wait for a person.

    Args:
        people: Who is asked, and what they have said.
        gives_up: Whether a call is waited for no longer.
        fence: Closes a call that is not carried out any more.
        moving: Whether the run is about to continue as new.
        reviews: So many before, if the run was continued as new.
    """

    def __init__(
        self,
        people: People,
        gives_up: Callable[[Head], bool],
        fence: Callable[[Head, str], Awaitable[CallResult]],
        moving: Callable[[], bool],
        reviews: int,
    ) -> None:
        self._people = people
        self._gives_up = gives_up
        self._fence = fence
        self._moving = moving
        self.reviews = reviews
        """How often something has changed for which calls that wait must be looked at again: the policy, or what people remember."""
        self.refused_pivot = ""
        """The turn's call that would have committed the job, if a person refused it."""

    def review(self) -> None:
        """Look again whether what waits for a person still must."""
        self.reviews += 1

    async def approved(self, head: Head, call: CallInput) -> bool:
        """Wait for a person, or until the policy lets it go on; False if the call is settled by that.

        A decision that the ledger refuses changes nothing there, such as after a reset, when the call was decided or even
        carried out before: the call itself then finds out what stands.
        """
        seen = 0
        while (decision := await self._person(head, unknown=False, seen=seen)) is None and self._must_review(
            head, seen
        ):
            seen = self.reviews
            reviewed = await self._review(call)
            if not reviewed.waiting:
                self._people.leave(head.id)
                if head.pivot and reviewed.outcome is Outcome.DENIED:
                    self.refused_pivot = head.id
                return reviewed.outcome is not Outcome.DENIED
        if decision is None:
            await self._fence(head, "the run was ended before anybody decided")
            return False
        if decision.operation not in self._people.recorded:
            try:
                await self._record(decision)
            except FailureError:
                return True
        approved = isinstance(decision, Decision) and decision.approve
        if head.pivot and not approved:
            self.refused_pivot = head.id
        return approved

    async def record(self, word: Decision | Resolution) -> CallResult:
        """Write down a word that somebody has just said.

        Raises:
            ApplicationError: It does not count, and why.
        """
        try:
            return await self._record(word)
        except FailureError as error:
            # What stands may be something else than this workflow knows: after a reset, for instance.
            self.review()
            raise refusal(error) from error

    async def resolved(self, head: Head) -> CallResult:
        """Wait until a person says what became of a call that nobody knows; it stays `UNKNOWN` if it is waited for no longer."""
        resolution = await self._person(head, unknown=True)
        if resolution is None:
            return CallResult(outcome=Outcome.UNKNOWN)
        if (recorded := self._people.recorded.get(head.id)) is not None:
            return recorded
        try:
            return await self._record(resolution)
        except FailureError:
            return await self._fence(head, "the resolution was refused")

    def _must_review(self, head: Head, seen: int) -> bool:
        """Whether the policy has changed since a waiting call was looked at."""
        return self.reviews != seen and not self._gives_up(head) and not self._moving()

    async def _review(self, call: CallInput) -> CallResult:
        return await book(REVIEW_CALL, call, CallResult)

    async def _person(self, head: Head, *, unknown: bool, seen: int | None = None) -> Decision | Resolution | None:
        """A person's word on a call; None if it is not waited for any longer, or the policy has changed since `seen`."""

        def moved_on() -> bool:
            return self._gives_up(head) or self._moving() or (seen is not None and self.reviews != seen)

        if self._people.word(head.id) is None:
            self._people.wait(head, unknown=unknown)
            await workflow.wait_condition(lambda: moved_on() or self._people.word(head.id) is not None)
        word = self._people.word(head.id)
        if word is None and (self._moving() or (seen is not None and self._must_review(head, seen))):
            # It goes on waiting, so that a word that is still said is taken along.
            return None
        self._people.leave(head.id)
        return word

    async def _record(self, word: Decision | Resolution) -> CallResult:
        record = RecordDecision(decision=word) if isinstance(word, Decision) else RecordDecision(resolution=word)
        if not workflow.patched(WORDS_BEFORE_LEDGER):
            return await book(RECORD_DECISION, record, CallResult)
        handle: workflow.ActivityHandle[CallResult] = workflow.start_activity(
            RECORD_DECISION, record, result_type=CallResult, **options.word()
        )
        return await handle
