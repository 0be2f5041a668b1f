"""Which limits of policies are about a call, and what is counted together with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from handfast.contracts.policy.globs import matches
from handfast.contracts.policy.model import Limit, Policy
from handfast.contracts.policy.proposed import Caller
from handfast.contracts.tool import Tool

LIMIT = "limit "
"""How the reason begins of a call that one holds back."""


@dataclass(frozen=True)
class Quota:
    """A limit as it counts for one call."""

    name: str
    """Of the window: the same for all that is counted together."""
    count: int
    per: timedelta
    then: Literal["deny", "ask", "wait"]
    told: str
    """For the record, for people and for the model."""


def quotas_for(policies: Sequence[Policy], tool: Tool, caller: Caller) -> Iterator[Quota]:
    """The limits that are about a call of a tool."""
    for policy in policies:
        for limit in policy.limits:
            if _is_about(limit, tool, caller):
                yield _quota(limit, tool, caller)


def _is_about(limit: Limit, tool: Tool, caller: Caller) -> bool:
    named = (
        matches(limit.tools, tool.name) and matches(limit.scopes, tool.scope) and matches(limit.agents, caller.agent)
    )
    return named and matches(limit.tenants, caller.tenant) and tool.tier in limit.tiers and not tool.builtin


def _quota(limit: Limit, tool: Tool, caller: Caller) -> Quota:
    who = {
        "all": "",
        "tool": tool.name,
        "agent": caller.agent,
        "tenant": caller.tenant,
        "user": f"{caller.tenant}/{caller.user}",
    }[limit.each]
    each = "" if limit.each == "all" else f" for each {limit.each}"
    told = f"{LIMIT}{limit.name}: {limit.count} calls in {limit.per}{each}"
    return Quota(f"limit/{limit.name}/{limit.each}/{who}"[:500], limit.count, limit.per, limit.then, told)
