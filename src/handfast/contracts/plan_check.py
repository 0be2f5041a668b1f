"""Checking a plan as a whole, before anything of it runs: what can be known to go wrong, all of it at once."""

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, cast

from pydantic import ValidationError

from handfast.contracts.condition_syntax import Call, Constant, Name, Node, Select, nodes
from handfast.contracts.condition_types import NONE, ConditionTypes, Facts, Path, apply, facts_if
from handfast.contracts.conditions import ITEM_NAMES, NAMES, condition_fault, names_in, syntax
from handfast.contracts.effects import Effect
from handfast.contracts.plan import GO_ON, Plan, Step, Way
from handfast.contracts.references import REFERENCE, Reference, alone, parse, texts_in
from handfast.contracts.schema_paths import NoSuchPlace, schema_at, types_of
from handfast.contracts.schemas import Comparison
from handfast.contracts.suggestions import instead_of
from handfast.contracts.tool import Tool

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
STATE: Schema = {
    "type": "object",
    "properties": {"status": {"enum": ["succeeded", "failed", "skipped"], "type": "string"}, "result": {}},
    "additionalProperties": False,
}
"""What a condition sees of a step."""


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
        where = f"step {step_id!r}: when {text!r}"
        if fault := condition_fault(text):
            yield f"{where}: {fault}"
            return
        tree = syntax(text)
        named = names_in(tree)
        if named & ITEM_NAMES:
            why = "is decided once for the whole step" if each else "belongs to no list"
            yield f"{where} {why}: it can't speak of item or index"
        elif not named & NAMES:
            yield f"{where} is always the same: speak of request or steps"
        if not _names_every_step(tree):
            yield f"{where} must name each step that it speaks of: steps.ID.result or steps.ID.status"

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


def _names_every_step(tree: Node) -> bool:
    """Whether a condition speaks of `steps` only as of named ones."""
    all_uses = sum(isinstance(node, Name) and node.name == "steps" for node in nodes(tree))
    named = 0
    for node in nodes(tree):
        match node:
            case Select(operand=Name(name="steps"), has=False):
                named += 1
            case Call(function="_[_]", arguments=(Name(name="steps"), Constant(kind="string"))):
                named += 1
            case _:
                continue
    return named == all_uses


class _Types:
    """What the steps are given against what their tools take."""

    def __init__(self, plan: Plan, tools: Mapping[str, Tool]) -> None:
        self._plan = plan
        self._tools = tools
        self._facts: dict[str, Facts] = {}

    def faults(self) -> Iterator[str]:
        for step_id, step in self._plan.steps.items():
            where = f"step {step_id!r}"
            if step.when and not condition_fault(step.when):
                types = ConditionTypes(self._known_root)
                yield from (f"{where}: when {step.when!r}: {fault}" for fault in types.faults(syntax(step.when)))
            if step.for_each:
                yield from self._list_of(where, step_id, step)
            for way in step.ways:
                yield from self._call(where, step_id, way)
        for text in texts_in(self._plan.output):
            yield from self._references("output", text, "")

    def _known_root(self, path: Path) -> tuple[Path, Schema] | None:
        """Of what a condition speaks of: the request, or what is known of a step."""
        match path:
            case ("request", *_):
                return path[:1], self._plan.request_schema
            case ("steps", str(step_id), "result", *_) if step_id in self._plan.steps:
                schema = result_schema(self._plan, self._tools, step_id)
                return None if schema is None else (path[:3], schema)
            case ("steps", str(step_id), _, *_) if step_id in self._plan.steps:
                return path[:2], STATE
            case _:
                return None

    def _facts_of(self, step_id: str) -> Facts:
        """What is known where a step runs: its condition is true, and so are those of the steps whose results it needs."""
        step = self._plan.steps.get(step_id)
        if step is None:
            return NONE
        if step_id not in self._facts:
            self._facts[step_id] = NONE  # of a circle
            known = NONE
            if step.when and not condition_fault(step.when):
                known = facts_if(syntax(step.when), true=True)
            for other in step.needs:
                # One that has an alternative may have failed before its condition was found true.
                if other in self._plan.steps and not self._plan.steps[other].instead:
                    known |= self._facts_of(other)
            self._facts[step_id] = known
        return self._facts[step_id]

    def _list_of(self, where: str, step_id: str, step: Step) -> Iterator[str]:
        if alone(step.for_each) is None:
            yield f"{where}: for_each {step.for_each!r} must be one reference to a list, such as ${{request.names}}"
            return
        yield from self._references(f"{where}: for_each", step.for_each, step_id, each=False)
        schema = self._schema_of(step.for_each, step_id)
        types = types_of(schema)
        if types - {"array"}:
            yield f"{where}: for_each {step.for_each} is of type {' or '.join(sorted(types))}, not a list"

    def _call(self, where: str, step_id: str, way: Way) -> Iterator[str]:
        if not way.tool:
            return
        tool = self._tools.get(way.tool)
        if tool is None:
            yield f"{where} names tool {way.tool!r}, which the agent does not have; it has {instead_of(way.tool, sorted(self._tools))}"
            return
        faults = [
            fault
            for text in texts_in(way.arguments)
            for fault in self._references(f"{where}, {way.tool}", text, step_id)
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
                yield from self._fits(f"{where}, {way.tool}: argument {name}", value, schema, (name,), step_id)

    def _fits(self, where: str, value: Any, schema: Schema, path: Path, step_id: str) -> Iterator[str]:
        """Why what a value's references stand for can't be given there. What is written out is validated when it runs."""
        if isinstance(value, dict):
            for name, inner in cast("dict[str, Any]", value).items():
                yield from self._fits(f"{where}.{name}", inner, schema, (*path, name), step_id)
            return
        if isinstance(value, list):
            for number, inner in enumerate(cast("Iterable[Any]", value)):
                yield from self._fits(f"{where}[{number}]", inner, schema, (*path, number), step_id)
            return
        if not isinstance(value, str) or not REFERENCE.search(value):
            return
        given = self._schema_of(value, step_id) if alone(value) is not None else TEXT
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

    def _references(self, where: str, text: str, step_id: str, *, each: bool = True) -> Iterator[str]:
        """What is wrong with the references in a text of a step; `each` where the text is read once for each item of its list."""
        step = self._plan.steps.get(step_id)
        for found in REFERENCE.findall(text):
            try:
                reference = parse(found)
            except ValueError as error:
                yield f"{where}: {error}"
                continue
            if reference.root in ITEM_NAMES and not (each and step is not None and step.for_each):
                yield f"{where}: ${{{reference.text}}} stands for nothing without for_each"
                continue
            if reference.step and reference.step not in self._plan.steps:
                yield f"{where}: ${{{reference.text}}}: {reference.step!r} is no step"
                continue
            try:
                self._schema_behind(reference, step_id)
            except NoSuchPlace as error:
                yield f"{where}: ${{{reference.text}}} stands for nothing: {error}"

    def _schema_of(self, text: str, step_id: str) -> Schema | None:
        """The schema of what a text that is one reference stands for; None where that is not known."""
        only = alone(text)
        try:
            return None if only is None else self._schema_behind(parse(only), step_id)
        except (ValueError, NoSuchPlace):
            return None

    def _schema_behind(self, reference: Reference, step_id: str) -> Schema | None:
        facts = self._facts_of(step_id)
        match reference.root:
            case "request":
                return schema_at(apply(self._plan.request_schema, ("request",), facts), reference.path)
            case "index":
                return {"type": "integer"}
            case "item":
                step = self._plan.steps.get(step_id)
                items = self._schema_of(step.for_each, step_id) if step is not None else None
                return None if items is None else schema_at(items, (0, *reference.path))
            case _:
                schema = result_schema(self._plan, self._tools, reference.step, reference.path)
                if schema is None:
                    return None
                return schema_at(apply(schema, ("steps", reference.step, "result"), facts), reference.path)


def result_schema(plan: Plan, tools: Mapping[str, Tool], step_id: str, path: Path = ()) -> Schema | None:
    """The schema of a step's result; None where that is not known, as where there is more than one way to the same end.

    Raises:
        NoSuchPlace: One of the ways gives nothing at that path.
    """
    step = plan.steps[step_id]
    found: list[Schema] = []
    for one in [step, *([plan.steps[step.instead]] if step.instead in plan.steps else [])]:
        for way in one.ways:
            tool = tools.get(way.tool)
            if tool is None:
                return None
            schema = tool.result_adapter.json_schema()
            definitions = schema.pop("$defs", {})
            listed = {"type": "array", "items": schema} if one.for_each else schema
            found.append({**listed, "$defs": definitions} if definitions else listed)
            schema_at(found[-1], path)
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
