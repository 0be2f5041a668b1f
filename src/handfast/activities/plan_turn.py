"""Turns of a plan: settled when they are asked for, with the call before them, or with the opening of the run."""

from dataclasses import replace

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from handfast.activities.boundary import Boundary, run_id_of_this_activity
from handfast.activities.open_run import closed_run, open_requested, take_request
from handfast.activities.patience import patiently
from handfast.activities.plan_calls import PlanCalls
from handfast.activities.plans import Planned
from handfast.activities.sources import provenance_for
from handfast.contracts.agent import Agent
from handfast.contracts.board import Board
from handfast.contracts.effects import Outcome, RunStatus
from handfast.contracts.errors import ErrorCode, LedgerConflict, RunNotFound
from handfast.contracts.plan import Plan
from handfast.contracts.plan_steps import PlanTurnInput
from handfast.contracts.policy import Provenance
from handfast.contracts.references import steps_in
from handfast.contracts.texts import PublicText
from handfast.contracts.wire import CallInput, CallResult, CloseInput, OpenedPlan, OpenInput, TurnResult
from handfast.ledger import NewTurn, PlanContext, RunRow, SettledTurn
from handfast.ledger.plans import AskedPlan

log = structlog.get_logger()


async def open_plan(boundary: Boundary, given: OpenInput) -> OpenedPlan:
    """Open a run that carries out a plan, once the plan was checked against the tools of the agent in whose name it is."""
    run_id = run_id_of_this_activity()
    agent = await take_request(boundary, given, plan=given.request.text)
    try:
        asked, context = await patiently(
            lambda: boundary.ledger.read_plan_opening(run_id, intents=has_intents(boundary))
        )
        planned = boundary.plans.require_sound(asked, agent)
    except (LedgerConflict, ValueError) as error:
        await open_requested(boundary, given, agent)
        raise ApplicationError(str(error), type=ErrorCode.NOT_EXECUTED, non_retryable=True) from error
    boundary.plans.put(run_id, planned)
    steps = planned.of(agent).steps
    turn = PlanTurnInput(turn=1, asks=Board(steps).ready())
    new = await _first_turn(boundary, planned, context, turn)
    opened, settled = await open_requested(boundary, given, agent, new)
    if new is None or settled is None:
        first = await _on_the_way(boundary, turn)
    else:
        first = taken(boundary, context.run, new, settled)
    update = {"closes": True, **({"undo_on": (), "keeps": True} if planned.keeps else {})}
    return OpenedPlan(opened=opened.model_copy(update=update), steps=steps, first=first)


async def _first_turn(
    boundary: Boundary, planned: Planned, context: PlanContext, turn: PlanTurnInput
) -> NewTurn | None:
    """The first turn, ready to be settled with the opening; None where the run must be opened first."""
    agent = boundary.registry.agents.get(context.run.agent)
    if agent is None or await boundary.permission.words_judge(agent) is not None:
        # Whose words the request is, is looked at once the run is opened.
        return None
    return await settlement(boundary, agent, planned, context, turn)


async def plan_turn(boundary: Boundary, turn: PlanTurnInput) -> TurnResult:
    """Settle the calls of the steps that are ready; without any, what the plan returns. A settled turn returns what it settled.

    One that `closes` closes the run, too, if it says what the plan returns.
    """
    run_id = run_id_of_this_activity()
    try:
        planned = await _planned(boundary, run_id)
        context = await _context(boundary, run_id, turn, planned)
    except (LedgerConflict, RunNotFound) as error:
        raise ApplicationError(PublicText(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error
    agent = boundary.registry.agents.get(context.run.agent)
    if agent is None:
        message = f"this worker does not serve agent {context.run.agent!r}: another one must take the turn"
        raise ApplicationError(PublicText(message), type=ErrorCode.AGENT_UNKNOWN)
    new = await settlement(boundary, agent, planned, context, turn)
    try:
        if turn.closes is None:
            return taken(boundary, context.run, new, await patiently(lambda: boundary.ledger.settle_turn(run_id, new)))
        close = CloseInput(status=RunStatus.COMPLETED, work_seconds=turn.closes)
        last = await patiently(
            lambda: boundary.ledger.ask_and_close(run_id, new, close, execution=execution_of_this_activity())
        )
    except LedgerConflict as error:
        raise ApplicationError(PublicText(error), type=ErrorCode.UNAVAILABLE) from error
    if last.closed is None:
        return last.turn.result
    return last.turn.result.model_copy(update={"closed": await closed_run(boundary, close, *last.closed)})


async def settlement(
    boundary: Boundary, agent: Agent, planned: Planned, context: PlanContext, turn: PlanTurnInput
) -> NewTurn:
    """A turn, ready to be settled."""
    provenance = await _provenance(boundary, agent, planned, context.run, turn)
    policies, version = await boundary.permission.policies(), boundary.permission.version
    calls = PlanCalls(agent, planned, context, policies, provenance)
    await calls.decide(turn, boundary.conditions.holds)
    return replace(calls.settlement(turn), policy=version)


def taken(boundary: Boundary, run: RunRow, new: NewTurn, settled: SettledTurn) -> TurnResult:
    """What stands of a turn. One that was settled before does: what was made of it here is dropped."""
    if settled.mine:
        boundary.transcripts.put(run, execution_of_this_activity(), new, (new.message,), telling=None)
    return settled.result


def execution_of_this_activity() -> str:
    """The execution of the workflow that an activity works for."""
    return activity.info().workflow_run_id or ""


async def _provenance(
    boundary: Boundary, agent: Agent, planned: Planned, run: RunRow, turn: PlanTurnInput
) -> Provenance:
    """What the calls of the turn are held against. No model reads the results, but they may pick what later steps aim at."""
    known, labels = planned.of(agent), run.labels
    if known.brings:
        labels |= await patiently(lambda: boundary.ledger.read_labels(run.run_id))
    asked = [way.tool for ask in turn.asks for way in known.ways[ask.step]]
    return await provenance_for(boundary, run.run_id, agent, known.tools, labels, asked)


async def _planned(boundary: Boundary, run_id: str) -> Planned:
    """The plan of a run, which never changes."""
    kept = boundary.plans.get(run_id)
    if kept is None:
        kept = _read(await patiently(lambda: boundary.ledger.read_plan(run_id)))
        boundary.plans.put(run_id, kept)
    return kept


def _read(asked: AskedPlan) -> Planned:
    return Planned(plan=Plan.model_validate(asked.plan), request=asked.request, keeps=asked.keeps)


def has_intents(boundary: Boundary) -> bool:
    """Whether any tool here says what makes two calls the same intention."""
    return any(tool.same_intent for versions in boundary.registry.tools.values() for tool in versions)


def needed_by(plan: Plan, turn: PlanTurnInput) -> frozenset[str]:
    """The steps whose results a turn needs."""
    steps = [plan.steps[ask.step] for ask in turn.asks]
    needed = frozenset[str]().union(*(step.refers_to for step in steps)) if steps else steps_in(plan.output)
    return needed | {plan.steps[one].instead for one in needed if plan.steps[one].instead}


async def _context(boundary: Boundary, run_id: str, turn: PlanTurnInput, planned: Planned) -> PlanContext:
    """What the turn needs of the ledger: nothing, where this process has settled the one before and no result is referred to."""
    needed, intents = needed_by(planned.plan, turn), has_intents(boundary)
    kept = boundary.transcripts.get(run_id, turn.turn, execution_of_this_activity())
    if kept is not None and not needed and not intents and not planned.keeps:
        return PlanContext(run=kept.run, results={}, intents=set())
    return await patiently(
        lambda: boundary.ledger.read_plan_context(run_id, needed, intents=intents, keeps=planned.keeps)
    )


async def and_then(boundary: Boundary, call: CallInput, result: CallResult) -> CallResult:
    """Settle the turn that follows a call that has succeeded, if it was not settled with it; if that fails, the workflow does it."""
    if call.then is None or call.beside or result.next is not None:
        return result
    if result.outcome is not Outcome.SUCCEEDED or result.pending or result.waiting:
        return result
    turn = call.then.model_copy(update={"closes": None})
    return result.model_copy(update={"next": await _on_the_way(boundary, turn)})


async def _on_the_way(boundary: Boundary, turn: PlanTurnInput) -> TurnResult | None:
    """Settle a turn in the activity before it; None where that fails."""
    try:
        return await plan_turn(boundary, turn)
    except ApplicationError as error:
        log.warning("a turn was not settled on the way", turn=turn.turn, error=error.message)
        return None
