"""Holding a policy against the agents it is for, and against its own cases."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from handfast.contracts.agent import Agent
from handfast.contracts.arguments import Arguments, parse_arguments
from handfast.contracts.effects import Tier, Verdict
from handfast.contracts.errors import SettingsError
from handfast.contracts.policy.arguments import Condition
from handfast.contracts.policy.globs import ANY, matches
from handfast.contracts.policy.model import Case, CaseCall, Policy, Rule
from handfast.contracts.policy.permit import Provenance, permit
from handfast.contracts.policy.proposed import Caller, ProposedCall, proposed
from handfast.contracts.policy.ruling import Ruling, obstacles
from handfast.contracts.policy.stored_paths import stored_paths
from handfast.contracts.provenance import AUTHOR, Labels, Sources
from handfast.contracts.suggestions import instead_of
from handfast.contracts.tool import Tool

NUMBERS = frozenset({"integer", "number"})
COMPARED = ("most", "least", "above", "below")


def policy_faults(policy: Policy, agents: Collection[Agent]) -> list[str]:
    """What of a policy says nothing about these agents, or can't be meant: misspelt names, arguments that no tool has."""
    tools = {tool.name: tool for agent in agents for tool in (*agent.tools, *agent.retired)}
    known = [*tools, *(tool.scope for tool in tools.values())]
    faults = [
        f"{where}: {glob!r} fits no tool and no scope"
        for where in ("allow", "deny")
        for glob in getattr(policy, where)
        if not any(matches((glob,), name) for name in known)
    ]
    for rule in policy.rules:
        faults.extend(f"rule {rule.name!r}: {fault}" for fault in _rule_faults(rule, agents, tools))
    return faults


def _rule_faults(rule: Rule, agents: Collection[Agent], tools: Mapping[str, Tool]) -> Iterator[str]:
    names = {
        "tools": list(tools),
        "scopes": [tool.scope for tool in tools.values()],
        "agents": [one.name for one in agents],
    }
    for what, known in names.items():
        globs: tuple[str, ...] = getattr(rule, what)
        for glob in globs:
            if globs != ANY and not any(matches((glob,), name) for name in known):
                yield f"{what}: {glob!r} fits none; there are {', '.join(sorted(set(known))) or 'none'}"
    meant = [
        tool
        for tool in tools.values()
        if matches(rule.tools, tool.name) and matches(rule.scopes, tool.scope) and tool.tier in rule.tiers
    ]
    if not meant:
        yield "it fits no tool"
    elif rule.verdict is Verdict.RUN and all(tool.tier is Tier.PRIVILEGED for tool in meant):
        yield "all its tools are PRIVILEGED, and such calls always wait for a person"
    for path, condition in rule.arguments.items():
        yield from argument_faults(path, condition, meant)


def argument_faults(path: str, condition: Condition, meant: Sequence[Tool]) -> Iterator[str]:
    """What is wrong with what a rule says of an argument of the tools that it is about."""
    found = [kind for tool in meant if (kind := _kinds(tool, path)) is not None]
    if meant and not found:
        known = [member.name for tool in meant for member in tool.fields.arguments.outermost]
        yield (
            f"arguments: none of {', '.join(dict.fromkeys(tool.name for tool in meant))} has {path!r}; "
            f"they have {instead_of(path, known)}"
        )
    for word in COMPARED:
        if (
            found
            and getattr(condition, word) is not None
            and not any(kind & {*NUMBERS, "string", ""} for kind in found)
        ):
            kinds = sorted({kind for kinds in found for kind in kinds})
            yield f"arguments: {path} is {' or '.join(kinds)}, which has no {word!r}"


def _kinds(tool: Tool, path: str) -> set[str] | None:
    """The JSON types at a path of a tool's arguments; None if it has no such place."""
    ways = stored_paths(tool.fields.arguments, path)
    found = [kinds for way in ways if (kinds := _kind_at(tool.fields.stored_schema, way)) is not None]
    return set[str]().union(*found) if found else None


def _kind_at(schema: Mapping[str, Any], path: Sequence[str]) -> set[str] | None:
    """The JSON types at a path of a schema, None if it has no such place; an empty name for what is not said."""
    root, here = schema, [schema]
    for step in path:
        here = [inner for one in here for way in _ways(root, one) if (inner := _inside(way, step)) is not None]
    kinds = {str(way.get("type", "")) for one in here for way in _ways(root, one)}
    return (kinds - {"null"} or kinds) if here else None


def _ways(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix("#/$defs/")
        yield from _ways(root, root.get("$defs", {}).get(name, {}))
    elif choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        for choice in choices:
            yield from _ways(root, choice)
    else:
        yield schema


def _inside(schema: Mapping[str, Any], step: str) -> Mapping[str, Any] | None:
    if "properties" in schema and step in schema["properties"]:
        inside: Mapping[str, Any] = schema["properties"][step]
        return inside
    if step == "*" or step.isdigit():
        items: Mapping[str, Any] = schema.get("items", {})
        return items if schema.get("type") == "array" else None
    extra: Any = schema.get("additionalProperties", "type" not in schema)
    if extra is True:
        return {}
    return extra if isinstance(extra, dict) else None  # pyright: ignore[reportUnknownVariableType] - JSON


@dataclass(frozen=True, kw_only=True)
class Example:
    """A call as the gate would see it, and what it would be held against."""

    agent: Agent
    tool: Tool
    arguments: Arguments
    caller: Caller
    provenance: Provenance | None
    """None where no words of others are in the run."""

    @property
    def call(self) -> ProposedCall:
        """As rules see it."""
        return proposed(self.tool, self.arguments, self.caller)


def example(asked: CaseCall, agents: Collection[Agent]) -> Example:
    """The call of a case, or of somebody who asks what would become of it.

    Raises:
        SettingsError: No agent has the tool, or its arguments don't fit.
    """
    served = [agent for agent in agents if not asked.agent or agent.name == asked.agent]
    found = [(agent, tool) for agent in served if (tool := agent.tool(asked.tool)) is not None]
    if not found:
        has = sorted({tool.name for agent in served for tool in agent.tools})
        msg = f"no agent{f' named {asked.agent!r}' if asked.agent else ''} has {asked.tool!r}; tools are {', '.join(has) or 'none'}"
        raise SettingsError(msg)
    agent, tool = found[0]
    checked = parse_arguments(tool, asked.arguments)
    if isinstance(checked, dict):
        told = "; ".join(f"{name}: {fault}" for name, fault in checked.items())
        msg = f"the arguments don't fit {tool.name}: {told}"
        raise SettingsError(msg)
    caller = Caller(
        agent=agent.name,
        user=asked.user,
        tenant=asked.tenant,
        run=asked.run,
        called_from=asked.called_from,
        untrusted=asked.untrusted,
    )
    return Example(
        agent=agent,
        tool=tool,
        arguments=checked,
        caller=caller,
        provenance=_provenance(asked, agent) if asked.untrusted else None,
    )


def _provenance(asked: CaseCall, agent: Agent) -> Provenance:
    """Words of others are in the run; the user has said what the case says, and nothing else has been found."""
    sources = Sources()
    sources.hear(agent.instructions, AUTHOR)
    sources.hear(asked.said)
    return Provenance(Labels(untrusted="words of others"), sources)


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What becomes of a call, and what each rule says of it."""

    ruling: Ruling
    rules: tuple[tuple[Rule, str], ...]
    """Each rule, with why it does not apply; empty if it does."""


def explain(policy: Policy, asked: Example, now: datetime) -> Explained:
    """Decide on a call as the gate does, by a policy and by what its agent says of itself; and say what each rule makes of it."""
    policies = (policy, asked.agent.policy)
    rules = tuple((rule, next(obstacles(one, rule, asked.call, now), "")) for one in policies for rule in one.rules)
    ruling = permit(
        policies, asked.agent.hooks, asked.tool, asked.arguments, asked.caller, provenance=asked.provenance, now=now
    )
    return Explained(ruling=ruling, rules=rules)


def case_fault(policy: Policy, case: Case, agents: Collection[Agent]) -> str:
    """How the policy decides otherwise than a case says; empty if it doesn't."""
    asked = example(case.call, agents)
    now = case.at or datetime.now(UTC)
    ruling = permit((policy,), (), asked.tool, asked.arguments, asked.caller, provenance=asked.provenance, now=now)
    if (ruling.verdict, case.by or ruling.rule) == (case.expect, ruling.rule):
        return ""
    wanted = f"{case.expect}{f' by {case.by!r}' if case.by else ''}"
    return f"{asked.tool.name} {dict(asked.call.arguments)}: {ruling.verdict} by {ruling.told}, expected {wanted}"
