"""The turn of a plan that follows its calls, settled by the last of them: in its own commit, or right after it.

The workflow then schedules what comes next with what it hears of that call. Where anything stands against it, nothing of this is done,
and the workflow has the turn settled itself.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
from temporalio import activity

from handfast.activities.boundary import Boundary, run_id_of_this_activity
from handfast.activities.open_run import closed_run
from handfast.activities.patience import patiently
from handfast.activities.plan_turn import execution_of_this_activity, has_intents, needed_by, settlement, taken
from handfast.activities.transcripts import Kept
from handfast.contracts.effects import RunStatus
from handfast.contracts.plan import Plan
from handfast.contracts.plan_steps import PlanTurnInput
from handfast.contracts.wire import CallInput, CloseInput, TurnResult
from handfast.ledger import LastTurn, Looked, PlanContext, RunRow, StepResults, TurnAhead
from handfast.ledger.plans import place_of

CLOSES_WITHIN = 0.25
"""Seconds from the scheduling of a plan's last calls within which a cancellation comes too late: they may close the run themselves."""
log = structlog.get_logger()


class Ahead(NamedTuple):
    """A turn that is ready to be settled, and the run as it was before."""

    run: RunRow
    turn: TurnAhead


async def turn_ahead(boundary: Boundary, call: CallInput, looked: Looked, content: Any) -> Ahead | None:
    """The turn that follows a call if it succeeds with that result, where those beside it have.

    None if there is none, or if it takes more than what this process knows, or fails.
    """
    if call.then is None:
        return None
    try:
        return await _ahead(boundary, call, call.then, looked, content)
    except Exception:  # whatever it was, the call has been carried out, and that must be written down
        log.exception("a turn was not settled by the call before it", turn=call.then.turn)
        return None


async def take_ahead(boundary: Boundary, ahead: Ahead, settled: LastTurn) -> TurnResult:
    """What stands of a turn that was settled with the call before it."""
    result = taken(boundary, ahead.run, ahead.turn.new, settled.turn)
    if settled.closed is None or ahead.turn.close is None:
        return result
    return result.model_copy(update={"closed": await closed_run(boundary, ahead.turn.close, *settled.closed)})


async def turn_after(
    boundary: Boundary, call: CallInput, looked: Looked, content: Any, ahead: Ahead | None
) -> TurnResult | None:
    """Settle the turn that follows a call that has just been settled, if no other call of its turn is left; else None.

    `ahead` is that turn, if it was made to be settled with the call, and was not.
    """
    run_id = run_id_of_this_activity()
    kept = boundary.transcripts.get(run_id, call.turn + 1, execution_of_this_activity())
    if kept is not None:
        kept.succeeded[call.id] = content
    made = ahead or await turn_ahead(boundary, call, looked, content)
    if made is None:
        return None
    try:
        settled = await patiently(lambda: boundary.ledger.ask_ahead(run_id, made.turn))
        return None if settled is None else await take_ahead(boundary, made, settled)
    except Exception:  # the call is settled, and its result must not be lost for this
        log.exception("a turn was not settled after the call before it", turn=made.turn.new.turn)
        return None


async def _ahead(
    boundary: Boundary, call: CallInput, turn: PlanTurnInput, looked: Looked, content: Any
) -> Ahead | None:
    run_id, execution = run_id_of_this_activity(), execution_of_this_activity()
    kept, planned = boundary.transcripts.get(run_id, turn.turn, execution), boundary.plans.get(run_id)
    if kept is None or planned is None or planned.keeps or has_intents(boundary):
        return None
    agent = boundary.registry.agents.get(kept.run.agent)
    if agent is None or planned.of(agent).brings or activity.is_cancelled():
        return None
    ended = {*kept.succeeded, call.id}
    if any(asked.head.id not in ended and not asked.kept for asked in kept.asked):
        return None
    found = {asked.head.id: asked.kept[0] for asked in kept.asked if asked.kept} | kept.succeeded | {call.id: content}
    results = await _results(boundary, run_id, kept, found, planned.plan, needed_by(planned.plan, turn))
    context = PlanContext(run=kept.run, results=results, intents=set())
    new = await settlement(boundary, agent, planned, context, turn)
    ahead = TurnAhead(new=new, close=_close(turn, looked), execution=execution, joins=call.beside)
    return Ahead(kept.run, ahead)


async def _results(
    boundary: Boundary, run_id: str, kept: Kept, found: dict[str, Any], plan: Plan, needed: frozenset[str]
) -> dict[str, StepResults]:
    """The results that are needed: those of the last turn kept as they were found, others as they stand in the ledger."""
    places = [(*place_of(asked.call_id), asked.head.id) for asked in kept.asked]
    # Other items of a list may have been asked for before.
    elsewhere = needed - {step for step, _, _ in places if not plan.steps[step].for_each}
    results: dict[str, StepResults] = {}
    if elsewhere:
        context = await patiently(lambda: boundary.ledger.read_plan_context(run_id, elsewhere, intents=False))
        results = context.results
    for step, item, operation_id in places:
        if step in needed:
            of_step = results.setdefault(step, StepResults())
            of_step.succeeded[item] = found[operation_id]
            of_step.places = max(of_step.places, item + 1)
    return results


def _close(turn: PlanTurnInput, looked: Looked) -> CloseInput | None:
    """How the run is closed with its last turn; None where the workflow must do that.

    It does if a cancellation may have come meanwhile, which a call hears of late; or if nobody here can tell how long the run has
    worked, or its parent counts that.
    """
    if turn.closes is None or looked.approved or looked.parent:
        return None
    took = (datetime.now(UTC) - activity.info().scheduled_time).total_seconds()
    if took > CLOSES_WITHIN:
        return None
    return CloseInput(status=RunStatus.COMPLETED, work_seconds=turn.closes + max(took, 0.0))
