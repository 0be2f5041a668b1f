"""The calls that one turn of a plan asks for: its steps, given what they need, and judged like what a model asks for."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from handfast.activities.gate import Gate, serves
from handfast.activities.plans import Planned
from handfast.contracts.agent import Agent
from handfast.contracts.arguments import StoredArguments, same_request
from handfast.contracts.conditions import BudgetExceeded, ConditionFailed
from handfast.contracts.effects import Effect, Verdict
from handfast.contracts.messages import Message, Text, ToolCall
from handfast.contracts.plan import Step
from handfast.contracts.plan_check import result_schema
from handfast.contracts.plan_steps import PlanTurnInput, StepAsk, StepAsked
from handfast.contracts.policy import Policy, Provenance
from handfast.contracts.references import Reference, Unbound, fill_in, follow
from handfast.contracts.schema_paths import declared
from handfast.contracts.wire import TurnResult
from handfast.ledger import AskedCall, NewTurn, PlanContext, StepResults
from handfast.ledger.plans import KEPT, call_id


@dataclass
class PlanCalls:
    """The steps of one turn, as they are given what they need."""

    agent: Agent
    planned: Planned
    context: PlanContext
    policies: Sequence[Policy]
    provenance: Provenance
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    asked: list[AskedCall] = field(default_factory=list[AskedCall])
    notes: list[str] = field(default_factory=list[str])
    decided: dict[str, bool | ConditionFailed] = field(default_factory=dict[str, "bool | ConditionFailed"])
    """By step that begins: what its condition is, or why it can't be decided."""

    def __post_init__(self) -> None:
        self.known = self.planned.of(self.agent)
        self.plan, self.request = self.known.plan, self.planned.request
        self.gate = Gate(
            self.agent,
            self.known.tools,
            self.context.run,
            self.context.intents,
            closed="",
            policies=self.policies,
            provenance=self.provenance,
        )
        self.done = list(self.context.done)

    async def decide(self, turn: PlanTurnInput, holds: Callable[[str, Mapping[str, Any]], Awaitable[bool]]) -> None:
        """Find out which of the steps that begin with a turn are skipped; before `settlement`."""
        exceeded: BudgetExceeded | None = None
        for ask in turn.asks:
            step = self.plan.steps[ask.step]
            if not _begins(ask) or not step.when:
                continue
            if exceeded is not None:
                # One budget for the turn: a plan of hundreds of such conditions would use up the time of its activity.
                self.decided[ask.step] = exceeded
                continue
            try:
                self.decided[ask.step] = await holds(step.when, self._speaks_of(step))
            except ConditionFailed as error:
                self.decided[ask.step] = error
                exceeded = error if isinstance(error, BudgetExceeded) else None

    def settlement(self, turn: PlanTurnInput) -> NewTurn:
        """The turn, ready to be settled."""
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
        step = self.plan.steps[ask.step]
        asked = StepAsked(step=ask.step, first=ask.first, count=ask.count, retry=ask.retry)
        try:
            if _begins(ask) and step.when and not self._is_wanted(ask.step):
                self.notes.append(f"step {ask.step} is skipped: {step.when}")
                return asked.model_copy(update={"skipped": True})
            items = self._items(step)
            before = len(self.asked)
            last = len(items) if step.for_each else 1
            for place in range(ask.first, min(ask.first + ask.count, last)):
                self._call(ask, place, items[place] if step.for_each else None)
        except _NoResult as error:
            self.notes.append(f"step {ask.step} is skipped: {error}")
            return asked.model_copy(update={"skipped": True})
        except (ConditionFailed, Unbound) as error:
            self.notes.append(f"step {ask.step} can't be asked for: {error}")
            return asked.model_copy(update={"fault": "it can't be asked for"})
        return asked.model_copy(update={"heads": len(self.asked) - before, "total": last})

    def _is_wanted(self, step_id: str) -> bool:
        found = self.decided[step_id]
        if isinstance(found, ConditionFailed):
            raise found
        return found

    def _call(self, ask: StepAsk, place: int, item: Any) -> None:
        """One call for each way of a step. What can't be bound is found before any of them is judged."""
        ways = self.known.ways[ask.step]
        filled = [fill_in(way.arguments, lambda reference: self._value(reference, item, place)) for way in ways]
        for number, (way, arguments) in enumerate(zip(ways, filled, strict=True)):
            identity = call_id(ask.step, place, number, ask.retry)
            call = ToolCall(id=identity, tool=way.tool, arguments=arguments)
            self.calls.append(call)
            self.asked.append(self._kept(call, self.gate.judge(call)))

    def _kept(self, call: ToolCall, asked: AskedCall) -> AskedCall:
        """The call with the result of the one of an earlier plan that was the same, if there is one left: each is taken once."""
        tool, wanted = self.known.tools.get(call.tool), asked.arguments or StoredArguments(call.arguments)
        if tool is None or asked.error is not None:
            return asked
        same = (one for one in self.done if serves(tool, one.tool, one.version))
        done = next((one for one in same if same_request(wanted, one.arguments)), None)
        if done is None:
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
        return {"request": declared(self.request, self.plan.request_schema), "steps": steps}

    def _state_of(self, step_id: str) -> dict[str, Any]:
        found = self.context.results.get(step_id, StepResults())
        try:
            schema = result_schema(self.plan, self.known.tools, step_id)
            result = self._result_of(step_id)
            return {"status": "succeeded", "result": result if schema is None else declared(result, schema)}
        except _NoResult:
            return {"status": "failed" if found.asked else "skipped", "result": None}

    def _output(self) -> Any:
        def look_up(reference: Reference) -> Any:
            try:
                return self._value(reference, None, 0)
            except (Unbound, _NoResult):
                return None

        return fill_in(self.plan.output, look_up)


def _begins(ask: StepAsk) -> bool:
    return ask.first == 0 and ask.retry == 0


class _NoResult(Exception):
    """A step was skipped, or has failed and the plan went on."""
