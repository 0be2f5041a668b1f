"""Opening and closing a run: where it enters the ledger with its model pinned, and where its end is written down."""

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from holdfast.activities.boundary import Boundary, run_id_of_this_activity
from holdfast.activities.patience import patiently
from holdfast.contracts.effects import Lane
from holdfast.contracts.errors import ErrorCode, LedgerConflict, RunIdTaken, RunNotFound
from holdfast.contracts.provenance import UNSIGNED
from holdfast.contracts.wire import CloseInput, Opened, OpenInput, RunClosed
from holdfast.ledger import NewRun
from holdfast.telemetry import current_trace_id

log = structlog.get_logger()


async def open_run(boundary: Boundary, given: OpenInput, plan: str = "") -> Opened:
    """Write down the request (unless our client already did), bind it to this execution, pin model and limits.

    `plan` is what the request's text holds, if it is one for a plan.
    """
    run_id = run_id_of_this_activity()
    request = given.request
    agent = boundary.registry.agents.get(request.agent)
    if agent is None:
        known = ", ".join(sorted(boundary.registry.agents))
        message = f"no agent is named {request.agent!r}; this worker serves: {known}"
        raise ApplicationError(message, type=ErrorCode.AGENT_UNKNOWN, non_retryable=True)
    trace_id = current_trace_id()
    try:
        if not request.by_reference:
            new = NewRun(
                run_id=run_id,
                agent=agent.name,
                text=request.text,
                user=request.user,
                tenant=request.tenant,
                trace_id=trace_id,
                plan=plan,
                labels=UNSIGNED,
            )
            await patiently(lambda: boundary.ledger.request_run(new))
        anchor, part = await patiently(
            lambda: boundary.ledger.open_run(
                run_id,
                given.execution,
                agent.model_id,
                agent.version,
                trace_id,
                {tool.name: tool.version for tool in agent.tools},
            )
        )
    except (RunIdTaken, LedgerConflict) as error:
        raise ApplicationError(str(error), type=ErrorCode.RUN_ID_REUSED, non_retryable=True) from error
    except RunNotFound as error:
        message = f"{error}: this run was started by reference, and its text is not in this worker's ledger"
        raise ApplicationError(message, type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error
    if (judge := await boundary.permission.words_judge(agent)) is not None:
        await patiently(lambda: boundary.ledger.judge_request(run_id, judge))
    log.info("run opened", agent=agent.name, model=agent.model_id)
    return Opened(
        model=agent.model_id,
        agent_version=agent.version,
        limits=part or agent.limits,
        heartbeat_seconds=boundary.heartbeat_seconds,
        undo_on=tuple(agent.undo_on) if agent.may_undo else (),
        model_lane=getattr(agent.model, "lane", Lane.STANDARD),
        anchor=anchor,
    )


async def close_run(boundary: Boundary, close: CloseInput) -> RunClosed:
    """Write down how the run ended; the totals are the ledger's."""
    run_id = run_id_of_this_activity()
    boundary.transcripts.drop(run_id)
    boundary.plans.drop(run_id)
    try:
        execution = activity.info().workflow_run_id or ""
        run, anchor = await patiently(lambda: boundary.ledger.close_run(run_id, close, execution=execution))
        left = await patiently(lambda: boundary.ledger.list_left(run_id)) if run.branches else []
    except RunNotFound:
        # It failed before it was opened: there is nothing to close.
        return RunClosed(status=close.status, limit=close.limit)
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
