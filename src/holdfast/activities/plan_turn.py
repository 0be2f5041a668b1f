"""One turn of a plan: what its steps are given, judged and settled as what a model asks for would be."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import structlog
from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from holdfast.activities.boundary import Boundary, run_id_of_this_activity
from holdfast.activities.gate import Gate
from holdfast.activities.open_run import close_run, open_run
from holdfast.activities.patience import patiently
from holdfast.activities.plans import Planned
from holdfast.activities.sources import provenance_for
from holdfast.contracts.agent import Agent
from holdfast.contracts.board import Board
from holdfast.contracts.conditions import ConditionFailed, holds
from holdfast.contracts.effects import Effect, Outcome, RunStatus, Verdict
from holdfast.contracts.errors import ErrorCode, LedgerConflict, RunNotFound
from holdfast.contracts.messages import Message, Text, ToolCall
from holdfast.contracts.plan import GO_ON, Plan, Step, require_request
from holdfast.contracts.plan_check import plan_faults, with_tools
from holdfast.contracts.plan_steps import PlanStep, PlanTurnInput, StepAsk, StepAsked
from holdfast.contracts.policy import Policy, Provenance
from holdfast.contracts.provenance import untrusted_of
from holdfast.contracts.references import Reference, Unbound, fill_in, follow, steps_in
from holdfast.contracts.wire import CallResult, CloseInput, OpenedPlan, OpenInput, TurnResult
from holdfast.ledger import AskedCall, NewTurn, PlanContext, RunRow, StepResults
from holdfast.ledger.plans import KEPT, AskedPlan, call_id

log = structlog.get_logger()


async def open_plan(boundary: Boundary, given: OpenInput) -> OpenedPlan:
    """Open a run that carries out a plan, once the plan was checked against the tools of the agent in whose name it is."""
    run_id = run_id_of_this_activity()
    opened = await open_run(boundary, given, plan=given.request.text)
    agent = boundary.registry.agents[given.request.agent]
    tools = {tool.name: tool for tool in agent.tools}
    try:
        asked = await patiently(lambda: boundary.ledger.read_plan(run_id))
        plan, faults = boundary.plans.check(
            asked.plan, f"{agent.name} {asked.keeps}", lambda plan: plan_faults(plan, tools, undone=not asked.keeps)
        )
        planned = Planned(plan=plan, request=asked.request, keeps=asked.keeps)
        require_request(plan, planned.request)
    except (LedgerConflict, ValidationError, ValueError) as error:
        raise ApplicationError(str(error), type=ErrorCode.NOT_EXECUTED, non_retryable=True) from error
    if faults:
        message = f"plan {plan.name!r} has {len(faults)} fault(s), and nothing was done: {'; '.join(faults)}"
        raise ApplicationError(message[:2000], type=ErrorCode.NOT_EXECUTED, non_retryable=True)
    boundary.plans.put(run_id, planned)
    opened = opened.model_copy(update={"closes": True})
    if planned.keeps:
        opened = opened.model_copy(update={"undo_on": (), "keeps": True})
    owners = plan.owners
    steps = tuple(_seen(plan, name, owners.get(name, "")) for name in plan.steps)
    first = await _on_the_way(boundary, PlanTurnInput(turn=1, asks=Board(steps).ready()))
    return OpenedPlan(opened=opened, steps=steps, first=first)


def _read(asked: AskedPlan) -> Planned:
    return Planned(plan=Plan.model_validate(asked.plan), request=asked.request, keeps=asked.keeps)


def _seen(plan: Plan, step_id: str, owner: str) -> PlanStep:
    """What the workflow sees of a step."""
    step = plan.steps[step_id]
    any_of = step.depends_on if step.join == "any" else ()
    return PlanStep(
        id=step_id,
        after=tuple(sorted(step.after - set(any_of))),
        any_of=any_of,
        each=bool(step.for_each),
        parallel=step.parallel if step.for_each else 1,
        ways=len(step.ways),
        retries=step.retries,
        go_on=step.on_failure == GO_ON,
        instead=step.instead,
        owner=owner,
    )


async def plan_turn(boundary: Boundary, turn: PlanTurnInput) -> TurnResult:
    """Settle the calls of the steps that are ready; without any, what the plan returns. A settled turn returns what it settled.

    One that `closes` closes the run, too, if it says what the plan returns.
    """
    run_id, execution = run_id_of_this_activity(), activity.info().workflow_run_id or ""
    try:
        planned = await _planned(boundary, run_id)
        context = await _context(boundary, run_id, execution, turn, planned)
    except (LedgerConflict, RunNotFound) as error:
        raise ApplicationError(str(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error
    agent = boundary.registry.agents.get(context.run.agent)
    if agent is None:
        message = f"this worker does not serve agent {context.run.agent!r}: another one must take the turn"
        raise ApplicationError(message, type=ErrorCode.AGENT_UNKNOWN)
    provenance = await _provenance(boundary, agent, planned.plan, context.run, turn)
    policies, version = await boundary.permission.policies(), boundary.permission.version
    new = replace(_Turn(agent, planned, context, policies, provenance).settlement(turn), policy=version)
    try:
        # A turn that was settled before stands: what was made of it here is dropped.
        result, mine = await patiently(lambda: boundary.ledger.settle_turn(run_id, new))
    except LedgerConflict as error:
        raise ApplicationError(str(error), type=ErrorCode.UNAVAILABLE) from error
    if mine and turn.closes is None:
        boundary.transcripts.put(context.run, execution, new, (new.message,), telling=None)
    if turn.closes is None or not result.answered:
        return result
    closed = await close_run(boundary, CloseInput(status=RunStatus.COMPLETED, work_seconds=turn.closes))
    return result.model_copy(update={"closed": closed})


async def _provenance(boundary: Boundary, agent: Agent, plan: Plan, run: RunRow, turn: PlanTurnInput) -> Provenance:
    """What the calls of the turn are held against. No model reads the results, but they may pick what later steps aim at."""
    tools = {tool.name: tool for tool in agent.tools}
    plan, _ = with_tools(plan, tools)
    used = [tools[way.tool] for _, _, way in plan.calls() if way.tool in tools]
    labels = run.labels
    if any(untrusted_of(tool) or tool.sensitive or tool.child for tool in used):
        labels |= await patiently(lambda: boundary.ledger.read_labels(run.run_id))
    asked = [way.tool for ask in turn.asks for way in plan.steps[ask.step].ways]
    return await provenance_for(boundary, run.run_id, agent, tools, labels, asked)


async def _planned(boundary: Boundary, run_id: str) -> Planned:
    """The plan of a run, which never changes."""
    kept = boundary.plans.get(run_id)
    if kept is None:
        kept = _read(await patiently(lambda: boundary.ledger.read_plan(run_id)))
        boundary.plans.put(run_id, kept)
    return kept


async def _context(
    boundary: Boundary, run_id: str, execution: str, turn: PlanTurnInput, planned: Planned
) -> PlanContext:
    """What the turn needs of the ledger: nothing, where this process has settled the one before and no result is referred to."""
    plan = planned.plan
    steps = [plan.steps[ask.step] for ask in turn.asks]
    needed = frozenset[str]().union(*(step.refers_to for step in steps)) if steps else steps_in(plan.output)
    needed |= {plan.steps[one].instead for one in needed if plan.steps[one].instead}
    intents = any(tool.same_intent for versions in boundary.registry.tools.values() for tool in versions)
    kept = boundary.transcripts.get(run_id, turn.turn, execution)
    if kept is not None and not needed and not intents and not planned.keeps:
        return PlanContext(run=kept.run, results={}, intents=set())
    return await patiently(
        lambda: boundary.ledger.read_plan_context(run_id, needed, intents=intents, keeps=planned.keeps)
    )


async def and_then(boundary: Boundary, turn: PlanTurnInput, result: CallResult) -> CallResult:
    """Settle the turn that follows a call, if it has succeeded; where that fails, the workflow does it."""
    if result.outcome is not Outcome.SUCCEEDED or result.pending or result.waiting:
        return result
    return result.model_copy(update={"next": await _on_the_way(boundary, turn)})


async def _on_the_way(boundary: Boundary, turn: PlanTurnInput) -> TurnResult | None:
    """Settle a turn in the activity before it; None where that fails."""
    try:
        return await plan_turn(boundary, turn)
    except ApplicationError as error:
        log.warning("a turn was not settled on the way", turn=turn.turn, error=error.message)
        return None


@dataclass
class _Turn:
    """The steps of one turn, as they are given what they need."""

    agent: Agent
    planned: Planned
    context: PlanContext
    policies: Sequence[Policy]
    provenance: Provenance
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    asked: list[AskedCall] = field(default_factory=list[AskedCall])
    notes: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.tools = {tool.name: tool for tool in self.agent.tools}
        self.plan, _ = with_tools(self.planned.plan, self.tools)
        self.request = self.planned.request
        self.gate = Gate(
            self.agent,
            self.tools,
            self.context.run,
            self.context.intents,
            closed="",
            policies=self.policies,
            provenance=self.provenance,
        )
        self.done = list(self.context.done)

    def settlement(self, turn: PlanTurnInput) -> NewTurn:
        told = tuple(self._ask(ask) for ask in turn.asks)
        output = None if turn.asks else self._output()
        words = () if turn.asks else (Text(text=output if isinstance(output, str) else json.dumps(output)),)
        result = TurnResult(
            heads=tuple(asked.head for asked in self.asked),
            answered=not turn.asks,
            calls=len(self.asked),
            branch=self.context.run.branch,
            asked=told,
        )
        return NewTurn(
            turn=turn.turn,
            heard=tuple(self.notes),
            message=Message(role="assistant", parts=(*words, *self.calls)),
            calls=tuple(self.asked),
            result=result,
            meta={"plan": self.plan.name},
            output=output,
            branches=self.context.run.branches,
            labels=self.provenance.labels,
        )

    def _ask(self, ask: StepAsk) -> StepAsked:
        step, begins = self.plan.steps[ask.step], ask.first == 0 and ask.retry == 0
        asked = StepAsked(step=ask.step, first=ask.first, count=ask.count, retry=ask.retry)
        try:
            if begins and step.when and not holds(step.when, self._speaks_of(step)):
                self.notes.append(f"step {ask.step} is skipped: {step.when}")
                return asked.model_copy(update={"skipped": True})
            items = self._items(step)
            before = len(self.asked)
            last = len(items) if step.for_each else 1
            for place in range(ask.first, min(ask.first + ask.count, last)):
                self._call(ask, step, place, items[place] if step.for_each else None)
        except _NoResult as error:
            self.notes.append(f"step {ask.step} is skipped: {error}")
            return asked.model_copy(update={"skipped": True})
        except (ConditionFailed, Unbound) as error:
            self.notes.append(f"step {ask.step} can't be asked for: {error}")
            return asked.model_copy(update={"fault": str(error)[:300]})
        return asked.model_copy(update={"heads": len(self.asked) - before, "total": last})

    def _call(self, ask: StepAsk, step: Step, place: int, item: Any) -> None:
        """One call for each way of a step. What can't be bound is found before any of them is judged."""
        ways = [fill_in(way.arguments, lambda reference: self._value(reference, item, place)) for way in step.ways]
        for number, (way, arguments) in enumerate(zip(step.ways, ways, strict=True)):
            identity = call_id(ask.step, place, number, ask.retry)
            call = ToolCall(id=identity, tool=way.tool, arguments=arguments)
            self.calls.append(call)
            self.asked.append(self._kept(self.gate.judge(call)))

    def _kept(self, asked: AskedCall) -> AskedCall:
        """The call with the result of the one of an earlier plan that was the same, if there is one left: each is taken once."""
        wanted = (asked.head.tool, asked.head.digest)
        done = next((one for one in self.done if (one.tool, one.digest) == wanted), None)
        if done is None or asked.error is not None:
            return asked
        self.done.remove(done)
        reason = f"{KEPT}{done.operation_id}"
        update = {"verdict": Verdict.KEPT, "effect": Effect.READ, "reason": reason, "child": ""}
        head = asked.head.model_copy(update=update)
        return replace(asked, head=head, undo="", intent="", kept=(done.result,))

    def _items(self, step: Step) -> list[Any]:
        if not step.for_each:
            return []
        found = fill_in(step.for_each, lambda reference: self._value(reference, None, 0))
        if not isinstance(found, list):
            msg = f"for_each {step.for_each} is {type(found).__name__}, not a list"
            raise Unbound(msg)
        return [*cast("Iterable[Any]", found)]

    def _value(self, reference: Reference, item: Any, place: int) -> Any:
        match reference.root:
            case "request":
                return follow(self.request, reference)
            case "item":
                return follow(item, reference)
            case "index":
                return place
            case _:
                return follow(self._result_of(reference.step), reference)

    def _result_of(self, step_id: str) -> Any:
        """The result of a step, or of the one that was taken instead.

        Raises:
            _NoResult: It has none.
        """
        step, found = self.plan.steps[step_id], self.context.results.get(step_id, StepResults())
        if step.instead and not found.succeeded:
            return self._result_of(step.instead)
        if step.for_each and found.asked:
            count = max(found.succeeded, default=-1) + 1
            return [found.succeeded.get(place) for place in range(max(count, found.places))]
        if 0 not in found.succeeded:
            msg = f"step {step_id} has no result"
            raise _NoResult(msg)
        return found.succeeded[0]

    def _speaks_of(self, step: Step) -> Mapping[str, Any]:
        """What a condition is decided by."""
        steps = {name: self._state_of(name) for name in step.mentions}
        return {"request": self.request, "steps": steps}

    def _state_of(self, step_id: str) -> dict[str, Any]:
        found = self.context.results.get(step_id, StepResults())
        try:
            return {"status": "succeeded", "result": self._result_of(step_id)}
        except _NoResult:
            return {"status": "failed" if found.asked else "skipped", "result": None}

    def _output(self) -> Any:
        def look_up(reference: Reference) -> Any:
            try:
                return self._value(reference, None, 0)
            except (Unbound, _NoResult):
                return None

        return fill_in(self.plan.output, look_up)


class _NoResult(Exception):
    """A step was skipped, or has failed and the plan went on."""
