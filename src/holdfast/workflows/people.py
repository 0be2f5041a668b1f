"""Calls that wait for a person: what waits, and whose word was taken. Claims are synchronous, so that each counts once."""

from collections.abc import Callable

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from holdfast.contracts.effects import Verdict
    from holdfast.contracts.errors import ErrorCode
    from holdfast.contracts.wire import Decision, Head, Resolution, Waiting


class People:
    """The calls of one run that wait for a person."""

    def __init__(self, on_change: Callable[[int], None]) -> None:
        self._on_change = on_change
        self._waiting: dict[str, Waiting] = {}
        self._words: dict[str, Decision | Resolution] = {}

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """What waits now, oldest first."""
        return tuple(self._waiting.values())

    def wait(self, head: Head, *, unknown: bool = False) -> None:
        """A call begins to wait: for an approval, or with `unknown` for a resolution."""
        reason = ErrorCode.OUTCOME_UNKNOWN if unknown else head.reason or Verdict.ASK
        self._words.pop(head.id, None)
        self._waiting[head.id] = Waiting(
            operation=head.id, digest=head.digest, tool=head.tool, show=head.show, reason=reason, unknown=unknown
        )
        if len(self._waiting) == 1:
            self._on_change(1)

    def word(self, operation_id: str) -> Decision | Resolution | None:
        """What a person said of a call, if anybody did."""
        return self._words.get(operation_id)

    def leave(self, operation_id: str) -> None:
        """A call no longer waits."""
        self._words.pop(operation_id, None)
        if self._waiting.pop(operation_id, None) is not None and not self._waiting:
            self._on_change(0)

    def require_decidable(self, decision: Decision) -> None:
        """Refuse a decision that does not fit what waits.

        Raises:
            ApplicationError: No such call waits for a decision, it waits with other arguments, or it was decided.
        """
        waiting = self._require(decision.operation, unknown=False)
        if waiting.digest != decision.digest:
            message = (
                f"operation {decision.operation} waits with digest {waiting.digest}, not {decision.digest}: "
                "look at its arguments again before you decide"
            )
            raise ApplicationError(message, type=ErrorCode.DENIED)

    def require_resolvable(self, resolution: Resolution) -> None:
        """Refuse a resolution that does not fit what waits.

        Raises:
            ApplicationError: No such call waits for a resolution, or it was resolved.
        """
        self._require(resolution.operation, unknown=True)

    def claim(self, word: Decision | Resolution) -> None:
        """Take a person's word; the first one counts."""
        self._words.setdefault(word.operation, word)

    def _require(self, operation_id: str, *, unknown: bool) -> Waiting:
        waiting = self._waiting.get(operation_id)
        wanted = "a resolution" if unknown else "a decision"
        if waiting is None or waiting.unknown is not unknown:
            ids = [w.operation for w in self._waiting.values() if w.unknown is unknown]
            message = f"operation {operation_id} does not wait for {wanted}; waiting: {', '.join(ids) or 'none'}"
            raise ApplicationError(message, type=ErrorCode.DENIED)
        if operation_id in self._words:
            raise ApplicationError(f"operation {operation_id} was already decided", type=ErrorCode.DENIED)
        return waiting
