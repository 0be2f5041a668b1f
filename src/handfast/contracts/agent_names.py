"""The names that an agent and its tools give each other: tools, agents, scopes."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from handfast.contracts.effects import Effect
from handfast.contracts.policy.check import argument_faults
from handfast.contracts.policy.globs import matches
from handfast.contracts.policy.model import Budget, Limit, Policy, Rule
from handfast.contracts.suggestions import close_to, instead_of
from handfast.contracts.tool import Tool

if TYPE_CHECKING:
    from handfast.contracts.agent import Agent

WILD = frozenset("*?[")


def name_faults(agent: "Agent") -> Iterator[str]:
    """Names that an agent, its tools or its policy use of what is not there, one sentence each."""
    from handfast.contracts.child import family_of

    family = family_of([agent])
    tools = {tool.name: tool for one in family for tool in (*one.tools, *one.retired)}
    for tool in agent.tools:
        yield from _tool_faults(tool, {one.name for one in agent.tools}, tools)
    yield from peer_faults(agent, [one.name for one in family])
    yield from _policy_faults(agent)


def peer_faults(agent: "Agent", names: Collection[str]) -> Iterator[str]:
    """Peers that are hardly meant. An agent that other workers serve is not known here."""
    for peer in agent.peers if not isinstance(agent.peers, str) else ():
        if peer not in names and (near := close_to(peer, names)):
            yield f"peers holds {peer!r}, and there is no such agent; did you mean {near!r}?"


def _tool_faults(tool: Tool, offered: Collection[str], tools: Mapping[str, Tool]) -> Iterator[str]:
    """Tools that a tool names and the agent does not have."""
    for name in tool.invalidates:
        if isinstance(name, str) and name not in tools:
            yield (
                f"{tool.name}: invalidates names {name!r}, which is no tool of the agent; there are {instead_of(name, tools)} "
                "(give another agent's tool itself: invalidates=(the_tool,))"
            )
    for name in tool.compensate.after if tool.compensate is not None else ():
        if name not in tools:
            yield f"{tool.name}: compensate=: after names {name!r}, which is no tool of the agent; there are {instead_of(name, tools)}"
    name = tool.deprecated.replaced_by if tool.deprecated is not None else ""
    # It may be a tool of another agent, whose name is not known here.
    if name and name not in tools and (near := close_to(name, tools)):
        yield f"{tool.name}: replaced_by names {name!r}, which is no tool of the agent; did you mean {near!r}?"
    fallback = tool.fallback
    if fallback is not None and tool.effect is not Effect.READ and fallback.name not in offered:
        yield (
            f"{tool.name}: the model would be told to use its fallback {fallback.name!r} instead, which the agent does not have: "
            "add it to tools="
        )


def _policy_faults(agent: "Agent") -> Iterator[str]:
    """Tools and scopes in the agent's own policy that are hardly meant, and arguments that its tools do not have.

    A policy may be shared with agents that have other tools: what is like nothing here is left to `handfast policy check`.
    """
    policy, tools = agent.policy, [*agent.tools, *agent.retired]
    names, scopes = [tool.name for tool in tools], [tool.scope for tool in tools]
    clauses: list[tuple[str, Iterable[str], Collection[str]]] = [
        ("allow", policy.allow, [*names, *scopes]),
        ("deny", policy.deny, [*names, *scopes]),
        *((f"permissions.{name}", globs, scopes) for name, globs in policy.permissions.items()),
        *((f"roles.{name}", [one for one in globs if ":" in one], scopes) for name, globs in policy.roles.items()),
    ]
    for where, entry in _entries(policy):
        if not isinstance(entry, Budget):
            clauses += [(f"{where}: tools", entry.tools, names), (f"{where}: scopes", entry.scopes, scopes)]
    for where, given, known in clauses:
        yield from _misspelt(where, given, known)
    for rule in policy.rules:
        yield from (f"policy: rule {rule.name!r}: {fault}" for fault in _argument_faults(rule, tools))


def agent_faults(agent: "Agent", names: Collection[str]) -> Iterator[str]:
    """Agents that an agent or its policy names and that are hardly meant, among those that a process serves."""
    yield from peer_faults(agent, names)
    for where, entry in _entries(agent.policy):
        yield from _misspelt(f"{where}: agents", entry.agents, names)


def _entries(policy: Policy) -> Iterator[tuple[str, Rule | Limit | Budget]]:
    for kind, entries in (("rule", policy.rules), ("limit", policy.limits), ("budget", policy.budgets)):
        yield from ((f"{kind} {entry.name!r}", entry) for entry in entries)


def _misspelt(where: str, given: Iterable[str], known: Collection[str]) -> Iterator[str]:
    for name in given:
        if not WILD & set(name) and name not in known and (near := close_to(name, known)):
            yield f"policy: {where} names {name!r}, which is not there; did you mean {near!r}?"


def _argument_faults(rule: Rule, tools: Sequence[Tool]) -> Iterator[str]:
    meant = [tool for tool in tools if matches(rule.tools, tool.name) and matches(rule.scopes, tool.scope)]
    for path, condition in rule.arguments.items():
        yield from argument_faults(path, condition, meant)
