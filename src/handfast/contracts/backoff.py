"""How long to wait before a failed call is tried again.

Formulas: exponential plus jitter after gRPC's and Stripe's clients, full and decorrelated jitter after the AWS Architecture
Blog, "Exponential Backoff And Jitter".
"""

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from itertools import count, islice
from random import Random
from typing import Self

from pydantic import model_validator

from handfast.contracts.messages import Frozen


class BackoffKind(StrEnum):
    """With base d, and n counted from 0 at the first retry."""

    FIXED = "fixed"
    """d"""
    EXPONENTIAL = "exponential"
    """d · 2ⁿ"""
    EXPONENTIAL_JITTER = "exponential_jitter"
    """d · 2ⁿ + random(0, d): calls that failed together don't come back together."""
    FULL_JITTER = "full_jitter"
    """random(0, d · 2ⁿ): for many callers of one busy service."""
    DECORRELATED = "decorrelated"
    """random(d, 3 · the wait before)"""


class Backoff(Frozen):
    """The waits between the attempts of a call. A service that says when to come back (`Retry-After`) is obeyed instead."""

    kind: BackoffKind = BackoffKind.EXPONENTIAL_JITTER
    base: timedelta = timedelta(seconds=0.4)
    longest: timedelta = timedelta(seconds=30)
    """No wait is longer."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not timedelta(0) < self.base <= self.longest:
            msg = f"base {self.base} and longest {self.longest}: base must be above zero, and longest not below it"
            raise ValueError(msg)
        return self

    def __str__(self) -> str:
        """For people."""
        return f"{self.kind} from {self.base.total_seconds():g} s to {self.longest.total_seconds():g} s"

    def delay(self, attempt: int, seed: str) -> timedelta:
        """The wait after attempt number `attempt` (from 1).

        Args:
            attempt: Which attempt has failed.
            seed: Such as the operation id: with the same one the waits are the same, on whatever worker.
        """
        return next(islice(self._delays(Random(seed)), attempt - 1, None))

    def _delays(self, random: Random) -> Iterator[timedelta]:
        base, longest = self.base.total_seconds(), self.longest.total_seconds()
        wait = base
        for n in count():
            grown = min(base * 2.0 ** min(n, 60), longest)
            match self.kind:
                case BackoffKind.FIXED:
                    wait = base
                case BackoffKind.EXPONENTIAL:
                    wait = grown
                case BackoffKind.EXPONENTIAL_JITTER:
                    wait = grown + random.uniform(0, base)
                case BackoffKind.FULL_JITTER:
                    wait = random.uniform(0, grown)
                case BackoffKind.DECORRELATED:
                    wait = random.uniform(base, wait * 3)
            wait = min(wait, longest)
            yield timedelta(seconds=wait)
