"""One turn: read the transcript, ask the model, judge the calls it asks for, settle all of it at once."""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from handfast.activities.boundary import Boundary, run_id_of_this_activity
from handfast.activities.budgets import Allowed, allow, let_go
from handfast.activities.bugs import MAX_BUGS, bounded
from handfast.activities.heartbeat import beating
from handfast.activities.patience import patiently
from handfast.activities.peers import send_message, wait_for_message
from handfast.activities.read_result import read_result
from handfast.activities.savepoints import roll_back, savepoint
from handfast.activities.settlement import Judgement
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
from handfast.contracts.errors import (
    ErrorCode,
    LedgerConflict,
    LedgerSchemaError,
    LedgerUnavailable,
    ModelError,
    RunNotFound,
)
from handfast.contracts.messages import Message, ModelRequest, ModelResponse, ToolCall, Usage
from handfast.contracts.names import CARRY_OUT, READ_RESULT, ROLL_BACK, SAVEPOINT, SEND_MESSAGE, WAIT_FOR_MESSAGE
from handfast.contracts.policy.budgets import Spending
from handfast.contracts.provenance import CLEAN, UNSIGNED, Labels
from handfast.contracts.registry import Registry
from handfast.contracts.texts import PublicText, clean_text, message_of
from handfast.contracts.tool import Tool
from handfast.contracts.versions import version_numbers
from handfast.contracts.wire import TurnInput, TurnResult
from handfast.ledger import FailedSettlement, Heard, NewTurn, RunRow, StoredAnswer, TurnContext
from handfast.llm.answer import normalize
from handfast.llm.pricing import cost_usd
from handfast.llm.usage import CHARACTERS_PER_TOKEN
from handfast.telemetry import chat_span, record_response

MAX_ERROR = 1000
"""Characters of what a model's failure says."""
RESET_SOON = timedelta(seconds=1)
"""How long an execution that is about to be ended waits with its next attempt."""
ANSWER_NOW = (
    "(from the engine) This run has nearly used up its limit of {limit}. "
    "Give your final answer now from what you have, and say what is left undone. You can't call tools any more."
)
log = structlog.get_logger()


async def model_turn(boundary: Boundary, turn: TurnInput) -> TurnResult:
    """Ask the model once, and settle its answer. A settled turn returns what it settled and asks nobody."""
    with bounded("the turn of the model"), beating():
        return await _turn(boundary, turn, run_id_of_this_activity())


async def _turn(boundary: Boundary, turn: TurnInput, run_id: str) -> TurnResult:
    execution = activity.info().workflow_run_id or ""
    kept = None if turn.undone else boundary.transcripts.get(run_id, turn.turn, execution)
    await _judge_said(boundary, run_id, turn)
    context = await _context(boundary, run_id, turn, kept)
    if context.settled is not None:
        return context.settled
    _require_branch(context.run, turn)
    agent = _pinned(_agent_of(boundary, context), context.run.model)
    tools = tools_of(agent, boundary.registry, context.run.contracts)
    heard = _heard(turn, context, kept, _telling(tools))
    messages = _messages(context, kept, heard, tools)
    allowed = await _allowed(boundary, agent, context, turn, messages)
    if allowed.exhausted:
        return _without_budget(context, turn, allowed.exhausted)
    if allowed.near and not turn.answer_now:
        heard = (*heard, ANSWER_NOW.format(limit=allowed.near))
        messages = _messages(context, kept, heard, tools)
    final = bool(turn.answer_now or allowed.near)
    began = time.monotonic()
    request = _request(agent, tools, messages, may_call=not final)
    response = await _answer(boundary, agent, request, context, turn, allowed)
    try:
        asked = [call.tool for call in response.message.calls]
        provenance = await provenance_for(boundary, run_id, agent, tools, _labels(context, kept), asked)
        judgement = Judgement(
            agent=agent,
            tools=tools,
            context=context,
            turn=turn,
            heard=heard,
            policies=await boundary.permission.policies(),
            policy=boundary.permission.version,
            provenance=provenance,
            allowed=allowed,
            final=final,
        )
        worked = turn.worked + time.monotonic() - began
        new = judgement.settlement(response, work_ms=round(worked * 1000))
        result, mine = await patiently(lambda: boundary.ledger.settle_turn(run_id, new))
    except LedgerConflict as error:
        raise ApplicationError(PublicText(error), type=ErrorCode.UNAVAILABLE, next_retry_delay=RESET_SOON) from error
    except (ApplicationError, LedgerUnavailable, LedgerSchemaError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer is paid for and must be kept
        raise await _unsettled(boundary, agent, context, turn, response, allowed, error) from None
    if mine:
        _watch(boundary, tools, new)
        boundary.transcripts.put(context.run, execution, new, (*messages, response.message), _telling(tools))
    return result


async def _allowed(
    boundary: Boundary, agent: Agent, context: TurnContext, turn: TurnInput, messages: tuple[Message, ...]
) -> Allowed:
    """What the turn may use of the budgets; nothing more where its answer is there already."""
    if context.stored is not None:
        return Allowed(near=context.stored.near)
    return await allow(boundary, agent, context.run, turn.turn, messages, seconds=turn.left)


async def _answer(
    boundary: Boundary, agent: Agent, request: ModelRequest, context: TurnContext, turn: TurnInput, allowed: Allowed
) -> ModelResponse:
    """The model's answer. One that an earlier attempt got and could not settle is not asked for again."""
    if context.stored is not None:
        return ModelResponse.model_validate(context.stored.response)
    if (again := _again(context)) is not None:
        return again
    attempt = activity.info().attempt
    if attempt > 1:
        run, tokens = context.run, characters_of(request.messages) // CHARACTERS_PER_TOKEN
        await patiently(
            lambda: boundary.ledger.record_repeat(run.run_id, turn.turn, attempt, tokens, context.run.branches)
        )
    try:
        return await _respond(boundary, agent, request, turn)
    except ApplicationError:
        await let_go(boundary, allowed)
        raise


async def _unsettled(
    boundary: Boundary,
    agent: Agent,
    context: TurnContext,
    turn: TurnInput,
    response: ModelResponse,
    allowed: Allowed,
    error: Exception,
) -> ApplicationError:
    """Keep an answer whose judgement or settlement raised something, so that it is paid once, and count how often it did."""
    log.error("an answer could not be settled", turn=turn.turn, exc_info=error)
    failed = FailedSettlement(
        turn=turn.turn,
        branches=context.run.branches,
        error=type(error).__name__,
        detail=f"{type(error).__name__}: {message_of(error)}"[:2000],
        answer=StoredAnswer(response=response.model_dump(mode="json"), near=allowed.near),
        spent=_spent(agent, response),
        budgets=allowed.keys,
        holder=allowed.holder,
    )
    failures = await patiently(lambda: boundary.ledger.record_unsettled(context.run.run_id, failed))
    message = f"the model's answer could not be settled: {type(error).__name__} ({failures} of {MAX_BUGS} tries)"
    return ApplicationError(message, type=ErrorCode.INTERNAL, non_retryable=failures >= MAX_BUGS)


def _spent(agent: Agent, response: ModelResponse) -> Spending:
    """What the answer used; without its cost where that is what can't be counted."""
    usage = response.usage or Usage()
    try:
        cost = round(float(cost_usd(agent, usage)) * 1e6)
    except Exception:  # noqa: BLE001 - the price may be code of the agent's, and this reports what failed
        cost = 0
    return Spending(turns=1, tokens=usage.total, cost_micros=cost)


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
        raise ApplicationError(PublicText(message), type=ErrorCode.UNAVAILABLE, next_retry_delay=RESET_SOON)


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
        heard = Heard(tuple(clean_text(said.text) for said in turn.said), UNSIGNED if turn.said else CLEAN)
        return TurnContext(run=kept.run, settled=None, request="", past=[], results=(), said=heard, intents=set())
    try:
        return await patiently(
            lambda: boundary.ledger.read_context(run_id, turn, known=known, intents=intents, counted=counted)
        )
    except RunNotFound as error:
        # A workflow that was never opened here, such as a stranger's: it does nothing.
        raise ApplicationError(PublicText(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error


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
        raise ApplicationError(PublicText(message), type=ErrorCode.AGENT_UNKNOWN, next_retry_delay=timedelta(seconds=2))
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
    raise ApplicationError(PublicText(message), type=ErrorCode.MODEL_UNKNOWN, next_retry_delay=timedelta(seconds=2))


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


def _said(error: Exception) -> str:
    """What a model's failure says, as Temporal can carry it: it may hold a whole page."""
    return clean_text(message_of(error)[:MAX_ERROR])


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
            response = normalize(await boundary.models.of(agent).respond(request), request)
            record_response(span, response)
            return response.model_copy(update={"message": response.message.clean})
    except ModelError as error:
        log.warning("model call failed", turn=turn.turn, code=error.code, retry_after=error.retry_after)
        waited = (datetime.now(UTC) - activity.info().scheduled_time).total_seconds()
        if error.retryable and waited + (error.retry_after or 0) > turn.left > 0:
            message = f"{_said(error)} (and the run's work time would be used up before another try)"
            raise ApplicationError(message, type=ErrorCode.LIMIT_REACHED, non_retryable=True) from error
        delay = timedelta(seconds=error.retry_after) if error.retry_after else None
        raise ApplicationError(
            _said(error), type=error.code, non_retryable=not error.retryable, next_retry_delay=delay
        ) from error
    except Exception as error:
        message = f"model {agent.model_id} raised {type(error).__name__}: {_said(error)}"
        final = activity.info().attempt >= MAX_BUGS
        raise ApplicationError(message, type=ErrorCode.INTERNAL, non_retryable=final) from error
