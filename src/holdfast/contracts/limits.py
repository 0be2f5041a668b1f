"""How much a run may use, and when it is asked to come to an end."""

from datetime import timedelta

from pydantic import Field

from holdfast.contracts.messages import Frozen

ASK_FOR_ANSWER_AT = 0.9
"""The part of a limit at which the model is asked for its answer."""


class Limits(Frozen):
    """What one run may use. Waiting for people does not count."""

    turns: int = Field(default=10, ge=1)
    """Model calls."""
    calls: int = Field(default=100, ge=0)
    """Tool calls."""
    tokens: int = Field(default=50_000, ge=1)
    """Input, output and cached tokens together."""
    cost_usd: float = Field(default=0.10, ge=0)
    """US dollars for model calls."""
    wall_time: timedelta = timedelta(seconds=300)
    """Time at work; checked between calls, so a call that is running may end."""


class Used(Frozen):
    """What a run has used so far."""

    turns: int = 0
    calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    work_seconds: float = 0.0


def _shares(limits: Limits, used: Used) -> dict[str, float]:
    wall = limits.wall_time.total_seconds()
    pairs = {
        "turns": (used.turns, limits.turns),
        "calls": (used.calls, limits.calls),
        "tokens": (used.tokens, limits.tokens),
        "cost_usd": (used.cost_usd, limits.cost_usd),
        "wall_time": (used.work_seconds, wall),
    }
    return {name: (spent / allowed if allowed else float(spent > 0)) for name, (spent, allowed) in pairs.items()}


def limit_reached(limits: Limits, used: Used) -> str | None:
    """The name of the first limit that leaves no room for another model call, or None.

    Tool calls beyond their limit are denied one by one, so that the model can still answer.
    """
    return next((name for name, share in _shares(limits, used).items() if share >= 1 and name != "calls"), None)


def limit_near(limits: Limits, used: Used) -> str | None:
    """The name of the first limit that leaves room for an answer and no more, or None.

    That is 90 % of it; of turns, in any case the last one. Before the first turn nothing is near.
    """
    if used.turns == 0:
        return None
    if used.turns + 1 >= limits.turns:
        return "turns"
    return next((name for name, share in _shares(limits, used).items() if share >= ASK_FOR_ANSWER_AT), None)
