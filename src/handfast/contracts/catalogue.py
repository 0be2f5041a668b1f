"""The catalogue of tools for people who answer for them: what there is, who owns it, and how much harm it can do."""

from collections.abc import Iterable, Sequence

from handfast.contracts.agent import Agent
from handfast.contracts.child import family_of
from handfast.contracts.effects import Effect, Tier
from handfast.contracts.messages import Frozen
from handfast.contracts.published import PublishedTool, publish


class CatalogueEntry(Frozen):
    """A tool, and who uses it."""

    tool: PublishedTool
    agents: tuple[str, ...]


def catalogue(agents: Iterable[Agent]) -> list[CatalogueEntry]:
    """Every tool of some agents, by name."""
    users: dict[str, list[str]] = {}
    tools: dict[str, PublishedTool] = {}
    for agent in family_of(agents):
        for tool in agent.tools:
            users.setdefault(tool.name, []).append(agent.name)
            tools.setdefault(tool.name, publish(tool))
    return [CatalogueEntry(tool=tools[name], agents=tuple(users[name])) for name in sorted(tools)]


def as_markdown(entries: Sequence[CatalogueEntry]) -> str:
    """The catalogue and the risk matrix as a page."""
    columns = ("tool", "version", "what it does", "effect", "tier", "scope", "owner", "runbook", "used by")
    rows = [
        (
            entry.tool.name,
            entry.tool.version + (" (deprecated)" if entry.tool.deprecated else ""),
            entry.tool.description.splitlines()[0],
            entry.tool.effect,
            entry.tool.tier,
            entry.tool.scope,
            entry.tool.owner or "nobody",
            entry.tool.runbook or "none",
            ", ".join(entry.agents),
        )
        for entry in entries
    ]
    matrix = [
        (
            tier,
            *(
                ", ".join(e.tool.name for e in entries if (e.tool.tier, e.tool.effect) == (tier, effect))
                for effect in Effect
            ),
        )
        for tier in reversed(Tier)
    ]
    return (
        f"# Tools\n\n{_table(columns, rows)}\n"
        "## Risk\n\nRows: the harm a call can do, worst first. Columns: what happens if it runs twice, least protected last.\n\n"
        f"{_table(('', *Effect), matrix)}"
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)
