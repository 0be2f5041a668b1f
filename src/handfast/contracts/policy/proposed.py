"""A call as rules see it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from handfast.contracts.arguments import Arguments
from handfast.contracts.called_from import NOWHERE, CalledFrom
from handfast.contracts.effects import Effect, Tier
from handfast.contracts.stored_type import StoredType
from handfast.contracts.tool import Tool


@dataclass(frozen=True, kw_only=True)
class ProposedCall:
    """A call the model asks for, or one that is about to be carried out."""

    tool: str
    tier: Tier
    arguments: Mapping[str, Any]
    """As JSON values, by alias. What the model left out is there with its default."""
    argument_type: StoredType | None = field(default=None, repr=False, compare=False)
    """What they are called by the contract, so that rules may name them by name or alias; None where that is not known."""
    version: str = "1.0.0"
    scope: str = ""
    effect: Effect = Effect.ONCE
    egress: bool = False
    """It sends something to outside of the organisation."""
    agent: str = ""
    user: str = ""
    tenant: str = "default"
    run: str = ""
    """The run's id."""
    called_from: CalledFrom = NOWHERE
    """From where the run was asked for."""
    untrusted: bool = False
    """Somebody else's words are in the run."""
    builtin: bool = field(default=False)
    """One of the engine's own tools, which do nothing that a role could permit."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """In whose run a call is made."""

    agent: str = ""
    user: str = ""
    tenant: str = "default"
    run: str = ""
    called_from: CalledFrom = NOWHERE
    untrusted: bool = False
    """Somebody else's words are in it."""


def proposed(tool: Tool, arguments: Arguments, caller: Caller) -> ProposedCall:
    """A call whose arguments fit its contract."""
    return ProposedCall(
        tool=tool.name,
        version=tool.version,
        scope=tool.scope,
        tier=tool.tier,
        effect=tool.effect,
        egress=tool.egress,
        builtin=tool.builtin,
        arguments=arguments.stored,
        argument_type=tool.fields.arguments,
        agent=caller.agent,
        user=caller.user,
        tenant=caller.tenant,
        run=caller.run,
        called_from=caller.called_from,
        untrusted=caller.untrusted,
    )
