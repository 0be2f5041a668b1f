"""Finds runs that were ended from outside, by `temporal workflow terminate` for instance, and brings them to an end of ours."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from handfast.contracts import names
from handfast.contracts.effects import RunStatus
from handfast.contracts.errors import LedgerError
from handfast.contracts.registry import Registry
from handfast.contracts.wire import CloseInput
from handfast.contracts.wire_undo import RollbackRequest
from handfast.engine.rollback import start_rollback
from handfast.ledger import Ledger, Unfinished

OVERLAP = timedelta(minutes=5)
"""How far a sweep looks back behind the start of the one before: what Temporal can search lags behind what has happened."""
AT_ONCE = 100
"""Runs that the ledger is asked about in one query."""
ENDED_BADLY = "('Terminated', 'TimedOut', 'Failed')"
"""How a workflow can end without its own last words. One that fails properly has written its end to the ledger before."""
REASON = "its workflow was ended from outside"
log = structlog.get_logger()


class Sweeper:
    """One of every worker process. Two that find the same run do what one does."""

    def __init__(self, temporal: Client, ledger: Ledger, registry: Registry, *, task_queue: str) -> None:
        self._temporal = temporal
        self._ledger = ledger
        self._registry = registry
        self._task_queue = task_queue
        self._since: datetime | None = None
        """Until when everything was seen; None for as long as Temporal remembers."""

    async def watch(self, seconds: float) -> None:
        """Sweep again and again, about every so many seconds."""
        while True:
            try:
                await self.sweep()
            except (RPCError, LedgerError) as error:
                log.warning("sweep failed, another one follows", error=str(error))
            await asyncio.sleep(seconds * random.uniform(0.75, 1.25))

    async def sweep(self) -> list[str]:
        """Look once; the runs that something was done about."""
        began = datetime.now(UTC)
        done: list[str] = []
        async for run_ids in self._ended_badly():
            unfinished = await self._ledger.read_unfinished(run_ids)
            over = [one for one in unfinished if await self._is_over(one.run_id)]
            done.extend([one.run_id for one in over if await self._bring_to_an_end(one)])
        self._since = began - OVERLAP
        return done

    async def _ended_badly(self) -> AsyncIterator[Sequence[str]]:
        """The runs whose workflow, or whose rollback, has ended badly since the last sweep."""
        types = f"('{names.AGENT_RUN}', '{names.PLAN_RUN}', '{names.ROLLBACK_RUN}')"
        query = f"WorkflowType IN {types} AND ExecutionStatus IN {ENDED_BADLY}"
        if self._since is not None:
            query += f" AND CloseTime >= '{self._since.isoformat()}'"
        found: set[str] = set()
        async for one in self._temporal.list_workflows(query):
            found.add(one.id.removeprefix(names.ROLLBACK_PREFIX))
            if len(found) == AT_ONCE:
                yield sorted(found)
                found.clear()
        yield sorted(found)

    async def _is_over(self, run_id: str) -> bool:
        """Whether nothing goes on for it: a reset ends one execution and begins another one, a rollback has its own."""
        for workflow_id in (run_id, f"{names.ROLLBACK_PREFIX}{run_id}"):
            try:
                description = await self._temporal.get_workflow_handle(workflow_id).describe()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
            else:
                if description.status is WorkflowExecutionStatus.RUNNING:
                    return False
        return True

    async def _bring_to_an_end(self, run: Unfinished) -> bool:
        """Undo it if its agent wants a failed run undone, or go on with undoing it; else only close it."""
        agent = self._registry.agents.get(run.agent)
        if agent is None:
            return False
        if run.undoing or (run.owes and RunStatus.FAILED in agent.undo_on):
            request = RollbackRequest(cause="terminated", reason=REASON, to=run.to)
            await start_rollback(self._temporal, run.run_id, request, self._task_queue)
            log.warning("undoing a run that was ended from outside", run_id=run.run_id)
        else:
            await self._ledger.abandon(run.run_id, CloseInput(status=RunStatus.CANCELLED, reason=REASON))
            log.warning("closed a run that was ended from outside", run_id=run.run_id)
        return True
