"""How a call is undone: a function of what was asked and what came of it, and what a repeat of it does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from handfast.contracts.backoff import Backoff
from handfast.contracts.callables import async_faults
from handfast.contracts.effects import Effect


@dataclass(frozen=True, kw_only=True)
class Compensation:
    """What undoes a call. It is an operation of its own: reserved, tried, settled and recorded like any other.

    A plain `async def compensate(args, result, ctx)` given to `compensate=` is taken as one with the tool's own effect class.
    """

    function: Callable[..., Any]
    """`async function(args, result, ctx)`. `result` is None where it is not known, or was erased."""
    effect: Effect | None = None
    """What happens if it runs twice. Unless said, as for the tool itself; for a RECONCILED tool ONCE."""
    safe_if_absent: bool = False
    """It does no harm where there is nothing to undo, so it may also run if nobody knows whether the call happened."""
    reconcile: Callable[..., Any] | None = None
    """`async reconcile(args, result, ctx)`: what it would return if it has happened, None if it surely has not. For RECONCILED."""
    timeout: timedelta | None = None
    """For one attempt; the tool's unless said."""
    attempts: int = 8
    """How often it is tried before a person is asked."""
    backoff: Backoff = field(default_factory=Backoff)
    """The waits between attempts."""
    after: tuple[str, ...] = ()
    """Tools whose calls in the run are undone before it, also those that were called earlier. Else the last call comes first."""

    def faults(self, tool_effect: Effect) -> list[str]:
        """What is wrong with it, one sentence each."""
        faults: list[str] = []
        effect = self.effect_for(tool_effect)
        if tool_effect is Effect.READ:
            faults.append("compensate= with effect READ: it changes nothing, so there is nothing to undo")
        if self.effect is Effect.READ:
            faults.append("compensate= with effect READ: what undoes a call changes something")
        if isinstance(self.after, str):
            faults.append(f"compensate=: after is the text {self.after!r}: it must be a tuple, after=({self.after!r},)")
        if self.attempts < 1:
            faults.append(f"compensate=: attempts {self.attempts} must be at least 1")
        if self.timeout is not None and self.timeout <= timedelta(0):
            faults.append(f"compensate=: timeout {self.timeout} must be above zero")
        if (effect is Effect.RECONCILED) != (self.reconcile is not None):
            faults.append("compensate=: reconcile= goes with effect RECONCILED, and only with it")
        faults.extend(async_faults("compensate=", self.function, "args", "result", "ctx"))
        if self.reconcile is not None:
            faults.extend(async_faults("compensate=: reconcile=", self.reconcile, "args", "result", "ctx"))
        return faults

    def effect_for(self, tool_effect: Effect) -> Effect:
        """Its effect class, as part of a tool with that one."""
        if self.effect is not None:
            return self.effect
        return Effect.ONCE if tool_effect is Effect.RECONCILED else tool_effect


def compensation(
    *,
    effect: Effect | None = None,
    safe_if_absent: bool = False,
    reconcile: Callable[..., Any] | None = None,
    timeout: timedelta | None = None,
    attempts: int = 8,
    backoff: Backoff | None = None,
    after: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Compensation]:
    """Declare an `async def (args, result, ctx)` as what undoes a call; see `Compensation` for each clause.

    Give it to `compensate=` of `tool`, which reports its faults.
    """

    def build(function: Callable[..., Any]) -> Compensation:
        return Compensation(
            function=function,
            effect=effect,
            safe_if_absent=safe_if_absent,
            reconcile=reconcile,
            timeout=timeout,
            attempts=attempts,
            backoff=backoff or Backoff(),
            after=after,
        )

    return build
