"""A plan: a job whose steps are known, as data. The engine carries it out in the name of an agent, whose model is not asked."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, ConfigDict, Field, model_validator

from handfast.contracts.messages import Frozen
from handfast.contracts.references import steps_in

STEP_ID = re.compile(r"^[a-z][a-z0-9_]{0,47}$")
MENTION = re.compile(r"""\bsteps\s*(?:\.\s*([a-z][a-z0-9_]*)|\[\s*["']([a-z][a-z0-9_]*)["']\s*\])""")
"""A step in a condition: `steps.x` or `steps["x"]`."""
MOST_STEPS = 500
MOST_AT_ONCE = 200

StepId = Annotated[str, Field(pattern=STEP_ID.pattern)]
GIVEN = AliasChoices("with", "arguments")
"""A step's arguments stand under `with`."""
UNDO: Literal["undo"] = "undo"
GO_ON: Literal["continue"] = "continue"


class Way(Frozen):
    """A call of a tool of the plan's agent, which may be another agent or plan, and its arguments."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tool: str = ""
    agent: str = ""
    """Instead of a tool: the agent that is asked. The plan's agent must have it as a tool."""
    plan: str = ""
    """Instead of a tool: the plan that is carried out. The same."""
    arguments: dict[str, Any] = Field(default_factory=dict, validation_alias=GIVEN)
    """By name. `${request.city}`, `${steps.lookup.result.payment_id}` and, in a `for_each`, `${item.name}` and `${index}` stand for
    what is there when the step runs; alone they keep its type, inside of a text they become text. `$${` is a plain `${`."""

    @property
    def called(self) -> str:
        """Whom it calls."""
        return self.tool or self.agent or self.plan

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(map(bool, (self.tool, self.agent, self.plan))) != 1:
            msg = "a way names one of tool, agent and plan"
            raise ValueError(msg)
        return self


class Step(Frozen):
    """One step of a plan: a call, several of them for the items of a list, or several ways to the same end."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tool: str = ""
    agent: str = ""
    """As of a `Way`."""
    plan: str = ""
    """As of a `Way`."""
    arguments: dict[str, Any] = Field(default_factory=dict, validation_alias=GIVEN)
    """As of a `Way`."""
    first_of: tuple[Way, ...] = ()
    """Instead of one tool: several calls at once. The first that succeeds is the step's result; the others are stopped and undone."""
    depends_on: tuple[StepId, ...] = ()
    """Steps that must have ended before; those it refers to are among them unless said."""
    join: Literal["all", "any"] = "all"
    """Whether it waits for all of `depends_on`, or for the first of them that succeeds."""
    when: str = ""
    """A condition in the Common Expression Language, such as `steps.check.result.score > 700`. The step is skipped if it is false."""
    for_each: str = ""
    """A reference to a list: a call for each of its items. The step's result is then the list of theirs."""
    parallel: int = Field(default=10, ge=1, le=MOST_AT_ONCE)
    """How many calls of a `for_each` may be under way at once."""
    retries: int = Field(default=0, ge=0, le=100)
    """How often a call that surely did not happen is asked for again, as a new operation; beside the tool's own attempts."""
    on_failure: str = UNDO
    """`undo` ends the plan and undoes it, `continue` goes on without a result, and the id of another step takes that one instead."""
    stands: bool = False
    """What it does may stay if the plan is undone, although nothing undoes it."""

    @property
    def ways(self) -> tuple[Way, ...]:
        """Its calls for one item."""
        # Not validated once more: a name that stands for no tool is left out when the plan is checked, and told.
        own = Way.model_construct(tool=self.tool, agent=self.agent, plan=self.plan, arguments=self.arguments)
        return self.first_of or (own,)

    @property
    def instead(self) -> str:
        """The step that is taken if this one fails; empty if there is none."""
        return "" if self.on_failure in {UNDO, GO_ON} else self.on_failure

    @cached_property
    def refers_to(self) -> frozenset[str]:
        """The steps whose results its arguments, its list and its condition need."""
        return self.needs | self.mentions

    @cached_property
    def needs(self) -> frozenset[str]:
        """The steps without whose results it is skipped."""
        return steps_in([self.for_each, *(way.arguments for way in self.ways)])

    @cached_property
    def mentions(self) -> frozenset[str]:
        """The steps that its condition looks at: they may have no result."""
        return frozenset(by_dot or by_place for by_dot, by_place in MENTION.findall(self.when))

    @cached_property
    def after(self) -> frozenset[str]:
        """Every step that must have ended before it."""
        return self.refers_to | frozenset(self.depends_on)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(map(bool, (self.tool, self.agent, self.plan, self.first_of))) != 1:
            msg = "a step names one of tool, agent and plan, or several ways in first_of"
            raise ValueError(msg)
        if self.first_of and (len(self.first_of) < 2 or self.arguments or self.for_each):
            msg = "first_of takes at least two ways, each with arguments of its own, and goes without for_each"
            raise ValueError(msg)
        return self


class Plan(Frozen):
    """A job whose steps are known. It is checked as a whole before anything runs; see `plan_faults`."""

    name: str = Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_.-]{0,63}$")
    agent: str = ""
    """In whose name it is carried out: only that agent's tools are used, its limits hold, and it says what a person must approve."""
    description: str = ""
    request: dict[str, Any] = Field(default_factory=dict)
    """What it is given, by name: a type (`string`, `integer`, `number`, `boolean`, `array`, `object`) or a JSON Schema. None of it may
    be missing."""
    steps: dict[StepId, Step] = Field(min_length=1, max_length=MOST_STEPS)
    output: Any = None
    """What the run returns: references, or text and lists and objects with references in them."""

    @property
    def request_schema(self) -> dict[str, Any]:
        """What it is given, as a JSON Schema."""
        named = {name: {"type": schema} if isinstance(schema, str) else schema for name, schema in self.request.items()}
        return {"type": "object", "properties": named, "required": sorted(named), "additionalProperties": False}

    @property
    def owners(self) -> dict[str, str]:
        """By the id of each step that is only taken instead of another one: that other one."""
        return {step.instead: name for name, step in self.steps.items() if step.instead}

    def before(self, step_id: str) -> frozenset[str]:
        """Every step that has ended when this one runs, near and far, with those taken instead of them."""
        found: set[str] = set()
        left = [step_id]
        while left:
            step = self.steps.get(left.pop())
            more: set[str] = set() if step is None else set(step.after) - found
            more |= {self.steps[one].instead for one in more if one in self.steps and self.steps[one].instead}
            found |= more
            left.extend(more)
        return frozenset(found)

    def all_before(self) -> dict[str, frozenset[str]]:
        """`before` of every step, each made of those of the steps before it."""
        direct = {name: self._directly_before(step) for name, step in self.steps.items()}
        try:
            order = tuple(TopologicalSorter(direct).static_order())
        except CycleError:
            return {name: self.before(name) for name in self.steps}
        found: dict[str, frozenset[str]] = {}
        for name in order:
            near = direct.get(name, frozenset())
            found[name] = near.union(*(found[one] for one in near))
        return found

    def _directly_before(self, step: Step) -> frozenset[str]:
        instead = {self.steps[one].instead for one in step.after if one in self.steps}
        return step.after | (instead - {""})

    def calls(self) -> Iterator[tuple[str, Step, Way]]:
        """Every (id, step, way) of it."""
        for step_id, step in self.steps.items():
            for way in step.ways:
                yield step_id, step, way


def require_request(plan: Plan, request: Mapping[str, Any]) -> None:
    """Refuse a request that lacks what the plan is given, or has what it does not know.

    Raises:
        ValueError: It does, with every name.
    """
    faults = [f"it lacks {name!r}" for name in sorted(plan.request.keys() - request.keys())]
    faults += [
        f"it has {name!r}, which the plan does not know" for name in sorted(request.keys() - plan.request.keys())
    ]
    kinds: dict[str, type | tuple[type, ...]] = {
        "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict,
    }  # fmt: skip
    for name, schema in plan.request_schema["properties"].items():
        kind = kinds.get(schema.get("type", ""))
        value = request.get(name)
        wrong = kind is not None and (not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)))
        if name in request and wrong:
            faults.append(f"{name} is {value!r}, and must be of type {schema['type']}")
    if faults:
        msg = f"the request does not fit plan {plan.name!r}: {'; '.join(faults)}"
        raise ValueError(msg)
