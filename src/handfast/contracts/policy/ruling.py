"""Deciding on one call. Pure: the same call at the same time gets the same ruling."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from handfast.contracts.effects import Tier, Verdict
from handfast.contracts.policy.arguments import MISSING, Condition, values_at
from handfast.contracts.policy.globs import ANY, matches
from handfast.contracts.policy.model import SAFE_GATES, Policy, Rule
from handfast.contracts.policy.proposed import ProposedCall
from handfast.contracts.policy.stored_paths import stored_paths
from handfast.contracts.stored_type import StoredType

STRICTNESS = {Verdict.RUN: 0, Verdict.ASK: 1, Verdict.DENY: 2}


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What becomes of a call, and why."""

    verdict: Verdict
    rule: str
    """What decided: a rule's name, or the part of the policy, such as `gates.IRREVERSIBLE` or `deny`."""
    reason: str = ""

    @property
    def told(self) -> str:
        """In one line, for people and models."""
        return f"{self.rule}: {self.reason}" if self.reason else self.rule


def judge_all(policies: Sequence[Policy], call: ProposedCall, now: datetime | None = None) -> Ruling:
    """The strictest that any of the policies says; the safe default where none says anything."""
    now = now or datetime.now(UTC)
    said = [ruling for policy in policies if (ruling := judge(policy, call, now)) is not None]
    if said:
        return max(said, key=lambda ruling: STRICTNESS[ruling.verdict])
    return Ruling(verdict=SAFE_GATES[call.tier], rule=f"tier {call.tier}")


def judge(policy: Policy, call: ProposedCall, now: datetime) -> Ruling | None:
    """What one policy says of a call; None if it says nothing."""
    if refused := _refusal(policy, call):
        return refused
    for rule in _candidates(policy, call):
        if next(_obstacles_now(policy, rule, call, now), None) is None:
            return Ruling(verdict=rule.verdict, rule=rule.name, reason=rule.reason or _why(rule))
    gate = policy.gates.get(call.tier)
    return None if gate is None else Ruling(verdict=gate, rule=f"gates.{call.tier}")


def obstacles(policy: Policy, rule: Rule, call: ProposedCall, now: datetime) -> Iterator[str]:
    """Why a rule does not apply to a call; nothing if it does."""
    yield from _standing_obstacles(rule, call)
    yield from _obstacles_now(policy, rule, call, now)


def _obstacles_now(policy: Policy, rule: Rule, call: ProposedCall, now: datetime) -> Iterator[str]:
    for look in _looks_of(policy, rule):
        if obstacle := look(call, now):
            yield obstacle


Look = Callable[[ProposedCall, datetime], str]
"""Why a rule does not apply to a call, as far as one of the things goes that it says; empty if that does not stand against it."""


def _looks(policy: Policy, rule: Rule) -> Iterator[Look]:
    """One for each thing that a rule says of what changes from call to call."""
    if rule.users != ANY:
        yield (
            lambda call, _: (
                ""
                if matches(rule.users, call.user, f"{call.tenant}/{call.user}")
                else f"the user is {call.user or 'nobody'!r}"
            )
        )
    if rule.tenants != ANY:
        yield lambda call, _: "" if matches(rule.tenants, call.tenant) else f"the tenant is {call.tenant!r}"
    if rule.roles != ANY:
        yield lambda call, _: "" if matches(rule.roles, *roles_of(policy, call)) else "the user has none of the roles"
    if (during := rule.during) is not None:
        yield lambda _, now: "" if during.contain(now) else f"it is not {during}"
    if (outside := rule.outside) is not None:
        yield lambda _, now: f"it is {outside}" if outside.contain(now) else ""
    if (untrusted := rule.untrusted) is not None:
        found = "are" if not untrusted else "are not"
        yield lambda call, _: "" if call.untrusted is untrusted else f"words of others {found} in the run"
    for path, condition in rule.arguments.items():
        yield partial(_look_at_argument, rule.verdict, path, condition)


def roles_of(policy: Policy, call: ProposedCall) -> set[str]:
    """The roles of the call's user."""
    names = (call.user, f"{call.tenant}/{call.user}")
    return {role for who, roles in policy.users.items() if matches((who,), *names) for role in roles}


def _refusal(policy: Policy, call: ProposedCall) -> Ruling | None:
    blocked = policy.blocked
    deny = Verdict.DENY
    if matches(blocked.users, call.user, f"{call.tenant}/{call.user}"):
        return Ruling(verdict=deny, rule="blocked.users", reason=f"user {call.user!r} is blocked")
    if matches(blocked.tenants, call.tenant):
        return Ruling(verdict=deny, rule="blocked.tenants", reason=f"tenant {call.tenant!r} is blocked")
    if matches(blocked.runs, call.run):
        return Ruling(verdict=deny, rule="blocked.runs", reason="this run is blocked")
    if blocked.covers(call.called_from.address):
        return Ruling(verdict=deny, rule="blocked.addresses", reason="calls from the caller's address are blocked")
    if call.called_from.session and matches(blocked.sessions, call.called_from.session):
        return Ruling(verdict=deny, rule="blocked.sessions", reason="the caller's session is blocked")
    if matches(policy.deny, call.tool, call.scope):
        return Ruling(verdict=deny, rule="deny", reason=f"{call.tool} ({call.scope}) is not to be called")
    if call.builtin:
        return None
    if not matches(policy.allow, call.tool, call.scope):
        return Ruling(verdict=deny, rule="allow", reason=f"{call.tool} ({call.scope}) is not among what may be called")
    if policy.users:
        permitted = tuple(glob for role in roles_of(policy, call) for glob in policy.scopes_of_role[role])
        if not matches(permitted, call.scope):
            why = f"no role of user {call.user or 'nobody'!r} permits {call.scope}"
            return Ruling(verdict=deny, rule="roles", reason=why)
    return None


def _candidates(policy: Policy, call: ProposedCall) -> Sequence[Rule]:
    """The rules that may apply to calls of that tool by that agent, the strictest first: worked out once for each."""
    kept = policy.worked_out.candidates
    key = (call.tool, call.scope, call.tier, call.agent, str(call.egress))
    if key not in kept:
        apply = [rule for rule in policy.rules if next(_standing_obstacles(rule, call), None) is None]
        kept[key] = tuple(sorted(apply, key=lambda rule: -STRICTNESS[rule.verdict]))
    return kept[key]


def _looks_of(policy: Policy, rule: Rule) -> tuple[Look, ...]:
    kept = policy.worked_out.looks
    if rule.name not in kept:
        kept[rule.name] = tuple(_looks(policy, rule))
    return kept[rule.name]


def _standing_obstacles(rule: Rule, call: ProposedCall) -> Iterator[str]:
    """Those that are the same for every call of a tool by an agent."""
    if not matches(rule.tools, call.tool):
        yield f"the tool is {call.tool}"
    if not matches(rule.scopes, call.scope):
        yield f"the scope is {call.scope}"
    if not matches(rule.agents, call.agent):
        yield f"the agent is {call.agent!r}"
    if call.tier not in rule.tiers:
        yield f"the tier is {call.tier}"
    if rule.verdict is Verdict.RUN and call.tier is Tier.PRIVILEGED:
        yield "PRIVILEGED calls always wait for a person"
    if rule.egress is not None and call.egress is not rule.egress:
        yield "it sends to outside" if call.egress else "it does not send to outside"


def _look_at_argument(verdict: Verdict, path: str, condition: Condition, call: ProposedCall, _: datetime) -> str:
    return _misfit(verdict, path, condition, _values(call.arguments, path, call.argument_type))


def _values(arguments: Mapping[str, Any], path: str, stored: StoredType | None) -> Sequence[Any]:
    """The values that a path means, by the names of the contract where that is known; `MISSING` where there are none."""
    ways = stored_paths(stored, path) if stored is not None else (tuple(path.split(".")),)
    found = [value for way in ways for value in values_at(arguments, way)]
    return [value for value in found if value is not MISSING] if len(ways) > 1 else found or [MISSING]


def _misfit(verdict: Verdict, path: str, condition: Condition, values: Sequence[Any]) -> str:
    """A rule that lets run wants every value to fit; of one that holds back, one value that fits, or may, is enough."""
    lets_run = verdict is Verdict.RUN
    found = ""
    for value in values or [MISSING]:
        try:
            fault = condition.fault(value)
        except TypeError as error:
            fault = str(error) if lets_run else ""
        if bool(fault) is lets_run:
            return f"{path} {fault}" if fault else ""
        found = found or fault
    return f"{path} {found}" if found else ""


def all_fit(conditions: Mapping[str, Condition], arguments: Mapping[str, Any], stored: StoredType) -> bool:
    """Whether every condition surely holds of the arguments of a call, of this type."""
    return all(
        not _misfit(Verdict.RUN, path, condition, _values(arguments, path, stored))
        for path, condition in conditions.items()
    )


def _why(rule: Rule) -> str:
    return ", ".join(f"{path} {_said(condition)}" for path, condition in rule.arguments.items())


def _said(condition: Condition) -> str:
    words = condition.model_dump(mode="json", exclude_unset=True)
    return " and ".join(f"{name.replace('_', ' ')} {_text(value)}" for name, value in words.items())


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
