"""Calls that wait for a person: what waits, and whose word was taken. Claims are synchronous, so that each counts once.

The ledger knows of a call before the workflow does: from the moment at which its turn, or its outcome, is written down. Who
reads it there may answer at once, even if the worker dies before Temporal hears of it. Such a word waits for its call.
"""

from collections.abc import Callable, Iterable

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from handfast.contracts.effects import Verdict
    from handfast.contracts.errors import ErrorCode
    from handfast.contracts.texts import PublicText
    from handfast.contracts.wire import CallResult, Head
    from handfast.contracts.wire_words import Decision, Resolution, Waiting


class People:
    """The calls of one run that wait for a person."""

    def __init__(self, on_change: Callable[[int], None], carried: Iterable[Decision | Resolution] = ()) -> None:
        self._on_change = on_change
        self._waiting: dict[str, Waiting] = {}
        self._next: dict[str, Waiting] = {}
        """Calls that will wait for an approval once those before them are through; it may be given before."""
        self._words = {word.operation: word for word in carried}
        self._taken = {(word.operation, isinstance(word, Resolution)) for word in self._words.values()}
        """(operation, unknown) of every word that was ever taken."""
        self.recorded: dict[str, CallResult] = {}
        """By call whose last word is in the ledger already: what came of it there."""

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """What waits now, oldest first."""
        return tuple(self._waiting.values())

    @property
    def words(self) -> tuple[Decision | Resolution, ...]:
        """What was said and nobody has acted on yet."""
        return tuple(self._words.values())

    def expect(self, heads: Iterable[Head]) -> None:
        """The calls of a turn are known: some of them need an approval, now or when their turn comes."""
        self._next.update((head.id, _waiting(head, unknown=False)) for head in heads if head.verdict is Verdict.ASK)

    def wait(self, head: Head, *, unknown: bool = False) -> None:
        """A call begins to wait: for an approval, or with `unknown` for a resolution."""
        begins = head.id not in self._waiting
        self._waiting[head.id] = _waiting(head, unknown=unknown)
        if begins and len(self._waiting) == 1:
            self._on_change(1)

    def word(self, operation_id: str) -> Decision | Resolution | None:
        """What a person said of a call, if anybody did."""
        return self._words.get(operation_id)

    def leave(self, operation_id: str) -> None:
        """A call no longer waits."""
        self._words.pop(operation_id, None)
        self._next.pop(operation_id, None)
        if self._waiting.pop(operation_id, None) is not None and not self._waiting:
            self._on_change(0)

    def takes(self, word: Decision | Resolution) -> bool:
        """Whether the call is at the point where such a word can be taken."""
        return self._asked(word) is not None

    def require_fitting(self, word: Decision | Resolution) -> None:
        """Refuse a word that does not fit what waits.

        Raises:
            ApplicationError: No such call waits for it, it waits with other arguments, or it was decided.
        """
        asked = self._asked(word)
        unknown = isinstance(word, Resolution)
        if word.operation in self._words or (asked is None and self._was_taken(word)):
            raise ApplicationError(PublicText(f"operation {word.operation} was already decided"), type=ErrorCode.DENIED)
        if asked is None:
            wanted = "a resolution" if unknown else "a decision"
            ids = [w.operation for w in self._waiting.values() if w.unknown is unknown]
            message = f"operation {word.operation} does not wait for {wanted}; waiting: {', '.join(ids) or 'none'}"
            raise ApplicationError(PublicText(message), type=ErrorCode.DENIED)
        if isinstance(word, Decision) and asked.digest != word.digest:
            message = (
                f"operation {word.operation} waits with digest {asked.digest}, not {word.digest}: "
                "look at its arguments again before you decide"
            )
            raise ApplicationError(PublicText(message), type=ErrorCode.DENIED)

    def claim(self, word: Decision | Resolution, recorded: CallResult | None = None) -> None:
        """Take a person's word; the first one counts. If the ledger has it, `recorded` is what came of it.

        Raises:
            ApplicationError: It does not fit, or another one was first.
        """
        self.require_fitting(word)
        self.recorded.pop(word.operation, None)
        if recorded is not None:
            self.recorded[word.operation] = recorded
        self._words[word.operation] = word
        self._taken.add((word.operation, isinstance(word, Resolution)))

    def may_still_take(self, word: Decision | Resolution) -> bool:
        """Whether such a word could be taken later: it was not taken before, and the call waits for no other kind."""
        other = word.operation in self._waiting or word.operation in self._next
        return not other and not self._was_taken(word)

    def _was_taken(self, word: Decision | Resolution) -> bool:
        return (word.operation, isinstance(word, Resolution)) in self._taken

    def _asked(self, word: Decision | Resolution) -> Waiting | None:
        unknown = isinstance(word, Resolution)
        asked = self._waiting.get(word.operation) or self._next.get(word.operation)
        return asked if asked is not None and asked.unknown is unknown else None


def _waiting(head: Head, *, unknown: bool) -> Waiting:
    reason = ErrorCode.OUTCOME_UNKNOWN if unknown else head.reason or Verdict.ASK
    return Waiting(
        operation=head.id, digest=head.digest, tool=head.tool, show=head.show, reason=reason, unknown=unknown
    )
