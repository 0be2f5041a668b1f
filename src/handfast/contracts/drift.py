"""Drift: how often a tool's calls, requests and answers don't fit, and whether that rises against what was usual."""

import math
from enum import StrEnum

from handfast.contracts.messages import Frozen


class Misfit(StrEnum):
    """What does not fit."""

    INVALID = "invalid"
    """The model's arguments don't fit the tool's schema."""
    REFUSED = "refused"
    """An upstream answers 4xx, for other reasons than its load or a request under way."""
    UNKNOWN = "unknown"
    """An upstream's answer has fields that the contract does not name."""
    MISMATCHED = "mismatched"
    """An upstream's answer can't be read as what the contract names."""

    @property
    def told(self) -> str:
        """In words."""
        return {
            Misfit.INVALID: "calls with arguments that don't fit its schema",
            Misfit.REFUSED: "requests that the other side refuses (4xx)",
            Misfit.UNKNOWN: "answers with fields that the contract does not name",
            Misfit.MISMATCHED: "answers that don't fit what the contract names",
        }[self]


class Counts(Frozen):
    """What was counted of one version of a tool in some time."""

    asked: int = 0
    """Calls that a model asked for."""
    answered: int = 0
    """Requests that an upstream answered."""
    invalid: int = 0
    refused: int = 0
    unknown: int = 0
    mismatched: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in Counts.model_fields})

    def share(self, misfit: Misfit) -> tuple[int, int]:
        """How many misfits, of how many."""
        found: int = getattr(self, misfit)
        return found, max(self.asked if misfit is Misfit.INVALID else self.answered, found)


class Drift(Frozen):
    """How one version of a tool does now, and how it did before."""

    tool: str
    version: str
    now: Counts
    """The last hours."""
    before: Counts
    """The week before them; of a version too young for that, of the tool's other versions."""

    @property
    def rising(self) -> tuple[Misfit, ...]:
        """What has risen."""
        return tuple(misfit for misfit in Misfit if rises(self.now.share(misfit), self.before.share(misfit)))


LEAST_MISFITS = 5
LEAST_BEFORE = 50
"""Of what a baseline is made."""
LEAST_RISE = 0.05
TIMES = 2.0
SURELY = 3.0
"""Standard errors between the two shares."""


def rises(now: tuple[int, int], before: tuple[int, int]) -> bool:
    """Whether a share is twice what it was, five points higher, and not by chance (a two-proportion z-test).

    Args:
        now: How many of how many, lately.
        before: The same, usually.
    """
    (found, total), (found_before, total_before) = now, before
    if found < LEAST_MISFITS or total_before < LEAST_BEFORE:
        return False
    share, usual = found / total, found_before / total_before
    if share < max(usual * TIMES, usual + LEAST_RISE):
        return False
    pooled = (found + found_before) / (total + total_before)
    error = math.sqrt(pooled * (1 - pooled) * (1 / total + 1 / total_before))
    return error == 0 or (share - usual) / error >= SURELY
