"""How much a run may use, and when it is asked to come to an end."""

from datetime import timedelta

from pydantic import Field

from handfast.contracts.messages import Frozen

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

    def __add__(self, other: "Used") -> "Used":
        """Both together."""
        return Used(**{name: getattr(self, name) + getattr(other, name) for name in Used.model_fields})


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


def part_of(limits: Limits, used: Used, wanted: Limits, *, among: int, plan: bool = False) -> Limits | str:
    """What a child may use: what is `wanted`, and no more than an equal part of what its parent has left.

    A part of it is kept for the parent's own answer: one turn, and what lies beyond 90 % of tokens and cost. Time passes for all
    at once, so it is not divided.

    Args:
        limits: The parent's.
        used: What it has used, with everything that its other children may still use.
        wanted: What the child would use at most.
        among: How many children, this one included, are about to be begun.
        plan: The parent carries out a plan, whose own turns are no model calls.

    Returns:
        The child's limits, or the name of the limit of which nothing is left.
    """
    left = {
        "turns": (wanted.turns * among if plan else limits.turns - 1 - used.turns) // among,
        "calls": (limits.calls - used.calls) // among,
        "tokens": (int(limits.tokens * ASK_FOR_ANSWER_AT) - used.tokens) // among,
        "cost_usd": max((limits.cost_usd * ASK_FOR_ANSWER_AT - used.cost_usd) / among, 0.0),
        "wall_time": limits.wall_time.total_seconds() - used.work_seconds,
    }
    given = {name: min(value, getattr(wanted, name)) for name, value in left.items() if name != "wall_time"}
    wall = min(timedelta(seconds=left["wall_time"]), wanted.wall_time)
    gone = [name for name in ("turns", "tokens") if given[name] < 1]
    gone += ["cost_usd"] if wanted.cost_usd > 0 and given["cost_usd"] <= 0 else []
    gone += ["wall_time"] if wall <= timedelta(0) else []
    if gone:
        return gone[0]
    return Limits(
        turns=int(given["turns"]),
        calls=max(int(given["calls"]), 0),
        tokens=int(given["tokens"]),
        cost_usd=round(given["cost_usd"], 6),
        wall_time=wall,
    )
