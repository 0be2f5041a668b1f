"""The clauses of a tool contract that are more than one value: deprecation, rate, cache."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from handfast.contracts.messages import Frozen

MOST_IN_A_WINDOW = 1000


@dataclass(frozen=True, kw_only=True)
class Deprecation:
    """A contract that will go."""

    since: str
    """The version since which it is deprecated."""
    sunset: date | None = None
    """The day after which it may be gone."""
    replaced_by: str = ""
    """The tool to use instead."""

    @property
    def told(self) -> str:
        """In one sentence, for models and people."""
        until = f", gone after {self.sunset}" if self.sunset else ""
        instead = f"; use {self.replaced_by} instead" if self.replaced_by else ""
        return f"Deprecated since {self.since}{until}{instead}."


class Rate(Frozen):
    """At most so many attempts in any window of that length, over all workers. Calls beyond it wait in Temporal."""

    count: int = Field(ge=1, le=MOST_IN_A_WINDOW)
    per: timedelta = timedelta(seconds=1)
    each: Literal["tool", "tenant", "user"] = "tool"
    """What is counted together: all calls of the tool, those of a tenant, or those of one user of a tenant."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.per <= timedelta(0):
            msg = f"per {self.per}: must be above zero"
            raise ValueError(msg)
        return self

    def __str__(self) -> str:
        """For people."""
        return f"{self.count} in {self.per.total_seconds():g} s for each {self.each}"


class Cache(Frozen):
    """Results that may be given again: for the same tool, version, tenant, scope and arguments, never from one tenant to another."""

    ttl: timedelta = timedelta(seconds=300)
    """How old a result may be."""
    most: int = Field(default=1000, ge=1, le=100_000)
    """How many results of the tool are kept; the oldest go first."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ttl <= timedelta(0):
            msg = f"ttl {self.ttl}: must be above zero"
            raise ValueError(msg)
        return self

    def __str__(self) -> str:
        """For people."""
        return f"{self.ttl.total_seconds():g} s, {self.most} results"
