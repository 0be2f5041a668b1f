"""Checking a plan as a whole, before anything of it runs: what can be known to go wrong, all of it at once."""

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, cast

from pydantic import ValidationError

from handfast.contracts.conditions import NAMES, condition_fault
from handfast.contracts.effects import Effect
from handfast.contracts.plan import GO_ON, Plan, Step, Way
from handfast.contracts.references import REFERENCE, Reference, alone, parse, texts_in
from handfast.contracts.schema_paths import NoSuchPlace, schema_at
from handfast.contracts.schemas import Comparison
from handfast.contracts.suggestions import instead_of
from handfast.contracts.tool import Tool

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}


def plan_faults(plan: Plan, tools: Mapping[str, Tool], *, undone: bool = True) -> list[str]:
    """What is wrong with a plan, one sentence each; empty if it can be carried out with these tools, by name.

    One that is not `undone` when it fails may have effects that nothing undoes.
    """
    plan, faults = with_tools(plan, tools)
    faults += _Shape(plan).faults()
    if not any("goes round in a circle" in fault for fault in faults):
        faults += _Types(plan, tools).faults()
        faults += [*(_undo_faults(plan, tools) if undone else ()), *_pivot_faults(plan, tools)]
    return faults


def with_tools(plan: Plan, tools: Mapping[str, Tool]) -> tuple[Plan, list[str]]:
    """The plan with the tools in the place of the agents and plans that its steps name, and what is wrong with those names."""
    faults: list[str] = []

    def named(where: str, way: Way | Step) -> str:
        if way.tool or not (way.agent or way.plan):
            return way.tool
        found = [name for name, tool in tools.items() if _is_called(tool, way)]
        if len(found) == 1:
            return found[0]
        what = f"agent {way.agent!r}" if way.agent else f"plan {way.plan!r}"
        have = sorted(name for name, tool in tools.items() if tool.child is not None)
        faults.append(
            f"step {where!r} calls {what} by more than one tool ({', '.join(found)}): write tool: with one of them"
            if found
            else f"step {where!r} calls {what}, which the plan's agent does not have as a tool; "
            f"it has as such {', '.join(have) or 'none'}: give it .as_tool(...) of that"
        )
        return ""

    def resolved(step_id: str, step: Step) -> Step:
        ways = tuple(
            way.model_copy(update={"tool": named(step_id, way), "agent": "", "plan": ""}) for way in step.first_of
        )
        return step.model_copy(
            update={"tool": named(step_id, step), "agent": "", "plan": "", **({"first_of": ways} if ways else {})}
        )

    if all(way.tool for _, _, way in plan.calls()):
        return plan, faults
    return plan.model_copy(update={"steps": {name: resolved(name, step) for name, step in plan.steps.items()}}), faults


def _is_called(tool: Tool, way: Way | Step) -> bool:
    child = tool.child
    if child is None:
        return False
    if way.plan:
        return child.plan is not None and child.plan.name == way.plan
    return child.plan is None and child.agent.name == way.agent


class _Shape:
    """The steps as a graph."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._owners = plan.owners

    def faults(self) -> Iterator[str]:
        for step_id, step in self._plan.steps.items():
            yield from self._of_step(step_id, step)
        yield from self._alternatives()
        yield from self._circles()

    def _of_step(self, step_id: str, step: Step) -> Iterator[str]:
        known = self._plan.steps
        for other in sorted(step.after - known.keys()):
            yield f"step {step_id!r} waits for {other!r}, which is no step; steps are {instead_of(other, known)}"
        for other in sorted(step.after & self._owners.keys()):
            owner = self._owners[other]
            yield (
                f"step {step_id!r} waits for {other!r}, which is only taken if {owner!r} fails: wait for {owner!r}, "
                f"whose result is then that of {other!r}"
            )
        if step.join == "any" and len(step.depends_on) < 2:
            yield f"step {step_id!r} joins any, and depends_on names fewer than two steps"
        if step.join == "any" and step.refers_to & frozenset(step.depends_on):
            names = ", ".join(sorted(step.refers_to & frozenset(step.depends_on)))
            yield f"step {step_id!r} joins any, so it can't refer to the results of {names}: they may not be there"
        if step.instead and step.instead not in known:
            yield f"step {step_id!r} takes {step.instead!r} on failure, which is no step; write undo, continue or a step's id"
        if step.when:
            yield from self._condition(step_id, step.when, each=bool(step.for_each))

    def _condition(self, step_id: str, text: str, *, each: bool) -> Iterator[str]:
        if fault := condition_fault(text):
            yield f"step {step_id!r}: when {text!r}: {fault}"
        if each and ("item" in text.replace(".", " ").split() or "index" in text.replace(".", " ").split()):
            yield f"step {step_id!r}: when {text!r} is asked once for the whole step: it can't speak of item or index"
        if not any(name in text for name in NAMES):
            yield f"step {step_id!r}: when {text!r} is always the same: speak of request or steps"

    def _alternatives(self) -> Iterator[str]:
        named = [step.instead for step in self._plan.steps.values() if step.instead]
        for other in sorted({one for one in named if named.count(one) > 1}):
            yield f"step {other!r} is taken instead of more than one step: give each an alternative of its own"
        for other, owner in self._owners.items():
            if other == owner:
                yield f"step {owner!r} takes itself on failure"

    def _circles(self) -> Iterator[str]:
        graph = {name: set(step.after) | self._alternative_of(name) for name, step in self._plan.steps.items()}
        try:
            tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            yield f"it goes round in a circle: {' waits for '.join(reversed(error.args[1]))}"

    def _alternative_of(self, name: str) -> set[str]:
        owner = self._owners.get(name)
        return {owner} if owner is not None else set()


class _Types:
    """What the steps are given against what their tools take."""

    def __init__(self, plan: Plan, tools: Mapping[str, Tool]) -> None:
        self._plan = plan
        self._tools = tools

    def faults(self) -> Iterator[str]:
        for step_id, step in self._plan.steps.items():
            where = f"step {step_id!r}"
            if step.for_each:
                yield from self._list_of(where, step)
            for way in step.ways:
                yield from self._call(where, step, way)
        for text in texts_in(self._plan.output):
            yield from self._references("output", text, None)

    def _list_of(self, where: str, step: Step) -> Iterator[str]:
        if alone(step.for_each) is None:
            yield f"{where}: for_each {step.for_each!r} must be one reference to a list, such as ${{request.names}}"
            return
        yield from self._references(f"{where}: for_each", step.for_each, None)
        schema = self._schema_of(step.for_each, None)
        if schema is not None and schema.get("type") not in {None, "array"} and "anyOf" not in schema:
            yield f"{where}: for_each {step.for_each} is of type {schema['type']}, not a list"

    def _call(self, where: str, step: Step, way: Way) -> Iterator[str]:
        if not way.tool:
            return
        tool = self._tools.get(way.tool)
        if tool is None:
            yield f"{where} names tool {way.tool!r}, which the agent does not have; it has {instead_of(way.tool, sorted(self._tools))}"
            return
        faults = [
            fault for text in texts_in(way.arguments) for fault in self._references(f"{where}, {way.tool}", text, step)
        ]
        yield from faults
        if faults:
            return
        if not any(REFERENCE.search(text) for text in texts_in(way.arguments)):
            try:
                tool.signature.arguments.model_validate(way.arguments)
            except ValidationError as error:
                for fault in error.errors():
                    place = ".".join(map(str, fault["loc"]))
                    if fault["type"] != "missing" or len(fault["loc"]) > 1:
                        yield f"{where}, {way.tool}: argument {place}: {fault['msg']}"
        schema = tool.schema.parameters
        properties = schema.get("properties", {})
        for name in sorted(schema.get("required", ())):
            if name not in way.arguments:
                yield f"{where}, {way.tool} lacks argument {name!r}"
        for name in sorted(way.arguments.keys() - properties.keys()):
            if schema.get("additionalProperties") is False:
                yield f"{where}, {way.tool} takes no argument {name!r}; it takes {instead_of(name, properties)}"
        for name, value in way.arguments.items():
            if name in properties:
                yield from self._fits(f"{where}, {way.tool}: argument {name}", value, schema, (name,), step)

    def _fits(self, where: str, value: Any, schema: Schema, path: tuple[str | int, ...], step: Step) -> Iterator[str]:
        """Why what a value's references stand for can't be given there. What is written out is validated when it runs."""
        if isinstance(value, dict):
            for name, inner in cast("dict[str, Any]", value).items():
                yield from self._fits(f"{where}.{name}", inner, schema, (*path, name), step)
            return
        if isinstance(value, list):
            for number, inner in enumerate(cast("Iterable[Any]", value)):
                yield from self._fits(f"{where}[{number}]", inner, schema, (*path, number), step)
            return
        if not isinstance(value, str) or not REFERENCE.search(value):
            return
        given = self._schema_of(value, step) if alone(value) is not None else TEXT
        try:
            wanted = schema_at(schema, path)
        except NoSuchPlace as error:
            yield f"{where}: {error}"
            return
        if given is None:
            return
        for found in Comparison(given, wanted).narrowings():
            # Bounds and patterns are known when it runs: a result that breaks them is refused then, and the plan undone.
            if found.keyword in {"type", "required"} and found.before != "anything":
                inside = f" at {found.path}" if found.path else ""
                yield f"{where} gets {value}{inside}: that is {found.before or 'not always there'}, and must be {found.after}"

    def _references(self, where: str, text: str, step: Step | None) -> Iterator[str]:
        """What is wrong with the references in a text."""
        for found in REFERENCE.findall(text):
            try:
                reference = parse(found)
            except ValueError as error:
                yield f"{where}: {error}"
                continue
            if reference.root in {"item", "index"} and (step is None or not step.for_each):
                yield f"{where}: ${{{reference.text}}} stands for nothing without for_each"
                continue
            if reference.step and reference.step not in self._plan.steps:
                yield f"{where}: ${{{reference.text}}}: {reference.step!r} is no step"
                continue
            try:
                self._schema_behind(reference, step)
            except NoSuchPlace as error:
                yield f"{where}: ${{{reference.text}}} stands for nothing: {error}"

    def _schema_of(self, text: str, step: Step | None) -> Schema | None:
        """The schema of what a text that is one reference stands for; None where that is not known."""
        only = alone(text)
        try:
            return None if only is None else self._schema_behind(parse(only), step)
        except (ValueError, NoSuchPlace):
            return None

    def _schema_behind(self, reference: Reference, step: Step | None) -> Schema | None:
        match reference.root:
            case "request":
                return schema_at(self._plan.request_schema, reference.path)
            case "index":
                return {"type": "integer"}
            case "item":
                items = self._schema_of(step.for_each, None) if step is not None else None
                return None if items is None else schema_at(items, (0, *reference.path))
            case _:
                return self._result_of(reference)

    def _result_of(self, reference: Reference) -> Schema | None:
        step = self._plan.steps[reference.step]
        alternatives = [step, *([self._plan.steps[step.instead]] if step.instead in self._plan.steps else [])]
        found: list[Schema] = []
        for one in alternatives:
            for way in one.ways:
                tool = self._tools.get(way.tool)
                if tool is None:
                    return None
                schema = tool.result_adapter.json_schema()
                definitions = schema.pop("$defs", {})
                listed = {"type": "array", "items": schema} if one.for_each else schema
                found.append(schema_at({**listed, "$defs": definitions} if definitions else listed, reference.path))
        # More than one way to the same end: each must have it, and the first one speaks for their types.
        return found[0] if len(found) == 1 else None


def _undo_faults(plan: Plan, tools: Mapping[str, Tool]) -> Iterator[str]:
    """Effects that would stay if a later step failed, and losers of a race that nobody could undo."""
    pivots = _pivots(plan, tools)
    before = plan.all_before()
    for step_id, step, way in plan.calls():
        tool = tools.get(way.tool)
        if tool is None or tool.effect is Effect.READ:
            continue
        if step.first_of and tool.undo is None:
            yield f"step {step_id!r} may have to undo {way.tool} if another way wins, and its contract names no compensate="
        elif tool.undo is None and not tool.pivot and not step.stands:
            safe = {*before[step_id], step_id}
            after_pivot = any(pivot in before[step_id] for pivot in pivots)
            may_fail = (name for name, one in plan.steps.items() if name not in safe and one.on_failure != GO_ON)
            if not after_pivot and (other := next(may_fail, "")):
                yield (
                    f"step {step_id!r} would stay if {other!r} failed: nothing undoes {way.tool}. "
                    "Give its contract compensate=, put it behind the pivot, or say stands: true"
                )


def _pivots(plan: Plan, tools: Mapping[str, Tool]) -> list[str]:
    return [step_id for step_id, _, way in plan.calls() if way.tool in tools and tools[way.tool].pivot]


def _pivot_faults(plan: Plan, tools: Mapping[str, Tool]) -> Iterator[str]:
    """What runs beside a call that commits the job, or would go on as if it had."""
    pivots = _pivots(plan, tools)
    before = plan.all_before() if pivots else {}
    for pivot in sorted(set(pivots)):
        for other in plan.steps:
            beside = other != pivot and pivot not in before[other] and other not in before[pivot]
            if beside and other not in plan.owners and plan.owners.get(pivot) != other:
                yield f"step {other!r} runs beside {pivot!r}, which commits the job: make one of them wait for the other"
        if plan.steps[pivot].for_each or plan.steps[pivot].first_of:
            yield f"step {pivot!r} commits the job, and so is one call: no for_each, no first_of"
        if plan.steps[pivot].on_failure == GO_ON:
            yield f"step {pivot!r} commits the job: on_failure continue would go on as if it had"
