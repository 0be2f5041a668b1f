"""A tool whose call is a run of its own: an agent that another one asks, or a plan that it has carried out."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from handfast.contracts.context import ToolContext
from handfast.contracts.effects import Effect, Tier
from handfast.contracts.errors import ContractError
from handfast.contracts.limits import Limits
from handfast.contracts.model import NO_MODEL
from handfast.contracts.names import CARRY_OUT
from handfast.contracts.plan import MOST_STEPS, Plan, Step, StepId
from handfast.contracts.plan_check import plan_faults, with_tools
from handfast.contracts.tool import Tool

if TYPE_CHECKING:
    from handfast.contracts.agent import Agent

PLANNER = (
    "Carry out a plan of several steps that call your tools: what can go side by side does, results feed later steps, and you "
    "are told at the end. If a step fails, what is done stays done: call it again with the whole plan revised. A step that is in "
    "it as it was, with the same tool and arguments, is not done again."
)
ANSWER_LIMIT = 8000
"""Characters of a child's answer that its parent gets; the whole is kept in the ledger."""
KINDS: Mapping[str, Any] = {
    "string": str, "integer": int, "number": float, "boolean": bool, "array": list[Any], "object": dict[str, Any],
}  # fmt: skip


class Request(BaseModel):
    """What is asked."""

    request: str = Field(
        min_length=1,
        description="What it should do, with everything that it needs to know: it sees nothing of this conversation.",
    )


@dataclass(frozen=True, kw_only=True)
class Child:
    """What carries out the calls of a tool that are runs of their own."""

    agent: "Agent"
    plan: Plan | None = None
    """What is carried out in the agent's name, instead of asking its model."""
    limits: Limits | None = None
    """What one such run may use; the agent's own unless said. Never more than its parent has left."""
    hand_off: bool = False
    """Its answer is its parent's: the one who asked is done with it."""
    planned: bool = False
    """The call's arguments are the plan: the model that asks has made it."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools that it may use."""
        tools = tuple(self.agent.tools)
        if self.plan is None:
            return tools
        plan, _ = with_tools(self.plan, {tool.name: tool for tool in tools})
        named = {way.tool for _, _, way in plan.calls()}
        return tuple(tool for tool in tools if tool.name in named)

    def text(self, arguments: BaseModel) -> str:
        """What a call asks for, in words."""
        if isinstance(arguments, Request):
            return arguments.request
        return arguments.model_dump_json(indent=1)


def child_tool(
    child: Child,
    *,
    name: str = "",
    description: str = "",
    input: type[BaseModel] | None = None,  # noqa: A002 - the public name
    tier: Tier | None = None,
    scope: str = "",
    queue: str | None = None,
    conflict: tuple[str, ...] = (),
    same_intent: tuple[str, ...] = (),
    show: tuple[str, ...] = (),
    most: int | None = None,
    untrusted: bool | tuple[str, ...] | None = None,
    result_limit: int = ANSWER_LIMIT,
    owner: str = "",
    runbook: str = "",
    builtin: bool = False,
) -> Tool:
    """The contract of such a tool; see `Agent.as_tool`.

    Raises:
        ContractError: With every fault.
    """
    agent, plan = child.agent, child.plan
    if faults := [*_faults(child, description, input)]:
        raise ContractError(f"agent {agent.name!r} as a tool", faults)
    acts = any(tool.effect is not Effect.READ for tool in child.tools)

    async def run(arguments: BaseModel, ctx: ToolContext) -> Any:
        msg = f"{name or agent.name} is a run of its own, which the engine starts"
        raise TypeError(msg)

    run.__annotations__ = {
        "arguments": input or (Request if plan is None else _arguments_of(plan)),
        "ctx": ToolContext,
        "return": Any if plan is not None else agent.output or str,
    }
    return Tool(
        name=name or re.sub(r"[^a-zA-Z0-9_-]", "_", agent.name if plan is None else plan.name),
        version=agent.version,
        description=description or (plan.description if plan is not None else ""),
        effect=Effect.KEYED if acts else Effect.READ,
        tier=tier or (Tier.REVERSIBLE if acts else Tier.READ_ONLY),
        scope=scope or f"agent:{agent.name}",
        function=run,
        queue=queue,
        conflict=conflict,
        same_intent=same_intent,
        show=show,
        most=most,
        result_limit=result_limit,
        pivot=any(tool.pivot for tool in child.tools),
        # Unless said otherwise, what the child has read decides: its labels come back with its answer.
        untrusted=False if untrusted is None else untrusted,
        egress=any(tool.egress for tool in child.tools),
        owner=owner,
        runbook=runbook,
        builtin=builtin,
        child=child,
    )


def _faults(child: Child, description: str, given: type[BaseModel] | None) -> Iterator[str]:
    agent, plan = child.agent, child.plan
    if child.planned:
        return
    if plan is None:
        if agent.model is NO_MODEL:
            yield "it has no model, so it can only carry out plans: give plan=, or the agent a model"
        if not description.strip():
            yield "it has no description: say what it can do, and when another agent should ask it"
        return
    if plan.agent not in {"", agent.name}:
        yield f"plan {plan.name!r} is carried out in the name of {plan.agent!r}, not of {agent.name!r}"
    if given is not None:
        yield f"input= with plan {plan.name!r}: a plan says itself what it is given"
    if child.hand_off:
        yield f"hand_off= with plan {plan.name!r}: a plan takes over no conversation"
    if not (description or plan.description).strip():
        yield f"plan {plan.name!r} has no description: say what it does, and when an agent should have it carried out"
    for fault in plan_faults(plan, {tool.name: tool for tool in agent.tools}):
        yield f"plan {plan.name!r}: {fault}"


class Steps(BaseModel):
    """A plan as a model makes it."""

    steps: dict[StepId, Step] = Field(
        min_length=1,
        max_length=MOST_STEPS,
        description="By id. What has no depends_on and refers to no other step is done at once, side by side. "
        'Example: {"order": {"tool": "lookup_order", "with": {"order_id": "1042"}}, '
        '"refund": {"tool": "issue_refund", "with": {"payment_id": "${steps.order.result.payment_id}"}}}',
    )
    output: Any = Field(
        default=None, description='What to tell you at the end. Example: {"refund": "${steps.refund.result}"}'
    )


def planner_tool(agent: "Agent") -> Tool:
    """The built-in tool with which a model has a plan of its own carried out."""
    return child_tool(
        Child(agent=agent, planned=True),
        name=CARRY_OUT,
        description=PLANNER,
        input=Steps,
        scope="handfast:plan",
        builtin=True,
    )


def plan_of(child: Child, arguments: BaseModel) -> Plan | None:
    """The plan that a call carries out; None if it asks a model."""
    if isinstance(arguments, Steps) and child.planned:
        return Plan(name="plan", agent=child.agent.name, steps=arguments.steps, output=arguments.output)
    return child.plan


def _arguments_of(plan: Plan) -> type[BaseModel]:
    """What a plan is given, as a model; what its types say in detail is checked when the plan is opened."""
    fields: dict[str, Any] = {
        name: (KINDS.get(schema.get("type", ""), Any) if schema.keys() == {"type"} else Annotated[Any, WithJsonSchema(schema)], ...)
        for name, schema in plan.request_schema["properties"].items()
    }  # fmt: skip
    return create_model(f"{plan.name}_request", __config__=ConfigDict(extra="forbid"), **fields)


def family_of(agents: "Iterable[Agent]") -> "list[Agent]":
    """These agents and all that they ask, near and far, each once and in that order."""
    found: list[Agent] = []
    left = list(agents)
    while left:
        agent = left.pop(0)
        if not any(agent is one for one in found):
            found.append(agent)
            left.extend(tool.child.agent for tool in agent.tools if tool.child is not None)
    return found
