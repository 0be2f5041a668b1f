"""Judging a model's answer: which of its calls may be executed, and what follows from the rest."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from handfast.activities.budgets import Allowed
from handfast.activities.gate import Gate
from handfast.contracts.agent import Agent
from handfast.contracts.messages import ModelResponse, Usage
from handfast.contracts.policy import Policy, Provenance
from handfast.contracts.stop_reasons import StopRule, stop_rule
from handfast.contracts.storage import JsonAdapter
from handfast.contracts.texts import message_of
from handfast.contracts.tool import Tool
from handfast.contracts.wire import TurnInput, TurnResult
from handfast.ledger import AskedCall, NewTurn, TurnContext
from handfast.llm.arguments import ArgumentFault, usable
from handfast.llm.pricing import cost_usd

MAX_CALLS = 1000
"""Tool calls in one turn. Their heads travel in one payload, which Temporal refuses above 2 MB."""
MISFIT = "(from the engine) Your answer does not fit the required JSON schema: {faults}. Give the whole answer again."
FENCED = re.compile(r"\s*```(?:json)?[ \t]*\r?\n(.*)\n[ \t]*```\s*", re.DOTALL | re.IGNORECASE)
"""A whole answer inside the fence of a Markdown code block, as models write JSON that they are asked for in words."""
NO_CALLS_NOW = "this run was asked for its final answer; no more calls are possible"
NO_CALL = StopRule(
    note="(from the engine) You stopped to call a tool, but no call arrived. Call it again, or give your final answer.",
    failure="the model stopped to call a tool twice in a row, and called none",
)
UNREADABLE = StopRule(
    note="(from the engine) None of your calls could be read: give the arguments of each as one JSON object, or answer.",
    failure="the arguments of all its calls were no JSON object, twice in a row",
)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What an answer is judged by."""

    agent: Agent
    tools: Mapping[str, Tool]
    context: TurnContext
    turn: TurnInput
    heard: tuple[str, ...]
    """What was said to the model right before."""
    policies: Sequence[Policy]
    policy: int
    """The version of the installation's policy."""
    provenance: Provenance
    allowed: Allowed
    final: bool
    """The model was asked for its final answer, and may call nothing."""

    def settlement(self, response: ModelResponse, *, work_ms: int) -> NewTurn:
        """The turn, ready to be settled."""
        asked = response.message.calls
        rule = _rule(response)
        failed = self._failure(rule, len(asked))
        calls = () if len(asked) > MAX_CALLS else self._calls(rule, response)
        note, output = (rule.note, None)
        if rule.completes and not asked:
            note, output = _reading(self.agent, response)
        elif asked and not rule.failure:
            # The results say of each call why it was not executed.
            note = ""
        usage = response.usage or Usage()
        result = TurnResult(
            heads=tuple(one.head for one in calls),
            answered=rule.completes and not (asked or note),
            refused=rule.refused,
            full=rule.full,
            failed=failed,
            calls=len(calls),
            tokens=usage.total,
            cost_usd=float(round(cost_usd(self.agent, usage), 6)),
            jobs=self.turn.jobs,
            branch=self.context.run.branch,
            budget=self.allowed.near,
        )
        return NewTurn(
            turn=self.turn.turn,
            heard=self.heard,
            message=response.message,
            calls=calls,
            result=result,
            meta={
                "model": response.model,
                "stop": response.stop_reason,
                "usage": usage.model_dump(),
                "request_id": response.request_id,
            },
            note=note,
            output=output,
            branches=self.context.run.branches,
            labels=self.provenance.labels,
            policy=self.policy,
            budgets=self.allowed.keys,
            holder=self.allowed.holder,
            work_ms=work_ms,
            paid=self.context.stored is not None,
        )

    def _failure(self, rule: StopRule, asked: int) -> str:
        """Why the run fails with this answer; empty if it does not."""
        if asked > MAX_CALLS:
            return f"the model asked for {asked} tool calls in one turn; allowed are {MAX_CALLS}. None was executed"
        return rule.failure if rule.failure and rule.note in self.heard else ""

    def _calls(self, rule: StopRule, response: ModelResponse) -> tuple[AskedCall, ...]:
        gate = Gate(
            self.agent,
            self.tools,
            self.context.run,
            self.context.intents,
            closed=rule.denial or (NO_CALLS_NOW if self.final else ""),
            policies=self.policies,
            orphans=self.context.orphans,
            counts=self.context.counts,
            provenance=self.provenance,
        )
        return tuple(gate.judge(call) for call in response.message.calls)


def _rule(response: ModelResponse) -> StopRule:
    rule, calls = stop_rule(response.stop_reason), response.message.calls
    if rule.completes and calls and all(call.fault for call in calls):
        return UNREADABLE
    return NO_CALL if response.stop_reason == "tool_use" and not calls else rule


def _reading(agent: Agent, response: ModelResponse) -> tuple[str, Any]:
    """What the model is told if its words are no answer yet, and the answer as data if its type is declared."""
    if agent.output is None:
        return "", None
    text = response.message.text
    if fenced := FENCED.fullmatch(text):
        text = fenced[1]
    try:
        answer = JsonAdapter(agent.output).store(agent.output.model_validate_json(text))
        return "", usable({"answer": answer})["answer"]
    except ValidationError as error:
        faults = json.loads(error.json(include_url=False, include_context=False, include_input=False))
        told = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'answer'}: {fault['msg']}" for fault in faults)
        return MISFIT.format(faults=told), None
    except ArgumentFault as fault:
        return MISFIT.format(faults=f"its values: {fault}"), None
    except Exception as error:  # noqa: BLE001 - a validator may raise anything, and the answer is paid for
        return MISFIT.format(faults=f"its check failed with {type(error).__name__}: {message_of(error)[:300]}"), None
