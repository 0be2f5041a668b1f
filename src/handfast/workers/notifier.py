"""Tells people that calls wait for them, reminds them, tells others, and refuses what nobody has answered in time.

What is due is read from the ledger, so nothing is kept for a run that waits, in Temporal or here: it may wait for weeks. Of all
workers one takes each step on.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from handfast.activities.permission import Permission
from handfast.contracts import names
from handfast.contracts.channels import Channel
from handfast.contracts.errors import DecisionRefused, ErrorCode, LedgerConflict, LedgerError
from handfast.contracts.policy.approval import Approval, Step
from handfast.contracts.registry import Registry
from handfast.contracts.results import Operation, WaitingCall
from handfast.ledger import Ledger
from handfast.ledger.notified import DONE, Pending
from handfast.tools.credentials import Credentials
from handfast.tools.hiding import without_secrets
from handfast.tools.notify import NotTold, Telling, tell

LEASE_MS = 120_000
"""How long a worker has to tell something before another one may."""
FIRST_WAIT_MS, LONGEST_WAIT_MS = 5_000, 3_600_000
MOST_TRIES = 20
AT_ONCE = 1000
log = structlog.get_logger()


class Notifier:
    """One of every worker process."""

    def __init__(
        self,
        temporal: Client,
        ledger: Ledger,
        registry: Registry,
        permission: Permission,
        channels: Mapping[str, Channel],
        credentials: Credentials,
    ) -> None:
        self._temporal = temporal
        self._ledger = ledger
        self._registry = registry
        self._permission = permission
        self._channels = channels
        self._credentials = credentials

    async def watch(self, seconds: float) -> None:
        """Look again and again, about every so many seconds."""
        while True:
            try:
                await self.look()
            except (RPCError, LedgerError) as error:
                log.warning("looking for who is to be told failed, it is tried again", error=str(error))
            await asyncio.sleep(seconds * random.uniform(0.75, 1.25))

    async def look(self) -> list[str]:
        """Do what is due, once; the steps that were done, as `operation:step`."""
        approval = (await self._permission.installed()).approval
        done = await self._look_at_done(approval) if approval.tell_done else []
        if not approval.steps:
            return done
        waiting = await self._ledger.list_waiting(limit=AT_ONCE)
        told = await self._ledger.installation.told_so_far(one.operation_id for one in waiting)
        for one in waiting:
            step = _due(approval.steps, one, told.get(one.operation_id, {}))
            if step is not None and await self._take(approval, one, step):
                done.append(f"{one.operation_id}:{step.name}")
        return done

    async def _take(self, approval: Approval, one: WaitingCall, step: Step) -> bool:
        tries = await self._ledger.installation.claim(one.run_id, one.operation_id, step.name, LEASE_MS)
        if tries is None:
            return False
        if step.name == "deadline" and not await self._refuse(approval, one):
            return False
        tool = self._registry.tools.get(one.tool)
        telling = Telling(
            kind=step.name,
            run=one.run_id,
            operation=one.operation_id,
            tool=one.tool,
            tier=one.tier,
            agent=one.agent,
            user=one.user,
            tenant=one.tenant,
            reason=one.reason,
            show="" if tool is None else tool.newest.preview(one.arguments, without_secrets),
            asked_at=one.asked_at.isoformat(),
        )
        passed = [earlier.name for earlier in approval.steps if earlier.after <= step.after]
        return await self._tell(telling, step.channels, tries, passed)

    async def _refuse(self, approval: Approval, one: WaitingCall) -> bool:
        """Refuse a call that nobody has decided in time; False if somebody has at this very moment."""
        content = {
            "code": ErrorCode.DENIED,
            "message": f"nobody has decided on this call of {one.tool} within {approval.deadline}",
            "hint": "go on without it, or tell the user",
            "operation": one.operation_id,
        }
        try:
            await self._ledger.permissions.deny(
                one.run_id, one.operation_id, "approval.deadline: nobody has decided in time", content
            )
        except (LedgerConflict, DecisionRefused):
            return False
        log.warning("call refused, nobody has decided in time", run_id=one.run_id, operation_id=one.operation_id)
        await self._temporal.get_workflow_handle(one.run_id).signal(names.REVIEW)
        return True

    async def _look_at_done(self, approval: Approval) -> list[str]:
        pending = await self._ledger.installation.list_pending(DONE)
        return [f"{one.operation_id}:{DONE}" for one in pending if await self._tell_done(approval, one)]

    async def _tell_done(self, approval: Approval, pending: Pending) -> bool:
        tries = await self._ledger.installation.claim(pending.run_id, pending.operation_id, DONE, LEASE_MS)
        found = await self._ledger.list_operations(pending.run_id)
        one = next((o for o in found if o.operation_id == pending.operation_id), None)
        if tries is None or one is None:
            return False
        run = await self._ledger.read_run(pending.run_id)
        telling = Telling(
            kind=DONE,
            run=pending.run_id,
            operation=one.operation_id,
            tool=one.tool,
            tier=one.tier or "",
            agent=run.agent,
            user=run.user,
            tenant=run.tenant,
            show=self._show(one),
            asked_at=one.asked_at.isoformat(),
        )
        return await self._tell(telling, approval.tell_done, tries, [DONE])

    def _show(self, one: Operation) -> str:
        tool = self._registry.tools.get(one.tool)
        return "" if tool is None else tool.newest.preview(one.arguments, without_secrets)

    async def _tell(self, telling: Telling, channels: Sequence[str], tries: int, passed: Sequence[str]) -> bool:
        """Tell it through every channel; once all have taken it, it is done, and so is what came before it."""
        installation = self._ledger.installation
        faults = [fault for name in channels if (fault := await self._through(name, telling))]
        if faults and tries + 1 < MOST_TRIES:
            wait = min(FIRST_WAIT_MS * 2**tries, LONGEST_WAIT_MS)
            await installation.put_off(telling.operation, telling.kind, wait, "; ".join(faults))
            return False
        await installation.finish(telling.run, telling.operation, passed)
        return not faults

    async def _through(self, name: str, telling: Telling) -> str:
        """Why a channel did not take it; empty if it did."""
        channel = self._channels.get(name)
        if channel is None:
            fault = (
                f"this worker has no channel {name!r}: HANDFAST_CHANNELS names {', '.join(self._channels) or 'none'}"
            )
        else:
            try:
                await tell(channel, telling, self._credentials)
            except NotTold as error:
                fault = str(error)
            else:
                return ""
        log.warning("a person was not told", channel=name, run_id=telling.run, reason=fault)
        return fault


def _due(steps: Sequence[Step], one: WaitingCall, told: Mapping[str, int]) -> Step | None:
    """The last step whose time has come, if it is not done or put off. Earlier ones that nobody has done are passed over."""
    now = datetime.now(UTC)
    come = [step for step in steps if one.asked_at + step.after <= now]
    # A step that is done is due never again.
    return come[-1] if come and told.get(come[-1].name, 0) <= now.timestamp() * 1000 else None
