"""An agent: data, not code. The workflow that runs it is the same for all."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import BaseModel

from holdfast.contracts.effects import RunStatus, Tier
from holdfast.contracts.errors import ContractError
from holdfast.contracts.limits import Limits
from holdfast.contracts.model import NO_MODEL, Model
from holdfast.contracts.price import Price
from holdfast.contracts.tool import Tool

NAME = re.compile(r"^[a-zA-Z][a-zA-Z0-9_.-]{0,63}$")


def cycle_faults(after: Mapping[str, Collection[str]]) -> list[str]:
    """What is wrong with an order: `after` names for each thing those that come before it."""
    try:
        tuple(TopologicalSorter(after).static_order())
    except CycleError as error:
        return [f"after= goes round in a circle: {' after '.join(error.args[1])}"]
    return []


@dataclass(frozen=True, kw_only=True)
class ProposedCall:
    """A call the model asks for, as a rule sees it."""

    tool: str
    version: str
    tier: Tier
    arguments: dict[str, Any]
    user: str
    tenant: str


UNDONE = (RunStatus.FAILED, RunStatus.LIMIT_REACHED, RunStatus.REFUSED, RunStatus.CANCELLED)
"""The endings after which a run may be undone."""
AutoApprove = Collection[Tier] | Callable[[ProposedCall], bool]


@dataclass(frozen=True, kw_only=True)
class Agent:
    """What decides in a run: a model, instructions, tools and limits.

    Raises:
        ContractError: With every fault, when it is built.
    """

    name: str
    model: str | Model = NO_MODEL
    """A model id such as `claude-sonnet-5`, or an object that follows the `Model` protocol. Without one it only carries out plans."""
    instructions: str = ""
    tools: tuple[Tool, ...] | list[Tool] = ()
    retired: tuple[Tool, ...] | list[Tool] = ()
    """Earlier major versions of tools: no model is offered them, and calls that were made against them are still served."""
    limits: Limits = Limits()
    version: str = "1.0.0"
    """Recorded with every run."""
    output: type[BaseModel] | None = None
    """The type of the final answer. An answer that does not fit is asked for again."""
    auto_approve: AutoApprove = ()
    """Which calls that would wait for a person may run: tiers, or a rule that decides on one call.

    PRIVILEGED calls wait whatever it says. The rule runs twice in activities, when the turn is settled and right
    before the effect; it must be a pure function of the call.
    """
    undo_on: Collection[RunStatus] = (RunStatus.FAILED, RunStatus.LIMIT_REACHED, RunStatus.REFUSED)
    """After which endings what the run did is undone, as far as its tools name a `compensate=`. A cancellation may say
    otherwise."""
    savepoints: bool = False
    """The model gets two more tools: `savepoint` marks a point of its work, `roll_back` undoes what it did since."""
    max_output_tokens: int = 4096
    """For one model call."""
    price: Price | None = None
    """For a model that the price list does not know."""

    def __post_init__(self) -> None:
        """Check the agent as a whole."""
        object.__setattr__(self, "tools", tuple(self.tools))
        object.__setattr__(self, "retired", tuple(self.retired))
        faults: list[str] = []
        if not NAME.match(self.name):
            faults.append(f"name {self.name!r}: allowed are a letter, then up to 63 letters, digits, '_', '.' or '-'")
        if not self.instructions.strip() and self.model is not NO_MODEL:
            faults.append("instructions are empty: say what it is for and how it should work")
        if isinstance(self.model, str) and not self.model.strip():
            faults.append("model is empty: give a model id such as 'claude-sonnet-5'")
        if self.max_output_tokens < 1:
            faults.append(f"max_output_tokens {self.max_output_tokens}: must be at least 1")
        names = [tool.name for tool in self.tools]
        faults.extend(f"two tools are named {name!r}" for name in sorted({n for n in names if names.count(n) > 1}))
        object.__setattr__(self, "undo_on", tuple(self.undo_on))
        faults.extend(
            f"undo_on holds {status!s}: allowed are {', '.join(UNDONE)}"
            for status in self.undo_on
            if status not in UNDONE
        )
        undone_after = {tool.name: set(tool.compensate.after) for tool in self.tools if tool.compensate is not None}
        if self.savepoints and not undone_after:
            faults.append("savepoints= without a tool that names compensate=: there is nothing that could be undone")
        faults.extend(cycle_faults(undone_after))
        if not callable(self.auto_approve) and Tier.PRIVILEGED in self.auto_approve:
            faults.append("auto_approve holds PRIVILEGED: such calls always wait for a person")
        if faults:
            raise ContractError(f"agent {self.name!r}", faults)

    @property
    def model_id(self) -> str:
        """The model's id, which is pinned when a run starts."""
        return self.model if isinstance(self.model, str) else self.model.id

    def tool(self, name: str) -> Tool | None:
        """Its tool of that name, if it has one."""
        return next((tool for tool in self.tools if tool.name == name), None)

    def approves(self, call: ProposedCall) -> bool:
        """Whether this call may run without asking a person."""
        if not call.tier.asks:
            return True
        if call.tier is Tier.PRIVILEGED:
            return False
        return self.auto_approve(call) if callable(self.auto_approve) else call.tier in self.auto_approve
