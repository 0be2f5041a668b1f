"""Where the values of a run came from, read from the ledger when a call has to be held against it."""

from collections.abc import Iterable, Mapping

from handfast.activities.boundary import Boundary
from handfast.activities.patience import patiently
from handfast.contracts.agent import Agent
from handfast.contracts.policy import Provenance
from handfast.contracts.provenance import (
    AUTHOR,
    Labels,
    Sources,
    Untrusted,
    echoes_of,
    family_of,
    is_held,
    untrusted_of,
)
from handfast.contracts.tool import Tool
from handfast.ledger import Returned, ToldResult


def brought_by(results: Iterable[ToldResult]) -> Labels:
    """What results bring into their run, all together."""
    return Labels.of_all(one.labels for one in results)


async def provenance_for(
    boundary: Boundary, run_id: str, agent: Agent, tools: Mapping[str, Tool], labels: Labels, asked: Iterable[str]
) -> Provenance:
    """What calls that are asked for are held against. The ledger is read only if one of these tools is held at all."""
    held = any(is_held(tools[name], labels) for name in asked if name in tools)
    return Provenance(labels, await _sources(boundary, run_id, agent, tools) if held else Sources())


async def _sources(boundary: Boundary, run_id: str, agent: Agent, tools: Mapping[str, Tool]) -> Sources:
    material = await patiently(lambda: boundary.ledger.read_material(run_id))
    sources = Sources()
    material.said_into(sources)
    sources.hear(agent.instructions, AUTHOR)
    for one in material.returned:
        tool = tools.get(one.tool) or _served(boundary, one.tool)
        if tool is None or (tool.builtin and tool.child is None):
            continue
        # Asked for by a model that had read words of others, it may say again what they have put into its arguments.
        echoes = () if one.clean else echoes_of(tool, one.arguments, sources)
        if echoes is not None:
            sources.learn(one.tool, one.content, untrusted=_stricter(one, tool), family=family_of(tool), echoes=echoes)
    return sources


def _served(boundary: Boundary, name: str) -> Tool | None:
    """The contract of a tool that the agent no longer has; of one that nobody has any more, nothing is believed."""
    versions = boundary.registry.tools.get(name)
    return None if versions is None else versions.newest


def _stricter(returned: Returned, tool: Tool) -> Untrusted:
    """What the contract said when the call was settled, and what it says now."""
    then, now = returned.untrusted, untrusted_of(tool)
    if then is True or now is True:
        return True
    return (*(then or ()), *(now or ()))
