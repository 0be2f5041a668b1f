"""One tool call under the effect protocol: check that it was asked for and may run, then carry it out."""

from datetime import timedelta

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from handfast.activities.boundary import Boundary, log_outcome, run_id_of_this_activity
from handfast.activities.heartbeat import beating
from handfast.activities.operation import OperationAttempt
from handfast.activities.patience import patiently
from handfast.activities.permitted import hold_or_refuse, over_limit
from handfast.activities.plan_turn import and_then
from handfast.contracts.arguments import load_arguments
from handfast.contracts.effects import Outcome, Tier
from handfast.contracts.errors import ErrorCode
from handfast.contracts.registry import ToolVersions
from handfast.contracts.texts import PublicText
from handfast.contracts.tool import Tool
from handfast.contracts.versions import version_numbers
from handfast.contracts.wire import CallInput, CallResult
from handfast.ledger import DuplicateSuspected, Looked, NotAskedFor, OperationMoved, Throttled
from handfast.telemetry import ATTEMPT, OUTCOME, record_failure, tool_span

ANOTHER_WORKER = timedelta(seconds=5)
"""How long a call that this worker can't serve waits until the next one may try."""
log = structlog.get_logger()


async def call_tool(boundary: Boundary, versions: ToolVersions, call: CallInput) -> CallResult:
    """Carry out one operation of a settled turn, once. Every attempt of it comes through here."""
    run_id = run_id_of_this_activity()
    name = versions.newest.name
    structlog.contextvars.bind_contextvars(operation_id=call.id, tool=name)
    with beating(), tool_span(name, call.id, versions.newest.effect) as span:
        result = await _as_it_stands(boundary, versions, call, run_id)
        span.set_attribute(OUTCOME, "PENDING" if result.pending else result.outcome)
        span.set_attribute(ATTEMPT, activity.info().attempt)
        if result.outcome is not Outcome.SUCCEEDED:
            record_failure(span, result.outcome)
        elif not (result.pending or result.waiting) and versions.newest.tier is Tier.REVERSIBLE:
            await _announce(boundary, run_id, call.id)
        log_outcome(result)
        return await and_then(boundary, call, result)


async def _announce(boundary: Boundary, run_id: str, operation_id: str) -> None:
    """Have people told of what was done, where the policy says so."""
    if (await boundary.permission.installed()).approval.tell_done:
        await patiently(lambda: boundary.ledger.installation.announce_done(run_id, operation_id))


async def _as_it_stands(boundary: Boundary, versions: ToolVersions, call: CallInput, run_id: str) -> CallResult:
    """Act on what stands about the call; look again whenever another attempt was faster."""
    first = activity.info().attempt == 1 and not call.look
    looked = boundary.transcripts.take(run_id, call) if first else None
    while True:
        if looked is None:
            looked = await _look_up(boundary, run_id, call)
        try:
            return await _carry_out(boundary, versions, call, run_id, looked)
        except OperationMoved:
            looked = None


async def _look_up(boundary: Boundary, run_id: str, call: CallInput) -> Looked:
    try:
        return await patiently(lambda: boundary.ledger.look_up(run_id, call))
    except NotAskedFor as error:
        raise ApplicationError(PublicText(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error


async def _carry_out(
    boundary: Boundary, versions: ToolVersions, call: CallInput, run_id: str, looked: Looked
) -> CallResult:
    if looked.settled is not None:
        return looked.settled
    tool = _serving(versions, looked)
    agent = boundary.registry.agents.get(looked.agent)
    try:
        if (held := await hold_or_refuse(boundary, agent, tool, looked, run_id, call)) is not None:
            return held
        quotas = await boundary.permission.quotas(agent, tool, looked, run_id)
        result = await OperationAttempt(boundary, tool, call, run_id, looked, quotas).carry_out()
    except Throttled as error:
        return await over_limit(boundary, tool, run_id, call, error)
    except DuplicateSuspected:
        fields = ", ".join(tool.same_intent)
        why = f"{ErrorCode.DUPLICATE_SUSPECTED}: a call of another agent of this run has the same {fields}"
        await patiently(lambda: boundary.ledger.hold(run_id, call.id, why))
        return CallResult(waiting=True)
    return result.model_copy(update={"background": True}) if looked.receipt else result


def _serving(versions: ToolVersions, looked: Looked) -> Tool:
    """The contract that serves the call: of the major version it was made against, and not too old for its arguments.

    Raises:
        ApplicationError: This worker has none; the call waits for a worker that does.
    """
    numbers = version_numbers(looked.version)
    tool = versions.of_major(numbers[0]) if looked.tool == versions.newest.name else None
    older = tool is not None and version_numbers(tool.version) < numbers
    if tool is None or (older and isinstance(load_arguments(tool, looked.arguments, looked.defaulted), dict)):
        message = (
            f"the call is for {looked.tool} {looked.version}, this worker has {versions.newest.name} {versions.told()}"
        )
        log.warning("contract version unsupported, the call waits for another worker", version=looked.version)
        code = ErrorCode.CONTRACT_VERSION_UNSUPPORTED
        raise ApplicationError(PublicText(message), type=code, next_retry_delay=ANOTHER_WORKER)
    return tool
