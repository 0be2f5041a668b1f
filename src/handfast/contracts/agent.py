"""An agent: data, not code. The workflow that runs it is the same for all."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from pydantic import BaseModel

from handfast.contracts.callables import async_faults, sync_faults
from handfast.contracts.effects import Effect, RunStatus, Tier
from handfast.contracts.errors import ContractError
from handfast.contracts.limits import Limits
from handfast.contracts.model import NO_MODEL, Model
from handfast.contracts.plan import Plan
from handfast.contracts.policy import Hook, Policy
from handfast.contracts.policy.approval import Approval
from handfast.contracts.price import Price
from handfast.contracts.tool import Tool

NAME = re.compile(r"^[a-zA-Z][a-zA-Z0-9_.-]{0,63}$")


def cycle_faults(after: Mapping[str, Collection[str]]) -> list[str]:
    """What is wrong with an order: `after` names for each thing those that come before it."""
    try:
        tuple(TopologicalSorter(after).static_order())
    except CycleError as error:
        return [f"after= goes round in a circle: {' after '.join(error.args[1])}"]
    return []


def _model_faults(model: object) -> Iterator[str]:
    """Why something can't answer as a model does."""
    if isinstance(model, str):
        return
    if isinstance(model, type) or not isinstance(model, Model):
        kind = f"{model.__name__}, a class" if isinstance(model, type) else type(model).__name__
        yield f"model is {kind}: give a model id, or an object with id, price and async respond(request)"
    elif not hasattr(model.respond, "__wrapped__"):
        yield from async_faults("model: respond", model.respond, "request")


UNDONE = (RunStatus.FAILED, RunStatus.LIMIT_REACHED, RunStatus.REFUSED, RunStatus.CANCELLED)
"""The endings after which a run may be undone."""


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
    policy: Policy = Policy()
    """Which calls run, wait for a person, or are refused. The safe default unless said. Whoever runs the workers may set another one
    beside it (`handfast policy set`): of both, the stricter counts."""
    hooks: tuple[Hook, ...] | list[Hook] = ()
    """Rules in Python, asked after the policy: each may hold a call for a person, refuse it, leave it out or change it."""
    undo_on: Collection[RunStatus] = (RunStatus.FAILED, RunStatus.LIMIT_REACHED, RunStatus.REFUSED)
    """After which endings what the run did is undone, as far as its tools name a `compensate=`. A cancellation may say
    otherwise."""
    savepoints: bool = False
    """The model gets two more tools: `savepoint` marks a point of its work, `roll_back` undoes what it did since."""
    plans: bool = False
    """The model gets one more tool, `carry_out`: it makes a plan of calls, the engine checks it and carries it out, and what fails
    goes back for a revised plan that keeps what is done."""
    peers: Collection[str] = ()
    """The agents whose runs its model may write to: those of its own family, and by their id others of its tenant. It gets two more
    tools: `send_message`, and `wait_for_message`, which waits until somebody has written."""
    max_output_tokens: int = 4096
    """For one model call."""
    price: Price | None = None
    """For a model that the price list does not know."""

    def __post_init__(self) -> None:
        """Check the agent as a whole."""
        object.__setattr__(self, "tools", tuple(self.tools))
        object.__setattr__(self, "retired", tuple(self.retired))
        object.__setattr__(self, "hooks", tuple(self.hooks))
        faults: list[str] = []
        if not NAME.fullmatch(self.name):
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
        if self.savepoints and not self.may_undo:
            faults.append("savepoints= without a tool that names compensate=: there is nothing that could be undone")
        if isinstance(self.peers, str):
            faults.append(f"peers is the text {self.peers!r}: it must be a list of names, peers=[{self.peers!r}]")
        else:
            object.__setattr__(self, "peers", tuple(self.peers))
            faults.extend(
                f"peers holds {name!r}: no agent can be named like that"
                for name in self.peers
                if not NAME.fullmatch(name)
            )
        faults.extend(_model_faults(self.model))
        for hook in self.hooks:
            faults.extend(sync_faults(f"hook {getattr(hook, '__name__', type(hook).__name__)}", hook, "call"))
        if self.peers and self.model is NO_MODEL:
            faults.append("peers= needs a model that writes to them")
        if self.plans and (self.model is NO_MODEL or not self.tools):
            faults.append("plans= needs a model that makes plans, and tools that they call")
        faults.extend(
            f"{tool.name} hands over to {tool.child.agent.name!r}, whose answer is of another type: give both the same output="
            for tool in self.tools
            if tool.child is not None and tool.child.hand_off and tool.child.agent.output is not self.output
        )
        faults.extend(cycle_faults(undone_after))
        if self.policy.approval != Approval():
            faults.append(
                "policy: approval says how people are told, which is the installation's: `handfast policy set`"
            )
        from handfast.contracts.agent_names import name_faults

        faults.extend(name_faults(self))
        if faults:
            raise ContractError(f"agent {self.name!r}", faults)

    @property
    def model_id(self) -> str:
        """The model's id, which is pinned when a run starts."""
        return self.model if isinstance(self.model, str) else self.model.id

    @cached_property
    def planner(self) -> Tool | None:
        """The built-in tool with which its model has plans carried out, if it may."""
        from handfast.contracts.child import planner_tool

        return planner_tool(self) if self.plans else None

    @property
    def may_undo(self) -> bool:
        """Whether anything that its tools do can be undone."""
        return any(
            tool.compensate is not None or (tool.child is not None and tool.effect is not Effect.READ)
            for tool in self.tools
        )

    def as_tool(
        self,
        *,
        name: str = "",
        description: str = "",
        input: type[BaseModel] | None = None,  # noqa: A002 - the public name
        plan: Plan | None = None,
        limits: Limits | None = None,
        hand_off: bool = False,
        most: int | None = None,
        tier: Tier | None = None,
        scope: str = "",
        queue: str | None = None,
        conflict: tuple[str, ...] = (),
        same_intent: tuple[str, ...] = (),
        show: tuple[str, ...] = (),
        untrusted: bool | tuple[str, ...] | None = None,
        result_limit: int = 8000,
        owner: str = "",
        runbook: str = "",
    ) -> Tool:
        """A tool for other agents, and for steps of plans, whose every call is a run of this agent: a child of the run that asks.

        The child has its own transcript, a part of what its parent may still use (what it leaves is the parent's again), and
        its parent's user and tenant. Its calls are judged and approved as its own. It is cancelled with its parent, and
        undone with it. A crash starts no second one: the call's operation is the child's identity.

        Args:
            name: Of the tool; the agent's, or the plan's, unless said.
            description: For the model: what the agent can do, and when to ask it.
            input: What it is given, if that is more than one text. The child reads it as JSON.
            plan: Carry this plan out in the agent's name, instead of asking its model. The plan says what it is given.
            limits: What one child may use; the agent's own unless said, and never more than its parent has left.
            hand_off: The child goes on in its parent's place: its answer is the parent's, whose model is not asked again.
            most: How many calls of it one run may make, such as the rounds of a critic.
            tier: The harm of asking it. Unless said REVERSIBLE, or READ_ONLY where all its tools are; its calls are gated anyway.
            scope: `agent:NAME` unless said.
            queue: The task queue on which its runs are served, if it is another one.
            conflict: As of `Tool`.
            same_intent: As of `Tool`.
            show: As of `Tool`.
            untrusted: Whether its answers are somebody else's words. Unless said they are where the child has read any.
            result_limit: Characters of its answer that the parent's model gets.
            owner: As of `Tool`.
            runbook: As of `Tool`.

        Raises:
            ContractError: With every fault.
        """
        from handfast.contracts.child import Child, child_tool

        return child_tool(
            Child(agent=self, plan=plan, limits=limits, hand_off=hand_off),
            name=name,
            description=description,
            input=input,
            tier=tier,
            scope=scope,
            queue=queue,
            conflict=conflict,
            same_intent=same_intent,
            show=show,
            most=most,
            untrusted=untrusted,
            result_limit=result_limit,
            owner=owner,
            runbook=runbook,
        )

    def tool(self, name: str) -> Tool | None:
        """Its tool of that name, if it has one."""
        return next((tool for tool in self.tools if tool.name == name), None)
