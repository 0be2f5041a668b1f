"""Whether what a call aims at was named by somebody who is trusted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from handfast.contracts.arguments import load_arguments
from handfast.contracts.names import ROLL_BACK, SEND_MESSAGE
from handfast.contracts.provenance.labels import Labels, acts
from handfast.contracts.provenance.paths import Leaf, Path, covers, given_in
from handfast.contracts.provenance.sources import Sources, said
from handfast.contracts.provenance.wording import addresses_in, normal
from handfast.contracts.tool import Tool

UNTRUSTED = "untrusted"
"""Of the reason why a call waits: no policy lets it go, only a person."""
MOST_NAMED = 5
"""Arguments that a reason names."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """Why a call waits for a person, or does not, once somebody else's words are in the run."""

    fault: str = ""
    """Empty if it may go on."""
    origins: Mapping[str, str]
    """By argument, as far as somebody trusted has named it: who, or which tool."""


def is_held(tool: Tool, labels: Labels) -> bool:
    """Whether it is looked up where the arguments of a call came from.

    Runs of other agents, and messages to them, carry the labels along: the calls that they make are held.
    """
    if not labels.untrusted:
        return False
    if tool.builtin:
        return tool.name == ROLL_BACK
    return acts(tool) and tool.child is None and tool.name != SEND_MESSAGE


def hold(tool: Tool, arguments: BaseModel, labels: Labels, sources: Sources) -> Held:
    """Look up where the arguments came from that pick what a call aims at: all of them unless its contract says.

    What is left at its default is the author's. An address in any other argument counts, too: it says where a reader is sent.
    """
    origins: dict[str, str] = {}
    missing: dict[str, None] = {}
    aims = False
    for path, value in given_in(tool.fields.arguments, arguments):
        # Only what the contract names: names within an argument may be anybody's.
        name = path[0]
        if value is None or value == "":
            continue
        if _is_target(tool, path):
            aims = True
            if origin := sources.origin_of(value, tool):
                origins.setdefault(name, origin)
            else:
                missing[name] = None
        elif _leads_away(value, tool, sources):
            missing[f"{name} (an address in it)"] = None
    return Held(fault=_fault(labels, [*missing], aims=aims), origins=origins)


def echoes_of(tool: Tool, arguments: Mapping[str, Any], sources: Sources) -> tuple[str, ...] | None:
    """The arguments that nobody trusted has named: a tool may say them again. None where the arguments do not fit its contract."""
    checked = load_arguments(tool, arguments)
    if isinstance(checked, dict):
        return None
    values = [
        value for _, value in given_in(tool.fields.arguments, checked.value) if not sources.origin_of(value, tool)
    ]
    return tuple(text for value in values if (text := normal(said(value))))


def _is_target(tool: Tool, path: Path) -> bool:
    targets = tool.fields.targets
    return targets is None or any(covers(one, path) for one in targets)


def _leads_away(value: Leaf, tool: Tool, sources: Sources) -> bool:
    return isinstance(value, str) and any(not sources.origin_of(one, tool) for one in addresses_in(value))


def _fault(labels: Labels, missing: list[str], *, aims: bool) -> str:
    what = f"words of others are in this run ({labels.untrusted})"
    if labels.sensitive:
        return f"{what}, and what must not get away ({labels.sensitive})"
    if missing:
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        return f"{what}, and neither the user nor a trusted field has named {', '.join(missing[:MOST_NAMED])}{more}"
    return "" if aims else f"{what}, and nothing in the call says that the user wants it"
