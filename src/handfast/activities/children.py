"""Beginning and ending the runs that calls of a run are: what the workflow starts and waits for, the ledger decides."""

from functools import partial
from typing import Any

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from handfast.activities.boundary import Boundary, log_outcome, run_id_of_this_activity
from handfast.activities.gate import invalid_arguments
from handfast.activities.patience import patiently
from handfast.activities.permitted import hold_or_refuse
from handfast.contracts.agent import Agent
from handfast.contracts.arguments import Arguments, load_arguments
from handfast.contracts.child import Child, plan_of
from handfast.contracts.effects import Outcome
from handfast.contracts.errors import ErrorCode, LedgerConflict, RunIdTaken
from handfast.contracts.identity import canonical_json, child_run_id
from handfast.contracts.names import CARRY_OUT, PLAN_RUN
from handfast.contracts.plan import Plan, require_request
from handfast.contracts.plan_check import plan_faults
from handfast.contracts.provenance import marks_of
from handfast.contracts.texts import PublicText
from handfast.contracts.tool import Tool
from handfast.contracts.versions import version_numbers
from handfast.contracts.wire import CallInput, CallResult, ChildBegun, ChildInput
from handfast.ledger import Looked, NewChild, NewRun, NotAskedFor, Settlement
from handfast.tools.hiding import shown

LOOKS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between two looks at a child whose end Temporal does not report: it was taken up after a reset, or terminated."""
log = structlog.get_logger()


async def begin_child(boundary: Boundary, given: ChildInput) -> ChildBegun:
    """Find out whether a call may become a run of its own, and write down that it does. Begun again, it is the same run."""
    run_id, call = run_id_of_this_activity(), given.call
    structlog.contextvars.bind_contextvars(operation_id=call.id)
    try:
        looked = await patiently(lambda: boundary.ledger.look_up(run_id, call))
    except NotAskedFor as error:
        raise ApplicationError(PublicText(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error
    if looked.settled is not None:
        # What its run has used counts once more: this history has not heard of it.
        return ChildBegun(result=await end_child(boundary, given))
    agent = boundary.registry.agents.get(looked.agent)
    if agent is None:
        message = f"this worker does not serve agent {looked.agent!r}: another one must begin the call"
        raise ApplicationError(PublicText(message), type=ErrorCode.AGENT_UNKNOWN)
    tool, child = _serving(boundary, agent, looked)
    if (held := await hold_or_refuse(boundary, agent, tool, looked, run_id, call)) is not None:
        return ChildBegun(result=held)
    arguments = load_arguments(tool, looked.arguments, looked.defaulted)
    if isinstance(arguments, dict):
        return await _refuse(boundary, run_id, call, invalid_arguments(tool, arguments))
    plan = plan_of(child, arguments.value)
    if plan is not None and (faults := _plan_faults(child, plan, looked.arguments)):
        return await _refuse(boundary, run_id, call, _misplanned(tool, faults))
    return await _begin(boundary, given, agent, await _new_run(boundary, run_id, call, child, arguments, plan))


def _serving(boundary: Boundary, agent: Agent, looked: Looked) -> tuple[Tool, Child]:
    """The contract of the call, by which this worker knows whose run it is.

    Raises:
        ApplicationError: It does not know; the call waits for a worker that does.
    """
    if looked.tool == CARRY_OUT:
        tool = agent.planner
    else:
        versions = boundary.registry.tools.get(looked.tool)
        tool = versions.of_major(version_numbers(looked.version)[0]) if versions is not None else None
    if tool is None or tool.child is None:
        message = f"this worker serves no agent as {looked.tool} {looked.version}: another one must begin the call"
        raise ApplicationError(PublicText(message), type=ErrorCode.CONTRACT_VERSION_UNSUPPORTED)
    return tool, tool.child


def _plan_faults(child: Child, plan: Plan, given: dict[str, Any]) -> list[str]:
    if child.plan is None:
        return plan_faults(plan, {tool.name: tool for tool in child.tools}, undone=False)
    try:
        require_request(plan, given)
    except ValueError as error:
        return [str(error)]
    return []


def _misplanned(tool: Tool, faults: list[str]) -> dict[str, Any]:
    told = faults[:20] + ([f"and {len(faults) - 20} more"] if len(faults) > 20 else [])
    message = f"the plan has {len(faults)} fault(s), and nothing of it was done: {'; '.join(told)}"
    return {
        "code": ErrorCode.INVALID_ARGUMENTS,
        "message": shown(message, (), 0, 4000),
        "hint": f"correct them and call {tool.name} again",
    }


async def _refuse(boundary: Boundary, run_id: str, call: CallInput, told: dict[str, Any]) -> ChildBegun:
    new = Settlement(outcome=Outcome.FAILED, content={**told, "operation": call.id}, meta={})
    settled = await patiently(lambda: boundary.ledger.settle(run_id, call.id, "", new))
    return ChildBegun(result=settled.result)


async def _new_run(
    boundary: Boundary, run_id: str, call: CallInput, child: Child, arguments: Arguments, plan: Plan | None
) -> NewRun:
    """What is asked of the child, for the user and the tenant of its parent."""
    parent = await patiently(lambda: boundary.ledger.read_run(run_id))
    text, told = child.text(arguments.value), ""
    if plan is not None:
        text = f"plan {plan.name}"
        request = {} if child.planned else arguments.stored
        written = plan.model_dump(mode="json", exclude_defaults=True)
        told = canonical_json({"plan": written, "request": request, **({"keeps": True} if child.planned else {})})
    elif child.hand_off:
        asked = await patiently(lambda: boundary.ledger.read_request(run_id))
        text = f"{asked}\n\n(handed over by {parent.agent}) {text}"
    return NewRun(
        run_id=child_run_id(child.agent.name, call.id),
        agent=child.agent.name,
        text=text,
        user=parent.user,
        tenant=parent.tenant,
        trace_id=parent.trace_id,
        plan=told,
        parent=run_id,
        limits=child.limits or child.agent.limits,
        labels=parent.labels.within(parent.agent),
        called_from=parent.called_from,
    )


async def _begin(boundary: Boundary, given: ChildInput, owner: Agent, new: NewRun) -> ChildBegun:
    wanted = NewChild(run=new, limits=owner.limits, left=given.left, plan=activity.info().workflow_type == PLAN_RUN)
    try:
        result = await patiently(lambda: boundary.ledger.families.begin(given.call, wanted))
    except RunIdTaken as error:
        told = {"code": ErrorCode.RUN_ID_REUSED, "message": str(error)}
        return await _refuse(boundary, new.parent, given.call, told)
    if result is not None:
        return ChildBegun(result=result)
    log.info("child begun", child=new.run_id, agent=new.agent)
    return ChildBegun(run_id=new.run_id, agent=new.agent, tenant=new.tenant, user=new.user)


async def end_child(boundary: Boundary, given: ChildInput) -> CallResult:
    """Settle a call with what the ledger says of its run; if that goes on, when to look again."""
    run_id, call = run_id_of_this_activity(), given.call
    structlog.contextvars.bind_contextvars(operation_id=call.id)
    marks = partial(_marks, boundary)
    try:
        result = await patiently(
            lambda: boundary.ledger.families.end(run_id, call, unstarted=given.unstarted, marks=marks)
        )
    except LedgerConflict as error:
        raise ApplicationError(PublicText(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error
    if result is None:
        return CallResult(pending=LOOKS[min(given.look, len(LOOKS) - 1)])
    log_outcome(result)
    return result


def _marks(boundary: Boundary, name: str, version: str, outcome: Outcome, content: Any) -> dict[str, Any]:
    """What the contract of a call says of its result: besides what the child has read, `untrusted=` of `as_tool` counts."""
    versions = boundary.registry.tools.get(name)
    tool = versions.of_major(version_numbers(version)[0]) if versions is not None else None
    return {} if tool is None else marks_of(tool, outcome, content)
