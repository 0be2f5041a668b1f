"""What makes a contract work well for a model, beyond being valid."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from handfast.contracts.agent import Agent
from handfast.contracts.child import family_of
from handfast.contracts.effects import Effect
from handfast.contracts.messages import Frozen
from handfast.contracts.tool import Tool

TOO_MANY_TOOLS = 20
SHORT_DESCRIPTION = 40
CONSTRAINTS = frozenset(
    {
        "enum",
        "const",
        "pattern",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
        "format",
    }
)


class Finding(Frozen):
    """Something that would make a contract better."""

    subject: str
    message: str


def check_agents(agents: Iterable[Agent]) -> list[Finding]:
    """Everything to improve, agent by agent and tool by tool, each tool once."""
    findings: list[Finding] = []
    seen: set[str] = set()
    for agent in family_of(agents):
        if len(agent.tools) >= TOO_MANY_TOOLS:
            message = f"{len(agent.tools)} tools: models choose badly among {TOO_MANY_TOOLS} or more; split the agent"
            findings.append(Finding(subject=f"agent {agent.name}", message=message))
        for tool in agent.tools:
            if tool.name not in seen:
                seen.add(tool.name)
                messages = _messages(tool) if tool.child is None else _child_messages(tool)
                findings.extend(Finding(subject=f"tool {tool.name}", message=message) for message in messages)
    return findings


def _child_messages(tool: Tool) -> Iterator[str]:
    """Of another agent: what it does is said of its own tools."""
    yield from _told(tool)
    if tool.tier.asks and not tool.show:
        yield "people must agree to it, and it names no show=: the Temporal UI tells them nothing about it"


def _told(tool: Tool) -> Iterator[str]:
    if len(tool.description) < SHORT_DESCRIPTION:
        yield f"its description has {len(tool.description)} characters: say what it does, when to use it, and when not"


def _messages(tool: Tool) -> Iterator[str]:
    yield from _told(tool)
    properties: dict[str, Any] = tool.schema.parameters.get("properties", {})
    for name, schema in properties.items():
        if not schema.get("description"):
            yield f"argument {name!r} has no description: use Field(description=...)"
        if schema.get("type") in {"string", "integer", "number"} and not CONSTRAINTS & schema.keys():
            yield f"argument {name!r} has no constraint: give a pattern, bounds, a format or an enum"
    if (
        properties
        and not tool.examples
        and not any("xample" in str(p.get("description", "")) for p in properties.values())
    ):
        yield "it has no example: give examples=(...) or an example in a field's description"
    if not tool.timeout_said:
        yield f"its timeout is the default of {tool.timeout.total_seconds():g} s: say what it needs"
    if re.search(r"(^|_)(and|or)(_|$)", tool.name):
        yield "its name joins two things: make one tool of each, so that each can be permitted on its own"
    if tool.scope.endswith("*"):
        yield f"its scope {tool.scope!r} is a pattern: name just what it needs"
    if tool.effect is Effect.ONCE:
        yield "nothing protects a repeat: a key (KEYED) or a look (RECONCILED) would spare people every doubt"
    if tool.fields.key_may_be_empty:
        yield (
            f"every field of its key is optional ({', '.join(tool.key)}): a call that leaves them out uses the operation's id, "
            "and a second one is done again; let one be required"
        )
    if tool.effect is not Effect.READ and not tool.limited:
        yield "it changes something and names no rates= and no concurrency=: say how often at most"
    if tool.tier.asks and not tool.show:
        yield "people must agree to it, and it names no show=: the Temporal UI tells them nothing about it"
    if tool.effect is not Effect.READ and not tool.owner:
        yield "it changes something and names no owner="
    if tool.tier.asks and not tool.runbook:
        yield f"it is {tool.tier} and names no runbook="
    if tool.deprecated and tool.deprecated.sunset and tool.deprecated.sunset < datetime.now(UTC).date():
        yield f"its last day was {tool.deprecated.sunset}: take it out of the agents"
    if tool.compensate is None and tool.tier == "REVERSIBLE":
        yield "it is REVERSIBLE and names no compensate="
