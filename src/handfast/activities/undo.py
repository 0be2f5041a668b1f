"""Undoing what a run did: the list of what is owed, and carrying out one compensation under the effect protocol."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from handfast.activities.boundary import Boundary, log_outcome, run_id_of_this_activity
from handfast.activities.context import EngineContext
from handfast.activities.doubt import find
from handfast.activities.heartbeat import beating
from handfast.activities.operation import OperationAttempt
from handfast.activities.patience import patiently
from handfast.contracts.effects import Outcome
from handfast.contracts.errors import DecisionRefused, ErrorCode, LedgerConflict, RunNotFound, ToolError
from handfast.contracts.texts import PublicText
from handfast.contracts.tool import Tool
from handfast.contracts.undo_order import in_order
from handfast.contracts.versions import version_numbers
from handfast.contracts.wire import CallInput, CallResult
from handfast.contracts.wire_undo import UndoInput, Undone, UndoPlan, UndoStep
from handfast.ledger import Looked, NotAskedFor, OperationMoved, Settlement, ToUndo
from handfast.ledger.entries import now_ms
from handfast.ledger.undone import STANDS
from handfast.telemetry import tool_span
from handfast.tools.hiding import without_values

ANOTHER_WORKER = timedelta(seconds=5)
"""How long a compensation that this worker can't carry out waits until the next one may try."""
NOBODY_SERVES_IT = timedelta(minutes=10)
"""After how long without a worker that has the tool a person is asked."""
COMMITTED = "committed"
NOT_UNDONE = "what undoes it has not succeeded: the ledger says why"
"""In the place of what a tool has said, which Temporal does not get."""
log = structlog.get_logger()


async def begin_undo(boundary: Boundary, given: UndoInput) -> UndoPlan:
    """Write down that the run is undone, and what is owed."""
    run_id = run_id_of_this_activity()
    ref = activity.info().workflow_run_id or ""
    try:
        plan = await patiently(lambda: boundary.ledger.undoing.begin(run_id, given, ref))
    except (DecisionRefused, RunNotFound) as error:
        raise ApplicationError(PublicText(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error
    log.info("undoing", cause=given.cause, calls=len(plan.steps))
    boundary.transcripts.drop(run_id)
    steps = in_order(plan.steps, lambda step: _undone_after(boundary, step))
    return plan.model_copy(update={"steps": steps, "heartbeat_seconds": boundary.heartbeat_seconds})


def _undone_after(boundary: Boundary, step: UndoStep) -> Collection[str]:
    """The tools whose calls are undone before this one, by the newest contract this worker has."""
    versions = boundary.registry.tools.get(step.tool)
    compensate = versions.newest.compensate if versions is not None else None
    return compensate.after if compensate is not None else ()


async def compensate(boundary: Boundary, call: CallInput) -> Undone:
    """Undo one call, once. Every attempt comes through here; what can't be undone is left to a person."""
    run_id = run_id_of_this_activity()
    structlog.contextvars.bind_contextvars(operation_id=call.id)
    while True:
        looked = await _look_up(boundary, run_id, call)
        original = await patiently(lambda: boundary.ledger.undoing.to_undo(run_id, call.id))
        structlog.contextvars.bind_contextvars(tool=original.tool, undoes=original.operation_id)
        try:
            with beating(), tool_span(original.tool, call.id, "undo"):
                undone = await _undo(boundary, run_id, call, looked, original)
        except OperationMoved:
            continue
        if undone.blocked and not await _block(boundary, run_id, call, original, undone.blocked) and not original.child:
            # A person has said meanwhile what became of the call, or what is to become of it: nobody would say it again.
            continue
        return undone


async def _block(boundary: Boundary, run_id: str, call: CallInput, original: ToUndo, reason: str) -> bool:
    """Leave a call that could not be undone to a person; False if something else stands of it by now."""
    block, seen = boundary.ledger.undoing.block, None if original.child else original.outcome
    if reason == NOT_UNDONE:
        told: dict[str, Any] = await patiently(lambda: boundary.ledger.read_result(run_id, call.id)) or {}
        reason = str(told.get("message") or NOT_UNDONE)
    blocked = await patiently(lambda: block(run_id, original.operation_id, call.id, reason, seen=seen))
    if blocked:
        log.warning("call could not be undone, a person must look")
    return blocked


async def _look_up(boundary: Boundary, run_id: str, call: CallInput) -> Looked:
    try:
        return await patiently(lambda: boundary.ledger.look_up(run_id, call))
    except (NotAskedFor, LedgerConflict) as error:
        raise ApplicationError(PublicText(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error


async def _undo(boundary: Boundary, run_id: str, call: CallInput, looked: Looked, original: ToUndo) -> Undone:
    if not original.child and (original.let_be or original.outcome not in STANDS):
        return await _nothing_to_undo(boundary, run_id, call, looked, original)
    if looked.settled is not None:
        return await _ended(boundary, run_id, call, looked.settled)
    if original.child:
        return Undone(owed=not await patiently(lambda: boundary.ledger.families.undo(run_id, call)))
    tool = _serving(boundary, original)
    if tool is None:
        return Undone(blocked=f"no worker serves {original.tool} {original.version}: start one that does, then retry")
    if tool.compensate is None and not tool.pivot:
        return Undone(blocked=f"{tool.name} {tool.version} names no compensate= any more")
    result = original.result
    if original.outcome is Outcome.UNKNOWN:
        original = await _cleared(boundary, run_id, looked, original, tool)
        result = original.result
    if original.outcome not in STANDS:
        return await _nothing_to_undo(boundary, run_id, call, looked, original)
    if tool.compensate is None:
        return await _commit(boundary, run_id, call, original)
    if original.outcome is Outcome.UNKNOWN and not tool.compensate.safe_if_absent:
        return Undone(
            blocked="nobody knows whether the call happened, and undoing it is not declared safe_if_absent: resolve it, then retry"
        )
    if original.lost and not tool.compensate.safe_if_absent:
        return Undone(
            blocked=f"what {tool.name} returned is not known ({original.lost}), and undoing it is not declared safe_if_absent: "
            "undo it by hand"
        )
    try:
        known = None if result is None else tool.result_adapter.load(result)
    except ValidationError as error:
        faults = error.error_count()
        return Undone(
            blocked=f"{tool.name} {tool.version} can't read the result of {original.version}: {faults} faults"
        )
    except Exception as error:  # noqa: BLE001 - validators of authors may raise anything
        return Undone(
            blocked=f"{tool.name} {tool.version} can't read the result of {original.version}: {type(error).__name__}"
        )
    attempt = OperationAttempt(boundary, tool.undoing(known), call, run_id, looked)
    settled = await attempt.carry_out()
    log_outcome(settled)
    return await _ended(boundary, run_id, call, settled)


async def _nothing_to_undo(
    boundary: Boundary, run_id: str, call: CallInput, looked: Looked, original: ToUndo
) -> Undone:
    """It has not happened, it was undone, or a person lets it stand; however an attempt to undo it has ended."""
    if looked.settled is None and original.outcome not in STANDS:
        new = Settlement(outcome=Outcome.SUCCEEDED, content={"message": "there is nothing to undo"}, meta={})
        await patiently(lambda: boundary.ledger.settle(run_id, call.id, "", new))
    return Undone()


async def _commit(boundary: Boundary, run_id: str, call: CallInput, original: ToUndo) -> Undone:
    """What a pivot in doubt turned out to be: it has happened, and what was done before it stands; or nobody knows."""
    if original.outcome is Outcome.UNKNOWN:
        told = f"nobody knows whether {original.tool} has happened, which commits the job: resolve it, then retry"
        return Undone(blocked=told)
    content = {"code": COMMITTED, "message": "it has happened, and commits the job"}
    new = Settlement(outcome=Outcome.FAILED, content=content, meta={})
    await patiently(lambda: boundary.ledger.settle(run_id, call.id, "", new))
    return Undone(committed=True)


def _serving(boundary: Boundary, original: ToUndo) -> Tool | None:
    """The contract that knows how to undo the call: of the major version it was made against. None if no worker has it.

    Raises:
        ApplicationError: This worker has none; the compensation waits for a worker that does.
    """
    versions = boundary.registry.tools.get(original.tool)
    tool = versions.of_major(version_numbers(original.version)[0]) if versions is not None else None
    if tool is None and datetime.now(UTC) - activity.info().scheduled_time > NOBODY_SERVES_IT:
        return None
    if tool is None:
        message = f"undoing {original.tool} {original.version} needs a worker that serves it"
        code = ErrorCode.CONTRACT_VERSION_UNSUPPORTED
        raise ApplicationError(PublicText(message), type=code, next_retry_delay=ANOTHER_WORKER)
    return tool


async def _ended(boundary: Boundary, run_id: str, call: CallInput, settled: CallResult) -> Undone:
    """What a compensation that has ended means for the call."""
    if settled.outcome is Outcome.SUCCEEDED:
        return Undone()
    told: dict[str, Any] = await patiently(lambda: boundary.ledger.read_result(run_id, call.id)) or {}
    if told.get("code") == COMMITTED:
        return Undone(committed=True)
    return Undone(blocked=NOT_UNDONE)


async def _cleared(boundary: Boundary, run_id: str, looked: Looked, original: ToUndo, tool: Tool) -> ToUndo:
    """A call in doubt as somebody finds it who looks; still in doubt if nobody can say.

    Raises:
        OperationMoved: A person has said meanwhile what became of it.
        ApplicationError: What is not there could still appear; Temporal asks again then.
    """
    if tool.reconcile is None:
        return original
    given = await boundary.credentials.given_to(tool, looked.tenant) if tool.secrets else None
    context = EngineContext(
        ledger=boundary.ledger,
        http=lambda: boundary.http,
        run_id=run_id,
        operation_id=original.operation_id,
        owner="",
        attempt=0,
        tool=tool,
        looked=looked,
        drift=lambda: boundary.drift,
        gateway_url=boundary.gateway_url,
        doubtful=True,
        given=given,
    )
    try:
        found = without_values(await find(tool, looked, context), context.seen)
    except ToolError as error:
        log.warning("could not find out whether the call happened", error=error.code)
        return original
    except Exception as error:  # the author's code may raise anything, and then is not sure
        log.warning("could not find out whether the call happened", exc_info=error)
        return original
    sure_at = original.lease_until + int(tool.settles_within.total_seconds() * 1000)
    if found is None and now_ms() < sure_at:
        message = f"{tool.name} is not found, but could still appear: looking again then"
        wait = timedelta(milliseconds=sure_at - now_ms() + 1)
        raise ApplicationError(PublicText(message), type=ErrorCode.OUTCOME_UNKNOWN, next_retry_delay=wait)
    happened = found is not None
    noted = await patiently(
        lambda: boundary.ledger.undoing.record_found(run_id, original.operation_id, happened=happened, result=found)
    )
    if not noted:
        raise OperationMoved(f"somebody has said what became of operation {original.operation_id!r}")
    return replace(original, outcome=Outcome.SUCCEEDED if happened else Outcome.FAILED, result=found)
