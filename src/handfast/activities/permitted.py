"""Permission once more, right before the effect: by what the policy says now, and with the grants looked at again."""

import structlog

from handfast.activities.boundary import Boundary
from handfast.activities.gate import denied_by
from handfast.activities.patience import patiently
from handfast.activities.remembered import remembered_for
from handfast.contracts.agent import Agent
from handfast.contracts.effects import Verdict
from handfast.contracts.policy import Permit
from handfast.contracts.tool import Tool
from handfast.contracts.wire import CallInput, CallResult
from handfast.ledger import Looked, State, Throttled

log = structlog.get_logger()


async def hold_or_refuse(
    boundary: Boundary, agent: Agent | None, tool: Tool, looked: Looked, run_id: str, call: CallInput
) -> CallResult | None:
    """What stands in the way of a call that has not begun; None if it may go on.

    Permission is used up by the first reservation: later attempts of the same operation need no new one.
    """
    if looked.attempts or looked.state is State.PENDING:
        return None
    if looked.verdict is Verdict.RUN and await boundary.permission.still_says(agent, looked):
        return None
    ledger, said = boundary.ledger, await boundary.permission.now(agent, tool, looked, run_id)
    if said.verdict is Verdict.DENY:
        log.warning("call refused by policy", rule=said.rule)
        return await patiently(
            lambda: ledger.permissions.deny(
                run_id, call.id, said.told, denied_by(said, tool, call.id), policy=said.policy
            )
        )
    if looked.approved:
        judge = await boundary.permission.judge()
        fault = await patiently(lambda: ledger.permissions.check_granted(run_id, call.id, judge))
        if not fault:
            return None
        log.warning("approval no longer counts", reason=fault)
        await patiently(lambda: ledger.permissions.withdraw(run_id, call.id, fault))
        return CallResult(waiting=True)
    asks = said.verdict is Verdict.ASK and not await remembered_for(boundary, tool, looked, run_id, call)
    if looked.state is State.WAITING or looked.verdict is not Verdict.RUN or asks:
        why = said.told if looked.state is not State.WAITING and looked.verdict is Verdict.RUN else ""
        await patiently(lambda: ledger.hold(run_id, call.id, why, policy=said.policy))
        return CallResult(waiting=True)
    return None


async def over_limit(boundary: Boundary, tool: Tool, run_id: str, call: CallInput, error: Throttled) -> CallResult:
    """What becomes of a call that a limit of a policy holds back for good."""
    why, version = str(error), boundary.permission.version
    log.warning("call over a limit", rule=why)
    if error.then == "ask":
        await patiently(lambda: boundary.ledger.hold(run_id, call.id, why, policy=version))
        return CallResult(waiting=True)
    refused = Permit(verdict=Verdict.DENY, rule=why)
    return await patiently(
        lambda: boundary.ledger.permissions.deny(
            run_id, call.id, why, denied_by(refused, tool, call.id), policy=version
        )
    )
