"""How people are told that a call waits for them, and what becomes of it if nobody answers."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BeforeValidator, model_validator

from handfast.contracts.messages import Frozen

UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
DURATION = re.compile(r"(\d+)\s*(ms|s|min|h|d)")


def _duration(value: Any) -> Any:
    """A text such as `90s`, `15min`, `4h` or `3d`, or whatever else is a duration."""
    if not isinstance(value, str) or (found := DURATION.fullmatch(value)) is None:
        return value
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class Step(NamedTuple):
    """Something that is done about a call that waits."""

    name: str
    after: timedelta
    """Since it was asked for."""
    channels: Sequence[str]


class Approval(Frozen):
    """What is done about calls that wait for a person, by the installation's policy. Channels are those of the workers' settings."""

    tell: tuple[str, ...] = ()
    """Who is told when a call begins to wait."""
    remind: tuple[Duration, ...] = ()
    """After how long they are told again; times since the call was asked for."""
    escalate: Duration | None = None
    """After how long others are told."""
    escalate_to: tuple[str, ...] = ()
    deadline: Duration | None = None
    """After how long the call is refused because nobody has answered."""
    tell_done: tuple[str, ...] = ()
    """Who is told of REVERSIBLE calls that were carried out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[str] = []
        if bool(self.escalate_to) is (self.escalate is None):
            faults.append("escalate and escalate_to go together")
        if self.remind and not self.tell:
            faults.append("remind says when, tell must say whom")
        times = [*self.remind, *filter(None, (self.escalate, self.deadline))]
        if any(one <= timedelta(0) for one in times):
            faults.append("times must be above zero")
        if self.deadline is not None and any(one >= self.deadline for one in times if one is not self.deadline):
            faults.append("nobody can be told after the deadline")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def steps(self) -> list[Step]:
        """In the order in which they come."""
        found = [Step(f"reminder {number}", after, self.tell) for number, after in enumerate(sorted(self.remind), 1)]
        if self.tell:
            found.append(Step("asked", timedelta(0), self.tell))
        if self.escalate is not None:
            found.append(Step("escalated", self.escalate, self.escalate_to))
        if self.deadline is not None:
            found.append(Step("deadline", self.deadline, self.tell))
        return sorted(found, key=lambda step: step.after)
