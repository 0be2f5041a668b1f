"""What becomes of a call by everything that has a say: the policies, and after them the hooks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pydantic_core import to_jsonable_python

from handfast.contracts.arguments import Arguments, parse_arguments
from handfast.contracts.callables import discard
from handfast.contracts.effects import Verdict
from handfast.contracts.policy.hooks import Hook, HookWord
from handfast.contracts.policy.model import Policy
from handfast.contracts.policy.proposed import Caller, ProposedCall, proposed
from handfast.contracts.policy.ruling import STRICTNESS, Ruling, judge, judge_all
from handfast.contracts.provenance import UNTRUSTED, Labels, Sources, hold, is_held
from handfast.contracts.texts import clean_text, message_of
from handfast.contracts.tool import Tool


@dataclass(frozen=True, kw_only=True)
class Permit(Ruling):
    """What becomes of a call, who decided so, and with which arguments."""

    action: Literal["", "skip", "change", "ask", "deny"] = ""
    """What a hook said, if one decided."""
    changed: Arguments | None = None
    """The arguments that hooks have put in the place of the model's."""
    origins: Mapping[str, str] = field(default_factory=dict[str, str])
    """Where its arguments came from, by path, as far as that was looked up."""
    policy: int = 0
    """The version of the installation's policy that it was decided by; 0 where there was none."""


class Provenance(NamedTuple):
    """What is in the run that asks for a call, and where its values come from."""

    labels: Labels
    sources: Sources


def permit(
    policies: Sequence[Policy],
    hooks: Sequence[Hook],
    tool: Tool,
    arguments: Arguments,
    caller: Caller,
    *,
    may_change: bool = True,
    settled: Verdict | None = None,
    provenance: Provenance | None = None,
    now: datetime | None = None,
) -> Permit:
    """Decide on a call whose arguments fit its contract.

    Args:
        policies: All of them count: the strictest that any says.
        hooks: Asked in order, of what the policies don't refuse. They can only hold back, never let run what a policy holds.
        tool: The contract.
        arguments: As the contract has them.
        caller: In whose run.
        may_change: Whether a hook may still change the arguments: only before the call is written down.
        settled: What was said when the call was written down, by somebody who knew more; what the policies say now may only be
            stricter.
        provenance: What the call is held against once somebody else's words are in its run. That no policy loosens.
        now: When; now unless said.
    """
    now = now or datetime.now(UTC)
    call = proposed(tool, arguments, caller)
    found = _permit(judge_all(policies, call, now))
    if settled is not None:
        stricter = (
            any(judge(policy, call, now) for policy in policies) and STRICTNESS[found.verdict] > STRICTNESS[settled]
        )
        found = found if stricter else Permit(verdict=settled, rule="when it was asked for")
    for hook in hooks:
        if found.verdict is Verdict.DENY:
            break
        word, fault = _ask(hook, call)
        if word is None:
            found = found if not fault else _stricter(found, Verdict.ASK, hook, "ask", fault)
        elif word.action != "change":
            verdict = Verdict.ASK if word.action == "ask" else Verdict.DENY
            found = _stricter(found, verdict, hook, word.action, word.reason)
        elif may_change and word.arguments is not None and word.arguments != call.arguments:
            checked = parse_arguments(tool, word.arguments)
            if isinstance(checked, dict):
                faults = "; ".join(f"{name}: {fault}" for name, fault in checked.items())
                return _stricter(
                    found, Verdict.DENY, hook, "deny", f"it changed the call to what does not fit: {faults}"
                )
            call = proposed(tool, checked, caller)
            ruled = replace(_permit(judge_all(policies, call, now)), changed=checked)
            # What an earlier hook has said of the call still holds.
            stands = found.action in {"ask", "skip", "deny"} and STRICTNESS[found.verdict] > STRICTNESS[ruled.verdict]
            found = replace(found, changed=ruled.changed) if stands else ruled
            arguments = checked
    return found if provenance is None else _held(policies, found, tool, arguments, provenance)


def _held(
    policies: Sequence[Policy], found: Permit, tool: Tool, arguments: Arguments, provenance: Provenance
) -> Permit:
    """What becomes of it if nobody trusted has named what it aims at: a person decides, or a policy refuses it."""
    if found.verdict is Verdict.DENY or not is_held(tool, provenance.labels):
        return found
    held = hold(tool, arguments.value, *provenance)
    if not held.fault:
        return replace(found, origins=held.origins)
    verdict = verdict_on_held(policies)
    besides = f"; {found.told}" if found.verdict is Verdict.ASK else ""
    return replace(found, verdict=verdict, rule=UNTRUSTED, reason=f"{held.fault}{besides}", origins=held.origins)


def verdict_on_held(policies: Sequence[Policy]) -> Verdict:
    """What becomes of a call that nobody trusted has aimed: the strictest that any policy says."""
    return max((policy.untrusted for policy in policies), key=STRICTNESS.__getitem__, default=Verdict.ASK)


def _permit(ruling: Ruling) -> Permit:
    return Permit(verdict=ruling.verdict, rule=ruling.rule, reason=ruling.reason)


def _stricter(found: Permit, verdict: Verdict, hook: Hook, action: Any, reason: str) -> Permit:
    if STRICTNESS[verdict] <= STRICTNESS[found.verdict]:
        return found
    return replace(found, verdict=verdict, rule=f"hook {_name_of(hook)}"[:64], reason=clean_text(reason), action=action)


def _ask(hook: Hook, call: ProposedCall) -> tuple[HookWord | None, str]:
    """The hook's word, and what went wrong with it: then a person decides."""
    try:
        word: Any = hook(call)
        if word is None:
            return None, ""
        if not isinstance(word, HookWord):
            discard(word)
            return None, f"it returned {type(word).__name__}: a hook returns a HookWord or None"[:200]
        if word.arguments is not None:
            word = replace(word, arguments=to_jsonable_python(dict(word.arguments), by_alias=True))
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - the author's code may raise anything
        return None, f"it raised {type(error).__name__}: {message_of(error)}"[:200]
    return word, ""


def _name_of(hook: Hook) -> str:
    return str(getattr(hook, "__name__", type(hook).__name__))
