"""The gate: what may happen to each call a model asks for. Asked when a turn is settled, and again before the effect."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from handfast.contracts.agent import Agent
from handfast.contracts.arguments import Arguments, parse_arguments, same_request
from handfast.contracts.effects import Effect, Verdict
from handfast.contracts.errors import ErrorCode
from handfast.contracts.field_paths import picked
from handfast.contracts.identity import canonical_json, digest, operation_id
from handfast.contracts.messages import ToolCall
from handfast.contracts.names import AGENT_RUN, PLAN_RUN, WAIT_FOR_MESSAGE
from handfast.contracts.policy import Caller, Permit, Policy, Provenance, permit
from handfast.contracts.tool import Tool
from handfast.contracts.versions import version_numbers
from handfast.contracts.wire import ChildKind, Head
from handfast.ledger import AskedCall, Orphan, RunRow
from handfast.ledger.undone import PIVOT, RUN
from handfast.tools.hiding import without_secrets

UNKNOWN = "unknown_tool"
"""In Temporal, the name of every tool that the model has made up."""


def intent_of(tool: Tool, arguments: Mapping[str, Any]) -> str:
    """What two calls of one run share when they mean the same; empty where the contract names no such fields."""
    if not tool.same_intent:
        return ""
    return digest(tool.name, tool.major, picked(arguments, tool.fields.same_intent))


class Gate:
    """Judges the calls of one answer, in order."""

    def __init__(
        self,
        agent: Agent,
        tools: Mapping[str, Tool],
        run: RunRow,
        intents: set[str],
        *,
        closed: str,
        policies: Sequence[Policy] = (),
        orphans: Sequence[Orphan] = (),
        counts: Mapping[str, int] | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        self._agent = agent
        self._tools = tools
        self._run = run
        self._intents = set(intents)
        self._closed = closed
        self._policies = (*policies, agent.policy)
        self._provenance = provenance
        self._caller = Caller(
            agent=agent.name,
            user=run.user,
            tenant=run.tenant,
            run=run.run_id,
            called_from=run.called_from,
            untrusted=provenance is not None and bool(provenance.labels.untrusted),
        )
        self._orphans = list(orphans)
        self._counts = Counter(counts or {})
        """How often each tool was called in the run, as far as that is limited."""
        self._asked = 0

    def judge(self, call: ToolCall) -> AskedCall:
        """What becomes of the next call."""
        self._asked += 1
        counter = self._run.calls + self._asked
        identity = operation_id(self._run.chain_id, counter)
        tool = self._tools.get(call.tool)
        error = self._objection(call, tool, counter)
        if error is not None or tool is None:
            return self._denied(call, tool, identity, {**(error or {}), "operation": identity})
        checked = parse_arguments(tool, call.arguments)
        if isinstance(checked, dict):
            return self._denied(call, tool, identity, {**invalid_arguments(tool, checked), "operation": identity})
        orphan = self._orphan(tool, checked)
        given = permit(self._policies, self._agent.hooks, tool, checked, self._caller, provenance=self._provenance)
        if given.verdict is Verdict.DENY and not orphan:
            return self._denied(call, tool, identity, denied_by(given, tool, identity), given.told)
        arguments = checked if given.changed is None or orphan else given.changed
        return self._asked_for(tool, call, arguments, orphan or identity, given, taken_over=bool(orphan))

    def _asked_for(
        self, tool: Tool, call: ToolCall, arguments: Arguments, identity: str, given: Permit, *, taken_over: bool
    ) -> AskedCall:
        stored = arguments.stored
        intent = intent_of(tool, arguments.alike)
        verdict, reason, why = (Verdict.RUN, "", "") if taken_over else self._verdict(tool, intent, given)
        if intent:
            self._intents.add(intent)
        head = Head(
            id=identity,
            tool=tool.name,
            digest=tool.digest(stored),
            show=tool.preview(stored, without_secrets),
            verdict=verdict,
            reason=reason,
            effect=tool.effect,
            lane=tool.lane,
            queue=tool.queue or "",
            timeout=_seconds(tool, stored),
            conflict=_conflict(tool, arguments.alike),
            pivot=tool.pivot,
            stoppable=_stoppable(tool),
            child=_kind(tool),
            hand_off=tool.child is not None and tool.child.hand_off,
        )
        return AskedCall(
            head=head,
            call_id=call.id,
            version=tool.version,
            tier=tool.tier,
            intent=intent,
            undo=_undo_of(tool),
            rule="" if taken_over else why or given.told,
            arguments=None if canonical_json(stored) == canonical_json(call.arguments) else arguments,
            changed=given.changed is not None and not taken_over,
            origins=given.origins,
            taken_over=taken_over,
        )

    def _orphan(self, tool: Tool, arguments: Arguments) -> str:
        """The operation of a branch left behind that did the same: it is done, and not done again. Each is taken once."""
        for orphan in self._orphans:
            if serves(tool, orphan.tool, orphan.version) and same_request(arguments, orphan.arguments):
                self._orphans.remove(orphan)
                return orphan.operation_id
        return ""

    def _objection(self, call: ToolCall, tool: Tool | None, counter: int) -> dict[str, Any] | None:
        if self._closed:
            return {"code": ErrorCode.LIMIT_REACHED, "message": self._closed, "hint": "answer with what you have"}
        if call.fault:
            return {
                "code": ErrorCode.INVALID_ARGUMENTS,
                "message": f"the arguments of {call.tool} can't be read, so it was not executed: {call.fault}",
                "hint": "call it again with one whole JSON object as its arguments",
            }
        if tool is None:
            names = ", ".join(sorted(self._tools)) or "none"
            return {
                "code": ErrorCode.UNKNOWN_TOOL,
                "message": f"no tool is named {call.tool!r}",
                "hint": f"tools: {names}",
            }
        limits = self._run.limits or self._agent.limits
        if counter + self._run.calls_below > limits.calls:
            message = f"this run may make {limits.calls} tool calls, and they are used up"
            return {"code": ErrorCode.LIMIT_REACHED, "message": message, "hint": "answer with what you have"}
        self._counts[tool.name] += 1
        if tool.most is not None and self._counts[tool.name] > tool.most:
            message = f"one run may call {tool.name} {tool.most} times, and has"
            return {"code": ErrorCode.LIMIT_REACHED, "message": message, "hint": "go on without it"}
        return None

    def _verdict(self, tool: Tool, intent: str, given: Permit) -> tuple[Verdict, str, str]:
        """What becomes of it, because of which rule, and why in words, which Temporal does not get."""
        if intent and intent in self._intents:
            fields = ", ".join(tool.same_intent)
            why = f"{ErrorCode.DUPLICATE_SUSPECTED}: an earlier call of this run has the same {fields}"
            return Verdict.ASK, ErrorCode.DUPLICATE_SUSPECTED, why
        return (Verdict.RUN, "", "") if given.verdict is Verdict.RUN else (Verdict.ASK, given.rule, given.told)

    def _denied(
        self, call: ToolCall, tool: Tool | None, identity: str, error: dict[str, Any], rule: str = ""
    ) -> AskedCall:
        bound = tool.digest(call.arguments) if tool else digest(call.tool, 0, call.arguments)
        name = tool.name if tool else UNKNOWN
        head = Head(id=identity, tool=name, digest=bound, verdict=Verdict.DENY, reason=str(error["code"]))
        version, tier = (tool.version, tool.tier) if tool else ("", None)
        named = "" if tool else call.tool[:64]
        return AskedCall(head=head, call_id=call.id, version=version, tier=tier, error=error, rule=rule, named=named)


def serves(tool: Tool, name: str, version: str) -> bool:
    """Whether a contract is of the same tool and major version as a call."""
    return tool.name == name and tool.major == version_numbers(version or "0.0.0")[0]


def denied_by(given: Permit, tool: Tool, identity: str) -> dict[str, Any]:
    """What the model is told about a call that the policy refuses, or that a hook leaves out."""
    skipped = given.action == "skip"
    why = given.reason or given.rule
    return {
        "code": ErrorCode.DENIED,
        "message": f"{tool.name} was left out: {why}" if skipped else f"this call of {tool.name} is not allowed: {why}",
        "hint": "go on without it" if skipped else "do not ask for it again; go on without it, or tell the user",
        "operation": identity,
    }


def invalid_arguments(tool: Tool, fields: dict[str, str]) -> dict[str, Any]:
    """What the model is told about arguments that don't fit."""
    example = f"; a valid call: {canonical_json(tool.examples[0])}" if tool.examples else ""
    return {
        "code": ErrorCode.INVALID_ARGUMENTS,
        "message": f"the arguments of {tool.name} don't fit its schema; it was not executed",
        "hint": f"correct the fields and call again{example}",
        "fields": fields,
    }


def _seconds(tool: Tool, arguments: Mapping[str, Any]) -> float:
    """How long one attempt may take; of a wait, how long the workflow waits."""
    if tool.name == WAIT_FOR_MESSAGE and tool.builtin:
        return float(arguments.get("seconds", 60.0))
    return tool.timeout.total_seconds()


def _stoppable(tool: Tool) -> bool:
    """Whether a call that is stopped halfway leaves no doubt that nobody could clear up."""
    safe = tool.compensate is not None and tool.compensate.safe_if_absent
    return tool.reconcile is not None or safe or tool.child is not None


def _kind(tool: Tool) -> ChildKind:
    """The workflow that carries a call out, if it is a run of its own."""
    if tool.child is None:
        return ""
    return PLAN_RUN if tool.child.plan is not None or tool.child.planned else AGENT_RUN


def _undo_of(tool: Tool) -> str:
    """What the ledger must know to undo a call."""
    if tool.child is not None:
        return "" if tool.effect is Effect.READ else RUN
    return PIVOT if tool.pivot else tool.undo or ""


def _conflict(tool: Tool, arguments: Mapping[str, Any]) -> str:
    if not tool.conflict:
        return ""
    return digest(tool.scope, 0, [*picked(arguments, tool.fields.conflict).values()])[:8]
