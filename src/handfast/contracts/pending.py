"""Work that goes on after the call: a tool returns `Pending`, and the result comes by a signed callback or is asked for."""

from dataclasses import dataclass
from datetime import timedelta

from handfast.contracts.backoff import Backoff, BackoffKind

DEFAULT_DEADLINE = timedelta(days=1)
POLLS = Backoff(kind=BackoffKind.EXPONENTIAL, base=timedelta(seconds=2), longest=timedelta(minutes=5))
"""The waits between two looks, unless the contract says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Pending:
    """What a tool returns when its work has begun and ends later. No worker's slot is held meanwhile.

    The call ends when the other side posts the result, signed, to `ctx.callback_url`, or when the contract's `poll` finds it.
    """

    reference: str = ""
    """The other side's name for the work, such as a job's number: `poll` gets it, and people see it."""
    deadline: timedelta = DEFAULT_DEADLINE
    """After that nobody waits any more: the outcome is not known, and a person looks."""

    def __post_init__(self) -> None:
        """Check it as a whole."""
        if self.deadline <= timedelta(0):
            msg = f"deadline {self.deadline}: must be above zero"
            raise ValueError(msg)
