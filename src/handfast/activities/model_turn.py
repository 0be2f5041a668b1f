"""One turn: read the transcript, ask the model, judge the calls it asks for, settle all of it at once."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from handfast.activities.boundary import Boundary, run_id_of_this_activity
from handfast.activities.budgets import Allowed, allow, let_go
from handfast.activities.gate import Gate
from handfast.activities.heartbeat import beating
from handfast.activities.patience import patiently
from handfast.activities.peers import send_message, wait_for_message
from handfast.activities.read_result import read_result
from handfast.activities.savepoints import roll_back, savepoint
from handfast.activities.sources import brought_by, provenance_for
from handfast.activities.transcripts import (
    Kept,
    TellingOf,
    characters_of,
    conversation,
    ended_job,
    heard_message,
    telling_of,
    told_part,
)
from handfast.contracts.agent import Agent
from handfast.contracts.errors import ErrorCode, LedgerConflict, ModelError, RunNotFound
from handfast.contracts.messages import Message, ModelRequest, ModelResponse, ToolCall
from handfast.contracts.names import CARRY_OUT, READ_RESULT, ROLL_BACK, SAVEPOINT, SEND_MESSAGE, WAIT_FOR_MESSAGE
from handfast.contracts.policy import Policy, Provenance
from handfast.contracts.provenance import CLEAN, UNSIGNED, Labels
from handfast.contracts.registry import Registry
from handfast.contracts.storage import JsonAdapter
from handfast.contracts.tool import Tool
from handfast.contracts.versions import version_numbers
from handfast.contracts.wire import TurnInput, TurnResult
from handfast.ledger import Heard, NewTurn, RunRow, TurnContext
from handfast.llm.pricing import cost_usd
from handfast.llm.script import CHARACTERS_PER_TOKEN
from handfast.telemetry import chat_span, record_response

MOST_BUGS = 3
"""How often a model may raise something that is no `ModelError` before the run fails with it."""
RESET_SOON = timedelta(seconds=1)
"""How long an execution that is about to be ended waits with its next attempt."""
MOST_CALLS = 1000
"""Tool calls in one turn. Their heads travel in one payload, which Temporal refuses above 2 MB."""
CUT_OFF = "Your last reply was cut off at max_tokens. Go on from where it ended, more briefly."
CALLS_CUT_OFF = "your reply was cut off at max_tokens, so its calls may be incomplete and none was executed"
ANSWER_NOW = (
    "(from the engine) This run has nearly used up its limit of {limit}. "
    "Give your final answer now from what you have, and say what is left undone. You can't call tools any more."
)
MISFIT = "(from the engine) Your answer does not fit the required JSON schema: {faults}. Give the whole answer again."
NO_CALLS_NOW = "this run was asked for its final answer; no more calls are possible"
log = structlog.get_logger()


async def model_turn(boundary: Boundary, turn: TurnInput) -> TurnResult:
    """Ask the model once, and settle its answer. A settled turn returns what it settled and asks nobody."""
    run_id = run_id_of_this_activity()
    with beating():
        execution = activity.info().workflow_run_id or ""
        kept = None if turn.undone else boundary.transcripts.get(run_id, turn.turn, execution)
        await _judge_said(boundary, run_id, turn)
        context = await _context(boundary, run_id, turn, kept)
        if context.settled is not None:
            return context.settled
        _require_branch(context.run, turn)
        agent = _pinned(_agent_of(boundary, context), context.run.model)
        tools = tools_of(agent, boundary.registry, context.run.contracts)
        labels = _labels(context, kept)
        heard = _heard(turn, context, kept, _telling(tools))
        messages = _messages(context, kept, heard, tools)
        allowed = await allow(boundary, agent, context.run, turn.turn, messages, seconds=turn.left)
        if allowed.exhausted:
            return _without_budget(context, turn, allowed.exhausted)
        answer_now = turn.answer_now or allowed.near
        if allowed.near and not turn.answer_now:
            heard = (*heard, ANSWER_NOW.format(limit=allowed.near))
            messages = _messages(context, kept, heard, tools)
        request = _request(agent, tools, messages, may_call=not answer_now)
        attempt = activity.info().attempt
        if attempt > 1:
            tokens = characters_of(messages) // CHARACTERS_PER_TOKEN
            await patiently(
                lambda: boundary.ledger.record_repeat(run_id, turn.turn, attempt, tokens, context.run.branches)
            )
        began = time.monotonic()
        try:
            response = _again(context) or await _respond(boundary, agent, request, turn)
        except ApplicationError:
            await let_go(boundary, allowed)
            raise
        _require_size(response)
        asked = [call.tool for call in response.message.calls]
        provenance = await provenance_for(boundary, run_id, agent, tools, labels, asked)
        policies, version = await boundary.permission.policies(), boundary.permission.version
        closed = NO_CALLS_NOW if answer_now else ""
        new = _settlement(agent, tools, context, turn, heard, response, policies, provenance, allowed, closed=closed)
        worked = turn.worked + time.monotonic() - began
        new = replace(new, policy=version, work_ms=round(worked * 1000))
        try:
            result, mine = await patiently(lambda: boundary.ledger.settle_turn(run_id, new))
        except LedgerConflict as error:
            raise ApplicationError(str(error), type=ErrorCode.UNAVAILABLE, next_retry_delay=RESET_SOON) from error
    if mine:
        _watch(boundary, tools, new)
        boundary.transcripts.put(context.run, execution, new, (*messages, response.message), _telling(tools))
    return result


def _without_budget(context: TurnContext, turn: TurnInput, name: str) -> TurnResult:
    """Nothing is asked and nothing settled: the run ends with what its model has said so far."""
    return TurnResult(jobs=turn.jobs, branch=context.run.branch, budget=name)


def _watch(boundary: Boundary, tools: Mapping[str, Tool], new: NewTurn) -> None:
    """Count the calls of each tool, and those whose arguments the model got wrong."""
    for asked in new.calls:
        if asked.head.tool in tools:
            invalid = asked.head.reason == ErrorCode.INVALID_ARGUMENTS
            boundary.drift.asked(tools[asked.head.tool], invalid=invalid)


def _require_branch(run: RunRow, turn: TurnInput) -> None:
    """Let no execution think on that a branch has left behind: Temporal is about to end it, or has.

    Raises:
        ApplicationError: It is such a one.
    """
    if run.branches and run.branch != turn.branch and turn.turn > run.branches[-1]:
        message = f"the run was reset to turn {run.branches[-1]}; if it stands still, say `handfast reset` once more"
        raise ApplicationError(message, type=ErrorCode.UNAVAILABLE, next_retry_delay=RESET_SOON)


async def _judge_said(boundary: Boundary, run_id: str, turn: TurnInput) -> None:
    """Find out whose words were said to the run, where being in the ledger does not make them the user's."""
    refs = [said.ref for said in turn.said if said.ref]
    if not refs:
        return
    try:
        run = await patiently(lambda: boundary.ledger.read_run(run_id))
    except RunNotFound:
        return
    agent = boundary.registry.agents.get(run.agent)
    judge = None if agent is None else await boundary.permission.words_judge(agent)
    if judge is not None:
        await patiently(lambda: boundary.ledger.judge_said(run_id, refs, judge))


async def _context(boundary: Boundary, run_id: str, turn: TurnInput, kept: Kept | None) -> TurnContext:
    known, intents, counted = kept.turn if kept else 0, _has_intents(boundary), _counted(boundary)
    if kept is not None and not intents and not counted and not kept.run.branches and _knows_all(kept, turn):
        heard = Heard(tuple(said.text for said in turn.said), UNSIGNED if turn.said else CLEAN)
        return TurnContext(run=kept.run, settled=None, request="", past=[], results=(), said=heard, intents=set())
    try:
        return await patiently(
            lambda: boundary.ledger.read_context(run_id, turn, known=known, intents=intents, counted=counted)
        )
    except RunNotFound as error:
        # A workflow that was never opened here, such as a stranger's: it does nothing.
        raise ApplicationError(str(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error


def _knows_all(kept: Kept, turn: TurnInput) -> bool:
    """Whether this process has settled the last turn and all its calls, so that the ledger can't hold anything newer.

    Only for the first attempt of the turn: any other may have been settled elsewhere.
    """
    first = activity.info().attempt == 1
    return first and kept.results is not None and not turn.jobs and not any(said.ref for said in turn.said)


def tools_of(agent: Agent, registry: Registry, contracts: Mapping[str, str]) -> dict[str, Tool]:
    """The agent's tools by name, with the built-in one that reads long results on.

    Where the run began with another major version of a tool that is still served, the model goes on with that one.
    """
    tools = {tool.name: tool for tool in agent.tools}
    for name, version in contracts.items():
        pinned = registry.tools[name].of_major(version_numbers(version)[0]) if name in registry.tools else None
        if pinned is not None and name in tools:
            tools[name] = pinned
    if agent.savepoints:
        tools |= {SAVEPOINT: savepoint, ROLL_BACK: roll_back}
    if agent.peers:
        tools |= {SEND_MESSAGE: send_message, WAIT_FOR_MESSAGE: wait_for_message}
    if agent.planner is not None:
        tools[CARRY_OUT] = agent.planner
    return {**tools, READ_RESULT: read_result} if tools else {}


def _has_intents(boundary: Boundary) -> bool:
    return any(tool.same_intent for versions in boundary.registry.tools.values() for tool in versions)


def _counted(boundary: Boundary) -> list[str]:
    """The tools of which one run may make so many calls."""
    return [name for name, versions in boundary.registry.tools.items() if any(tool.most for tool in versions)]


def _agent_of(boundary: Boundary, context: TurnContext) -> Agent:
    agent = boundary.registry.agents.get(context.run.agent)
    if agent is None:
        message = f"this worker does not serve agent {context.run.agent!r}: another one must take the turn"
        raise ApplicationError(message, type=ErrorCode.AGENT_UNKNOWN, next_retry_delay=timedelta(seconds=2))
    return agent


def _pinned(agent: Agent, model: str) -> Agent:
    """The agent with the model that the run was started with, whatever a newer version of it says."""
    if agent.model_id == model:
        return agent
    if isinstance(agent.model, str):
        return replace(agent, model=model)
    message = (
        f"the run is pinned to model {model!r}, this worker has {agent.model_id!r}: another one must take the turn"
    )
    raise ApplicationError(message, type=ErrorCode.MODEL_UNKNOWN, next_retry_delay=timedelta(seconds=2))


def _heard(turn: TurnInput, context: TurnContext, kept: Kept | None, telling: TellingOf) -> tuple[str, ...]:
    """What is said to the model in this turn, besides the request and tool results."""
    ended = (ended_job(one, telling(one.tool)) for one in context.ended)
    note = kept.note if kept else context.past[-1].note if context.past else ""
    engine = ANSWER_NOW.format(limit=turn.answer_now) if turn.answer_now else ""
    return tuple(text for text in (note, *ended, *context.said.texts, engine) if text)


def _labels(context: TurnContext, kept: Kept | None) -> Labels:
    """What is in the run once its model has heard what it is told in this turn."""
    before = context.run.labels | context.said.labels | brought_by(context.ended)
    known = kept is not None and kept.results is not None
    return before | (kept.brought if kept is not None and known else brought_by(context.results))


def _messages(
    context: TurnContext, kept: Kept | None, heard: tuple[str, ...], tools: Mapping[str, Tool]
) -> tuple[Message, ...]:
    telling = _telling(tools)
    results = (kept.results if kept else None) or tuple(told_part(one, telling(one.tool)) for one in context.results)
    if kept is not None:
        return (*kept.messages, *heard_message(results, heard))
    said = heard if context.past else (context.request, *heard)
    return (*conversation(context.request, context.past, telling), *heard_message(results, said))


def _telling(tools: Mapping[str, Tool]) -> TellingOf:
    return lambda name: telling_of(tools.get(name))


def _request(agent: Agent, tools: Mapping[str, Tool], messages: tuple[Message, ...], *, may_call: bool) -> ModelRequest:
    return ModelRequest(
        model=agent.model_id,
        instructions=agent.instructions,
        messages=messages,
        tools=tuple(tool.schema for tool in tools.values()),
        may_call_tools=may_call,
        output_schema=agent.output.model_json_schema() if agent.output else None,
        max_tokens=agent.max_output_tokens,
    )


def _again(context: TurnContext) -> ModelResponse | None:
    """The first turn of a run that carries a failed call out again: that call, judged and gated like any other."""
    if context.again is None:
        return None
    tool, arguments = context.again
    call = ToolCall(id="again", tool=tool, arguments=arguments)
    return ModelResponse(message=Message(role="assistant", parts=(call,)), stop_reason="tool_use")


async def _respond(boundary: Boundary, agent: Agent, request: ModelRequest, turn: TurnInput) -> ModelResponse:
    try:
        with chat_span(agent.model_id, turn.turn) as span:
            response = await boundary.models.of(agent).respond(request)
            record_response(span, response)
            return response
    except ModelError as error:
        log.warning("model call failed", turn=turn.turn, code=error.code, retry_after=error.retry_after)
        waited = (datetime.now(UTC) - activity.info().scheduled_time).total_seconds()
        if error.retryable and waited + (error.retry_after or 0) > turn.left > 0:
            message = f"{error} (and the run's work time would be used up before another try)"
            raise ApplicationError(message, type=ErrorCode.LIMIT_REACHED, non_retryable=True) from error
        delay = timedelta(seconds=error.retry_after) if error.retry_after else None
        raise ApplicationError(
            str(error), type=error.code, non_retryable=not error.retryable, next_retry_delay=delay
        ) from error
    except Exception as error:
        message = f"model {agent.model_id} raised {type(error).__name__}: {error}"
        final = activity.info().attempt >= MOST_BUGS
        raise ApplicationError(message, type=ErrorCode.INTERNAL, non_retryable=final) from error


def _require_size(response: ModelResponse) -> None:
    """Refuse an answer whose heads Temporal could not carry: it would be retried for ever, and paid each time."""
    asked = len(response.message.calls)
    if asked > MOST_CALLS:
        message = f"the model asked for {asked} tool calls in one turn; allowed are {MOST_CALLS}. None was executed"
        raise ApplicationError(message, type=ErrorCode.MODEL_REQUEST_INVALID, non_retryable=True)


def _settlement(
    agent: Agent,
    tools: Mapping[str, Tool],
    context: TurnContext,
    turn: TurnInput,
    heard: tuple[str, ...],
    response: ModelResponse,
    policies: Sequence[Policy],
    provenance: Provenance,
    allowed: Allowed,
    *,
    closed: str,
) -> NewTurn:
    cut_off = response.stop_reason == "max_tokens"
    closed = CALLS_CUT_OFF if cut_off else closed
    gate = Gate(
        agent,
        tools,
        context.run,
        context.intents,
        closed=closed,
        policies=policies,
        orphans=context.orphans,
        counts=context.counts,
        provenance=provenance,
    )
    calls = tuple(gate.judge(call) for call in response.message.calls)
    note, output = ("", None) if calls else _reading(agent, response)
    usage = response.usage
    full = response.stop_reason == "model_context_window_exceeded"
    refused = response.stop_reason == "refusal"
    result = TurnResult(
        heads=tuple(asked.head for asked in calls),
        answered=not (calls or note or full or refused) and response.stop_reason != "pause_turn",
        refused=refused,
        full=full,
        calls=len(calls),
        tokens=usage.total,
        cost_usd=float(round(cost_usd(agent, usage), 6)),
        jobs=turn.jobs,
        branch=context.run.branch,
        budget=allowed.near,
    )
    meta = {
        "model": response.model,
        "stop": response.stop_reason,
        "usage": usage.model_dump(),
        "request_id": response.request_id,
    }
    return NewTurn(
        turn=turn.turn,
        heard=heard,
        message=response.message,
        calls=calls,
        result=result,
        meta=meta,
        note=note,
        output=output,
        branches=context.run.branches,
        labels=provenance.labels,
        budgets=allowed.keys,
        holder=allowed.holder,
    )


def _reading(agent: Agent, response: ModelResponse) -> tuple[str, Any]:
    """What the model is told if its words are no answer yet, and the answer as data if its type is declared."""
    if response.stop_reason == "max_tokens":
        return CUT_OFF, None
    if agent.output is None or response.stop_reason not in {"end_turn", "stop_sequence"}:
        return "", None
    try:
        return "", JsonAdapter(agent.output).store(agent.output.model_validate_json(response.message.text))
    except ValidationError as error:
        faults = json.loads(error.json(include_url=False, include_context=False, include_input=False))
        told = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'answer'}: {fault['msg']}" for fault in faults)
        return MISFIT.format(faults=told), None
    except Exception as error:  # noqa: BLE001 - validators and serializers of authors may raise anything
        return MISFIT.format(faults=f"answer: its check raised {type(error).__name__}"), None
