"""The policy: gates, lists, roles, rules. The same from Python and from TOML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, IPvAnyNetwork, model_validator

from handfast.contracts.called_from import NOWHERE, CalledFrom
from handfast.contracts.clauses import MOST_IN_A_WINDOW
from handfast.contracts.effects import Tier, Verdict
from handfast.contracts.messages import Frozen
from handfast.contracts.policy.approval import Approval, Duration
from handfast.contracts.policy.arguments import Condition
from handfast.contracts.policy.hours import Hours

Globs = tuple[str, ...]

SAFE_GATES: Mapping[Tier, Verdict] = {
    Tier.READ_ONLY: Verdict.RUN,
    Tier.REVERSIBLE: Verdict.RUN,
    Tier.IRREVERSIBLE: Verdict.ASK,
    Tier.PRIVILEGED: Verdict.ASK,
}
"""What holds where no policy says anything."""

USUAL_PERMISSIONS: Mapping[str, Globs] = {
    "read_files": ("files:read", "files:*:read"),
    "write_files": ("files:write", "files:*:write"),
    "network": ("network:*", "web:*", "http:*"),
    "commands": ("commands:*", "shell:*"),
    "user_data": ("users:*", "customers:*", "people:*"),
    "money": ("payments:*", "money:*", "invoices:*", "refunds:*"),
    "mail": ("mail:*", "email:*"),
    "read_database": ("database:read", "database:*:read"),
    "write_database": ("database:write", "database:*:write"),
}
"""Permissions that every policy knows by name, as patterns over the scopes of contracts."""


class Rule(Frozen):
    """What becomes of some calls. It applies where everything that it says is so."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")
    """Recorded with every call that it decides."""
    verdict: Verdict
    """`run`, `ask` or `deny`."""
    tools: Globs = ("*",)
    scopes: Globs = ("*",)
    agents: Globs = ("*",)
    users: Globs = ("*",)
    """By name, or `tenant/name`."""
    tenants: Globs = ("*",)
    roles: Globs = ("*",)
    """Users that have one of these roles."""
    tiers: tuple[Tier, ...] = tuple(Tier)
    egress: bool | None = None
    """Only tools that send to outside of the organisation, or only those that don't."""
    untrusted: bool | None = None
    """Only in runs in which somebody else's words are, or only in others."""
    arguments: dict[str, Condition] = Field(default_factory=dict[str, Condition])
    """By name, or by path: `items.*.price` are the prices of all items. A `run` rule wants all of them to hold; for an `ask`
    or `deny` rule one is enough, and one that can't be compared."""
    during: Hours | None = None
    outside: Hours | None = None
    reason: str = ""
    """For the record, for the person who is asked, and for the model."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.verdict is Verdict.KEPT:
            msg = "verdict: allowed are run, ask, deny"
            raise ValueError(msg)
        if self.verdict is Verdict.RUN and self.tiers == (Tier.PRIVILEGED,):
            msg = "PRIVILEGED calls always wait for a person: no rule can run them"
            raise ValueError(msg)
        for what in ("tools", "scopes", "agents", "users", "tenants", "roles", "tiers"):
            if not getattr(self, what):
                msg = f"{what} is empty: the rule would never apply"
                raise ValueError(msg)
        return self


class Limit(Frozen):
    """At most so many calls in any window of that length, over all workers."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")
    """Recorded with every call that it holds back."""
    count: int = Field(ge=1, le=MOST_IN_A_WINDOW)
    per: Duration
    """Such as `1min`, `24h`, `7d`."""
    each: Literal["all", "tool", "agent", "tenant", "user"] = "all"
    """What is counted together: all calls that it is about, or those of one tool, agent, tenant, or user of a tenant."""
    then: Literal["deny", "ask", "wait"] = "deny"
    """What becomes of a call beyond it: it is refused, a person is asked, or it waits until there is room."""
    tools: Globs = ("*",)
    scopes: Globs = ("*",)
    agents: Globs = ("*",)
    tenants: Globs = ("*",)
    tiers: tuple[Tier, ...] = tuple(Tier)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.per <= timedelta(0):
            msg = "per must be above zero"
            raise ValueError(msg)
        return self


class Budget(Frozen):
    """What models may use in a span of time, over all runs and workers: held back before one is asked, counted when it has answered.

    Spans follow each other: of 24 hours they are the days of UTC. When nine tenths are used, runs are asked for their answer; when
    nothing is left, they end.
    """

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")
    """Told to whoever asks why a run has ended."""
    per: Duration
    """Such as `1h`, `24h`, `7d`."""
    tokens: int | None = Field(default=None, ge=1)
    """Input, output and cached tokens together."""
    cost_usd: float | None = Field(default=None, gt=0)
    """US dollars for model calls."""
    turns: int | None = Field(default=None, ge=1)
    """Model calls."""
    calls: int | None = Field(default=None, ge=1)
    """Tool calls that models ask for, counted turn by turn. `limits` hold to the call, also those of plans."""
    work_time: Duration | None = None
    """Time at work, of models and tools, such as `8h`; waiting for people is none. Not that of plans."""
    each: Literal["all", "agent", "tenant", "user"] = "all"
    """What is counted together: everything that it is about, or that of one agent, tenant, or user of a tenant."""
    agents: Globs = ("*",)
    tenants: Globs = ("*",)
    users: Globs = ("*",)
    """By name, or `tenant/name`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.per < timedelta(minutes=1):
            msg = "per must be at least 1min"
            raise ValueError(msg)
        most = (self.tokens, self.cost_usd, self.turns, self.calls, self.work_time)
        if all(one is None for one in most):
            msg = "it limits nothing: say tokens, cost_usd, turns, calls or work_time"
            raise ValueError(msg)
        if self.work_time is not None and self.work_time <= timedelta(0):
            msg = "work_time must be above zero"
            raise ValueError(msg)
        return self


class Blocked(Frozen):
    """Whose calls are all refused."""

    users: Globs = ()
    """By name, or `tenant/name`."""
    tenants: Globs = ()
    runs: Globs = ()
    """Run ids."""
    addresses: tuple[IPvAnyNetwork, ...] = ()
    """IP addresses of callers, or networks of them: `203.0.113.9`, `203.0.113.0/24`, `2001:db8::/32`."""
    sessions: Globs = ()
    """Sessions of callers."""

    def covers(self, address: str) -> bool:
        """Whether a caller's address is among them."""
        found = ip_address(address) if address else None
        return any(found is not None and found in network for network in self.addresses)


class CaseCall(Frozen):
    """The call of a case."""

    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any])
    agent: str = ""
    user: str = ""
    tenant: str = "default"
    run: str = ""
    called_from: CalledFrom = NOWHERE
    """`{ address = "203.0.113.9", session = "s-17" }`."""
    untrusted: bool = False
    """Somebody else's words are in the run."""
    said: str = ""
    """What the user has said: then the call may aim at what stands there."""


class Case(Frozen):
    """An example that a policy must decide as it says; `handfast policy test` holds them against it."""

    call: CaseCall
    expect: Verdict
    by: str = ""
    """The rule that must decide, if that is to be sure."""
    at: datetime | None = None
    """When; now unless said."""


@dataclass(frozen=True)
class WorkedOut:
    """What is the same for every call of a tool, or for every call at all."""

    candidates: dict[tuple[str, ...], tuple[Rule, ...]] = field(default_factory=dict[tuple[str, ...], tuple[Rule, ...]])
    """By tool and agent: the rules that may apply."""
    looks: dict[str, tuple[Any, ...]] = field(default_factory=dict[str, tuple[Any, ...]])
    """By rule: what is looked at."""


class Policy(Frozen):
    """Which calls run, which wait for a person, which are refused.

    Of all that applies to a call the strictest counts: whoever is blocked, `deny`, `allow` and the roles first, then the rules that
    deny, those that ask, those that run, and at last the gate of the call's tier. The order in the file says nothing.
    PRIVILEGED calls never run without a person. Says nothing of a tier, nothing applies: the safe default holds, by which
    IRREVERSIBLE and PRIVILEGED calls ask.
    """

    gates: dict[Tier, Verdict] = Field(default_factory=dict[Tier, Verdict])
    """By tier: `run`, `ask` or `deny`."""
    allow: Globs = ("*",)
    """Tools or scopes; every other is refused."""
    deny: Globs = ()
    """Tools or scopes that are refused."""
    untrusted: Verdict = Verdict.ASK
    """What becomes of a call that acts, once somebody else's words are in its run and neither the user nor a trusted field has
    named what it aims at: `ask`, or `deny`. No rule lets it run."""
    signed_words: bool = False
    """Only words that a client's key has signed count as the user's (`handfast keys new NAME --role client`); all others are
    somebody else's. Requests are looked at when their run is opened, messages when the model hears them."""
    permissions: dict[str, Globs] = Field(default_factory=dict[str, Globs])
    """By name: patterns over scopes. `USUAL_PERMISSIONS` are known besides."""
    roles: dict[str, Globs] = Field(default_factory=dict[str, Globs])
    """By name: permissions, or patterns over scopes."""
    users: dict[str, Globs] = Field(default_factory=dict[str, Globs])
    """By pattern over `name` or `tenant/name`: roles. Where there are any, a call needs a role that permits its scope."""
    blocked: Blocked = Blocked()
    rules: tuple[Rule, ...] = Field(default=(), validation_alias=AliasChoices("rules", "rule"))
    limits: tuple[Limit, ...] = Field(default=(), validation_alias=AliasChoices("limits", "limit"))
    """How many calls there may be."""
    budgets: tuple[Budget, ...] = Field(default=(), validation_alias=AliasChoices("budgets", "budget"))
    """What models may use."""
    approval: Approval = Approval()
    """How people are told that a call waits for them, by the installation's policy."""
    cases: tuple[Case, ...] = Field(default=(), validation_alias=AliasChoices("cases", "case"))

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[str] = []
        if self.gates.get(Tier.PRIVILEGED) is Verdict.RUN:
            faults.append("gates: PRIVILEGED calls always wait for a person; allowed are ask and deny")
        if self.untrusted not in {Verdict.ASK, Verdict.DENY}:
            faults.append(f"untrusted is {self.untrusted.value!r}: allowed are ask and deny")
        if Verdict.KEPT in self.gates.values():
            faults.append("gates: allowed are run, ask, deny")
        names = [rule.name for rule in self.rules]
        limits = [limit.name for limit in self.limits]
        budgets = [budget.name for budget in self.budgets]
        faults.extend(
            f"two budgets are named {name!r}" for name in sorted({n for n in budgets if budgets.count(n) > 1})
        )
        faults.extend(f"two limits are named {name!r}" for name in sorted({n for n in limits if limits.count(n) > 1}))
        faults.extend(f"two rules are named {name!r}" for name in sorted({n for n in names if names.count(n) > 1}))
        known = {*USUAL_PERMISSIONS, *self.permissions}
        faults.extend(
            f"roles.{role}: {one!r} is no permission and no scope; permissions are {', '.join(sorted(known))}"
            for role, permitted in self.roles.items()
            for one in permitted
            if one not in known and ":" not in one and "*" not in one
        )
        faults.extend(
            f"users.{who}: there is no role {role!r}; roles are {', '.join(sorted(self.roles)) or 'none'}"
            for who, roles in self.users.items()
            for role in roles
            if role not in self.roles
        )
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @cached_property
    def worked_out(self) -> "WorkedOut":
        """What deciding keeps from call to call."""
        return WorkedOut()

    @cached_property
    def scopes_of_role(self) -> dict[str, Globs]:
        """By role: the patterns over scopes that it permits."""
        known = {**USUAL_PERMISSIONS, **self.permissions}
        return {
            role: tuple(glob for one in permitted for glob in known.get(one, (one,)))
            for role, permitted in self.roles.items()
        }
