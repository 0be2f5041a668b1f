"""Opening and closing a run: where it enters the ledger with its model pinned, and where its end is written down."""

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from handfast.activities.boundary import Boundary, run_id_of_this_activity
from handfast.activities.patience import patiently
from handfast.contracts.agent import Agent
from handfast.contracts.effects import Lane
from handfast.contracts.errors import ErrorCode, LedgerConflict, RunIdTaken, RunNotFound
from handfast.contracts.provenance import UNSIGNED
from handfast.contracts.starting import start_fault
from handfast.contracts.texts import PublicText, clean_text
from handfast.contracts.wire import CloseInput, Opened, OpenInput, RunClosed
from handfast.contracts.wire_model import Anchor
from handfast.ledger import NewOpening, NewRun, NewTurn, RunRow, SettledTurn
from handfast.telemetry import current_trace_id

log = structlog.get_logger()


async def open_run(boundary: Boundary, given: OpenInput) -> Opened:
    """Write down the request (unless our client already did), bind it to this execution, pin model and limits."""
    opened, _ = await open_requested(boundary, given, await take_request(boundary, given))
    return opened


async def take_request(boundary: Boundary, given: OpenInput, plan: str = "") -> Agent:
    """Write down the request, unless our client already did; the agent that it is for.

    `plan` is what the request's text holds, if it is one for a plan.
    """
    run_id, request = run_id_of_this_activity(), given.request
    agent = boundary.registry.agents.get(request.agent)
    if agent is None:
        known = ", ".join(sorted(boundary.registry.agents))
        message = f"no agent is named {request.agent!r}; this worker serves: {known}"
        raise ApplicationError(PublicText(message), type=ErrorCode.AGENT_UNKNOWN, non_retryable=True)
    if not request.by_reference:
        text, user, tenant = clean_text(request.text), clean_text(request.user), clean_text(request.tenant)
        if fault := start_fault(run_id, agent=agent.name, text=text, user=user, tenant=tenant):
            raise ApplicationError(PublicText(fault), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True)
        new = NewRun(
            run_id=run_id,
            agent=agent.name,
            text=text,
            user=user,
            tenant=tenant,
            trace_id=current_trace_id(),
            plan=clean_text(plan),
            labels=UNSIGNED,
        )
        try:
            await patiently(lambda: boundary.ledger.request_run(new))
        except RunIdTaken as error:
            raise ApplicationError(PublicText(error), type=ErrorCode.RUN_ID_REUSED, non_retryable=True) from error
    return agent


async def open_requested(
    boundary: Boundary, given: OpenInput, agent: Agent, first: NewTurn | None = None
) -> tuple[Opened, SettledTurn | None]:
    """Bind what was requested to this execution, pin model and limits, and settle the first turn with it, if that is known."""
    run_id = run_id_of_this_activity()
    opening = NewOpening(
        execution=given.execution,
        model=agent.model_id,
        agent_version=agent.version,
        trace_id=current_trace_id(),
        contracts={tool.name: tool.version for tool in agent.tools},
    )
    settled: SettledTurn | None = None
    try:
        if first is None:
            anchor, part = await patiently(lambda: boundary.ledger.open_run(run_id, opening))
        else:
            both = await patiently(lambda: boundary.ledger.open_and_ask(run_id, opening, first))
            (anchor, part), settled = both.row, both.first
    except LedgerConflict as error:
        raise ApplicationError(PublicText(error), type=ErrorCode.RUN_ID_REUSED, non_retryable=True) from error
    except RunNotFound as error:
        message = f"{error}: this run was started by reference, and its text is not in this worker's ledger"
        raise ApplicationError(PublicText(message), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error
    if (judge := await boundary.permission.words_judge(agent)) is not None:
        await patiently(lambda: boundary.ledger.judge_request(run_id, judge))
    log.info("run opened", agent=agent.name, model=agent.model_id)
    opened = Opened(
        model=agent.model_id,
        agent_version=agent.version,
        limits=part or agent.limits,
        heartbeat_seconds=boundary.heartbeat_seconds,
        undo_on=tuple(agent.undo_on) if agent.may_undo else (),
        model_lane=getattr(agent.model, "lane", Lane.STANDARD),
        anchor=anchor,
    )
    return opened, settled


async def close_run(boundary: Boundary, close: CloseInput) -> RunClosed:
    """Write down how the run ended; the totals are the ledger's."""
    run_id = run_id_of_this_activity()
    try:
        execution = activity.info().workflow_run_id or ""
        run, anchor = await patiently(lambda: boundary.ledger.close_run(run_id, close, execution=execution))
    except RunNotFound:
        # It failed before it was opened: there is nothing to close.
        return RunClosed(status=close.status, limit=close.limit)
    return await closed_run(boundary, close, run, anchor)


async def closed_run(boundary: Boundary, close: CloseInput, run: RunRow, anchor: Anchor) -> RunClosed:
    """What there is to say of a run that was closed. Nothing of it is kept here any longer."""
    boundary.transcripts.drop(run.run_id)
    boundary.plans.drop(run.run_id)
    left = await patiently(lambda: boundary.ledger.families.left(run.run_id)) if run.branches else []
    log.info("run closed", status=run.status, turns=run.turns, calls=run.calls, cost_usd=run.cost_micros / 1e6)
    return RunClosed(
        status=run.status,
        limit=close.limit,
        turns=run.turns,
        calls=run.calls,
        tokens=run.tokens,
        cost_usd=run.cost_micros / 1e6,
        left=tuple(left),
        anchor=anchor,
    )
