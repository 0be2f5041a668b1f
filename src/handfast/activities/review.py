"""Calls that wait for a person, looked at again: the policy has changed, or somebody has approved calls like it."""

from temporalio.exceptions import ApplicationError

from handfast.activities.boundary import Boundary, run_id_of_this_activity
from handfast.activities.gate import denied_by
from handfast.activities.patience import patiently
from handfast.activities.remembered import remembered_for
from handfast.contracts.effects import Verdict
from handfast.contracts.errors import ErrorCode
from handfast.contracts.policy.quotas import LIMIT
from handfast.contracts.texts import PublicText
from handfast.contracts.versions import version_numbers
from handfast.contracts.wire import CallInput, CallResult
from handfast.ledger import NotAskedFor, State


async def review(boundary: Boundary, call: CallInput) -> CallResult:
    """What becomes of a waiting call by what the policy says now: it goes on waiting, goes on, or is refused."""
    run_id, ledger = run_id_of_this_activity(), boundary.ledger
    try:
        looked = await patiently(lambda: ledger.look_up(run_id, call))
    except NotAskedFor as error:
        raise ApplicationError(PublicText(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error
    if looked.settled is not None:
        return looked.settled
    if looked.state is not State.WAITING:
        return CallResult()
    agent, versions = boundary.registry.agents.get(looked.agent), boundary.registry.tools.get(looked.tool)
    tool = None if versions is None else versions.of_major(version_numbers(looked.version)[0])
    if agent is None or tool is None or looked.reason.startswith((ErrorCode.DUPLICATE_SUSPECTED, LIMIT)):
        return CallResult(waiting=True)
    said = await boundary.permission.now(agent, tool, looked, run_id, fresh=True)
    match said.verdict:
        case Verdict.RUN:
            return await patiently(
                lambda: ledger.permissions.release_waiting(run_id, call.id, said.told, policy=said.policy)
            )
        case Verdict.DENY:
            return await patiently(
                lambda: ledger.permissions.deny(
                    run_id, call.id, said.told, denied_by(said, tool, call.id), policy=said.policy
                )
            )
        case _:
            rule = await remembered_for(boundary, tool, looked, run_id, call)
            if not rule:
                return CallResult(waiting=True)
            return await patiently(lambda: ledger.permissions.release_waiting(run_id, call.id, rule))
