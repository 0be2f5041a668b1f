"""Approvals that a person has given for later calls of a run, too."""

from typing import Any

from handfast.activities.boundary import Boundary
from handfast.activities.patience import patiently
from handfast.contracts.arguments import load_arguments, parse_arguments
from handfast.contracts.authority import remembered
from handfast.contracts.effects import Tier
from handfast.contracts.policy.ruling import all_fit
from handfast.contracts.tool import Tool
from handfast.contracts.wire import CallInput
from handfast.ledger import Looked


async def remembered_for(boundary: Boundary, tool: Tool, looked: Looked, run_id: str, call: CallInput) -> str:
    """By which approval a call need not wait for another one; empty if there is none. Looked up each time, with its signature."""
    if tool.tier is Tier.PRIVILEGED:
        return ""
    judge = await boundary.permission.judge()

    def digest_of(written: dict[str, Any]) -> str:
        read = parse_arguments(tool, written)
        return "" if isinstance(read, dict) else tool.digest(read.stored)

    find_wanted = boundary.ledger.permissions.find_wanted
    wanted = await patiently(lambda: find_wanted(run_id, call, tool.name, judge, digest_of))
    if wanted is not None:
        return wanted.rule
    found = [
        one
        for one in await patiently(lambda: boundary.ledger.permissions.list_remembered(run_id, judge))
        if one.tool == tool.name
    ]
    arguments = load_arguments(tool, looked.arguments) if found else {}
    if isinstance(arguments, dict):
        return ""
    contract = tool.fields.arguments
    fitting = (one for one in found if all_fit(remembered(one.conditions), arguments.stored, contract))
    return next((f"remembered: {one.by} has approved {one.operation_id} and calls like it" for one in fitting), "")
