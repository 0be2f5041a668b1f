"""Which budgets of policies are about a run, and what is counted together with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from handfast.contracts.policy.globs import matches
from handfast.contracts.policy.model import Budget, Policy
from handfast.contracts.policy.proposed import Caller

BUDGET = "budget "
"""How the name begins of a limit that is one."""


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What a model call uses, or may use at most."""

    turns: int = 0
    tokens: int = 0
    cost_micros: int = 0
    """Millionths of a US dollar."""
    calls: int = 0
    """Tool calls that it asks for."""
    work_ms: int = 0
    """Time at work: its own, and that of the calls since the one before."""

    def __add__(self, other: "Spending") -> "Spending":
        """Both together."""
        return Spending(
            turns=self.turns + other.turns,
            tokens=self.tokens + other.tokens,
            cost_micros=self.cost_micros + other.cost_micros,
            calls=self.calls + other.calls,
            work_ms=self.work_ms + other.work_ms,
        )

    def exceeds(self, limit: "Allowance", part: float = 1.0) -> bool:
        """Whether it is more than that part of what may be used."""
        pairs = (
            (self.turns, limit.turns),
            (self.tokens, limit.tokens),
            (self.cost_micros, limit.cost_micros),
            (self.calls, limit.calls),
            (self.work_ms, limit.work_ms),
        )
        return any(most is not None and used > most * part for used, most in pairs)


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """A budget as it counts for one run now."""

    key: str
    """The same for all that is counted together, in one span of time."""
    name: str
    turns: int | None
    tokens: int | None
    cost_micros: int | None
    calls: int | None
    work_ms: int | None
    ends_at: int
    """When its span ends, in milliseconds since 1970."""


def allowances(policies: Sequence[Policy], caller: Caller, now_ms: int) -> Iterator[Allowance]:
    """The budgets that are about a run."""
    for policy in policies:
        for budget in policy.budgets:
            if _is_about(budget, caller):
                yield _allowance(budget, caller, now_ms)


def _is_about(budget: Budget, caller: Caller) -> bool:
    named = matches(budget.agents, caller.agent) and matches(budget.tenants, caller.tenant)
    return named and matches(budget.users, caller.user, f"{caller.tenant}/{caller.user}")


def _allowance(budget: Budget, caller: Caller, now_ms: int) -> Allowance:
    who = {"all": "", "agent": caller.agent, "tenant": caller.tenant, "user": f"{caller.tenant}/{caller.user}"}
    span = int(budget.per.total_seconds() * 1000)
    begins = now_ms // span * span
    return Allowance(
        key=f"{budget.name}/{span}/{begins}/{budget.each}/{who[budget.each]}"[:600],
        name=budget.name,
        turns=budget.turns,
        tokens=budget.tokens,
        cost_micros=None if budget.cost_usd is None else round(budget.cost_usd * 1e6),
        calls=budget.calls,
        work_ms=None if budget.work_time is None else round(budget.work_time.total_seconds() * 1000),
        ends_at=begins + span,
    )
