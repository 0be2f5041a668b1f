"""One tool call under the effect protocol: check, reserve, execute, settle. Any of it may die at any point."""

import uuid
from datetime import timedelta
from typing import Any

import structlog
from pydantic import BaseModel
from temporalio import activity
from temporalio.exceptions import ApplicationError

from holdfast.activities.attempt import Done, Failed, run_once
from holdfast.activities.boundary import Boundary, log_outcome, run_id_of_this_activity
from holdfast.activities.context import EngineContext
from holdfast.activities.doubt import clear_doubt
from holdfast.activities.gate import invalid_arguments, may_run, validate
from holdfast.activities.heartbeat import beating
from holdfast.activities.patience import patiently, uninterrupted
from holdfast.contracts.effects import Effect, Outcome
from holdfast.contracts.errors import ErrorCode, LedgerConflict, LedgerUnavailable
from holdfast.contracts.registry import ToolVersions
from holdfast.contracts.tool import Tool, version_numbers
from holdfast.contracts.wire import CallInput, CallResult
from holdfast.ledger import Looked, NotAskedFor, OperationMoved, Settlement, State
from holdfast.ledger.operations import settle_with_effect
from holdfast.telemetry import ATTEMPT, OUTCOME, record_failure, step_span, tool_span
from holdfast.tools.lease import Lease

LEASE_MARGIN = timedelta(seconds=1)
"""Between an attempt's time limit and the end of its lease."""
LONGEST_DELAY = timedelta(hours=1)
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
        span.set_attribute(OUTCOME, result.outcome)
        span.set_attribute(ATTEMPT, activity.info().attempt)
        if result.outcome is not Outcome.SUCCEEDED:
            record_failure(span, result.outcome)
        log_outcome(result)
        return result


async def _as_it_stands(boundary: Boundary, versions: ToolVersions, call: CallInput, run_id: str) -> CallResult:
    """Act on what stands about the call; look again whenever another attempt was faster."""
    looked = boundary.transcripts.take(run_id, call) if activity.info().attempt == 1 else None
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
        raise ApplicationError(str(error), type=ErrorCode.NOT_ASKED_FOR, non_retryable=True) from error


async def _carry_out(
    boundary: Boundary, versions: ToolVersions, call: CallInput, run_id: str, looked: Looked
) -> CallResult:
    if looked.settled is not None:
        return looked.settled
    tool = _serving(versions, looked)
    agent = boundary.registry.agents.get(looked.agent)
    # Permission is used up by the first reservation: later attempts of the same operation need no new one.
    permitted = looked.approved or looked.attempts > 0
    allowed = permitted or may_run(agent, tool, looked.verdict, looked.arguments, looked.user, looked.tenant)
    if looked.state is State.WAITING or not allowed:
        await patiently(lambda: boundary.ledger.hold(run_id, call.id))
        return CallResult(waiting=True)
    return await _Operation(boundary, tool, call, run_id, looked).carry_out()


def _serving(versions: ToolVersions, looked: Looked) -> Tool:
    """The contract that serves the call: of the major version it was made against, and not too old for its arguments.

    Raises:
        ApplicationError: This worker has none; the call waits for a worker that does.
    """
    numbers = version_numbers(looked.version)
    tool = versions.of_major(numbers[0]) if looked.tool == versions.newest.name else None
    older = tool is not None and version_numbers(tool.version) < numbers
    if tool is None or (older and isinstance(validate(tool, looked.arguments), dict)):
        message = (
            f"the call is for {looked.tool} {looked.version}, this worker has {versions.newest.name} {versions.told()}"
        )
        log.warning("contract version unsupported, the call waits for another worker", version=looked.version)
        code = ErrorCode.CONTRACT_VERSION_UNSUPPORTED
        raise ApplicationError(message, type=code, next_retry_delay=ANOTHER_WORKER)
    return tool


class _Operation:
    """One attempt, from the reservation to the settlement."""

    def __init__(self, boundary: Boundary, tool: Tool, call: CallInput, run_id: str, looked: Looked) -> None:
        self._ledger = boundary.ledger
        self._boundary = boundary
        self._tool = tool
        self._call = call
        self._run_id = run_id
        self._looked = looked
        self._owner = str(uuid.uuid4())
        self._lease: Lease | None = None
        self._reserved = False
        # A read's first attempt is not written down; if Temporal says that there was one, it counts.
        self._unwritten = int(tool.effect is Effect.READ and activity.info().attempt > 1)
        self._doubtful = False
        """An earlier attempt may have had an effect, and nothing has cleared that up."""

    async def carry_out(self) -> CallResult:
        arguments = validate(self._tool, self._looked.arguments)
        if isinstance(arguments, dict):
            error = {**invalid_arguments(self._tool, arguments), "operation": self._call.id}
            return await self._fence("the arguments don't fit the contract any more", error=error)
        absent = None
        if self._looked.state is State.RESERVED:
            known = await clear_doubt(
                self._ledger, self._tool, self._run_id, self._call, self._looked, self._context(0)
            )
            if known is not None:
                return known
            absent = self._looked.attempts if self._tool.effect is Effect.RECONCILED else None
            self._doubtful = absent is None and not self._tool.effect.harmless
        tried = self._looked.attempts + self._unwritten
        if tried >= self._tool.attempts:
            return await self._fence(f"{self._tool.name} was tried {tried} times", absent=absent)
        attempt = await self._reserve()
        if self._tool.effect is Effect.TRANSACTIONAL:
            return await uninterrupted(self._in_transaction(arguments, attempt))
        with step_span("holdfast.execute"):
            end = await run_once(self._tool, arguments, self._context(attempt))
        # From here on something is known, and it must be written down whatever else happens.
        return await uninterrupted(self._record(end, attempt))

    async def _reserve(self) -> int:
        """The number of this attempt. A first read needs no reservation: it has no effect.

        Raises:
            OperationMoved: Another attempt was faster: what this one has looked at is no longer so.
        """
        if self._tool.effect is Effect.READ and activity.info().attempt == 1:
            return 1
        seconds = (self._tool.timeout + LEASE_MARGIN).total_seconds()
        self._lease = Lease(seconds)
        with step_span("holdfast.reserve"):
            attempt = await patiently(
                lambda: self._ledger.reserve(
                    self._run_id,
                    self._call,
                    self._owner,
                    int(seconds * 1000),
                    self._tool.version,
                    seen=self._looked.attempts,
                )
            )
        self._reserved = True
        if self._lease.over:
            # It was frozen since: somebody else may have taken the operation over.
            late = Failed(code=ErrorCode.TIMEOUT, message="the lease ran out before the call began")
            await self._release(late, surely_not=not self._doubtful)
            raise ApplicationError(late.message, type=late.code)
        return attempt + self._unwritten

    def _context(self, attempt: int, connection: Any = None) -> EngineContext:
        return EngineContext(
            ledger=self._ledger,
            http=lambda: self._boundary.http,
            run_id=self._run_id,
            operation_id=self._call.id,
            owner=self._owner,
            attempt=attempt,
            user=self._looked.user,
            tenant=self._looked.tenant,
            tool=self._tool,
            checkpoint=self._looked.checkpoint,
            sent=self._looked.sent,
            doubtful=self._doubtful,
            lease=self._lease,
            connection=connection,
        )

    async def _record(self, end: Done | Failed, attempt: int) -> CallResult:
        if isinstance(end, Done):
            return await self._close(Outcome.SUCCEEDED, end.content, attempt=attempt, kept=end.kept)
        if end.never and self._tool.effect is Effect.KEYED:
            self._doubtful = False
        harmless = self._tool.effect.harmless or (end.surely_not and not self._doubtful)
        told = end.told(self._call.id)
        if end.cancelled and not _run_was_cancelled():
            # The worker is going down: another one takes over by the rules of the effect class.
            raise ApplicationError("the worker stopped during the call", type=ErrorCode.UNAVAILABLE)
        if self._another_attempt_follows(end, attempt, harmless=harmless):
            await self._release(end, surely_not=harmless)
            log.warning("attempt failed, another one follows", code=end.code, attempt=attempt)
            wait = self._tool.backoff.delay(attempt, self._call.id)
            if end.retry_after:
                wait = min(timedelta(seconds=end.retry_after), LONGEST_DELAY)
            raise ApplicationError(end.message, type=end.code, next_retry_delay=wait)
        if harmless:
            return await self._close(Outcome.FAILED, told, attempt=attempt, code=end.code)
        told["message"] += "; it may or may not have happened"
        return await self._close(Outcome.UNKNOWN, told, attempt=attempt, code=end.code)

    def _another_attempt_follows(self, end: Failed, attempt: int, *, harmless: bool) -> bool:
        if self._tool.effect is Effect.RECONCILED and not harmless and not end.cancelled:
            # It looks first, and runs again only if this one is absent and attempts are left.
            return True
        repeatable = harmless or self._tool.effect is not Effect.ONCE
        return end.retryable and repeatable and attempt < self._tool.attempts

    async def _close(self, outcome: Outcome, content: Any, **meta: Any) -> CallResult:
        new = Settlement(outcome=outcome, content=content, meta=meta)
        owner = self._owner if self._reserved else ""
        try:
            with step_span("holdfast.settle"):
                settled = await patiently(lambda: self._ledger.settle(self._run_id, self._call.id, owner, new))
        except LedgerConflict as error:
            raise ApplicationError(str(error), type=ErrorCode.UNAVAILABLE) from error
        if settled.mine:
            self._tell(outcome, content)
        return settled.result

    def _tell(self, outcome: Outcome, content: Any) -> None:
        """Spare the next turn the reading of a result that this process has settled, if nobody can still change it."""
        if outcome in {Outcome.SUCCEEDED, Outcome.FAILED}:
            self._boundary.transcripts.tell(
                self._run_id, self._call.turn, self._call.id, outcome, content, self._tool.result_limit
            )

    async def _release(self, end: Failed, *, surely_not: bool) -> None:
        if self._reserved:
            await patiently(
                lambda: self._ledger.release(self._run_id, self._call.id, self._owner, end.code, surely_not=surely_not)
            )

    async def _fence(
        self, reason: str, *, error: dict[str, Any] | None = None, absent: int | None = None
    ) -> CallResult:
        return await patiently(
            lambda: self._ledger.fence(self._run_id, self._call.id, reason, error=error, absent=absent)
        )

    async def _in_transaction(self, arguments: BaseModel, attempt: int) -> CallResult:
        """The effect and its settlement commit together, or neither does."""
        try:
            async with self._ledger.open() as connection:
                end = await run_once(self._tool, arguments, self._context(attempt, connection))
                if isinstance(end, Failed):
                    raise _RolledBack(end)
                new = Settlement(outcome=Outcome.SUCCEEDED, content=end.content, meta={"attempt": attempt})
                settled = await connection.run_sync(settle_with_effect, self._run_id, self._call.id, self._owner, new)
        except _RolledBack as rolled_back:
            return await self._record(rolled_back.end, attempt)
        except (LedgerUnavailable, OperationMoved) as error:
            # Whether it committed is not known, or another attempt has taken over: the ledger knows next time.
            raise ApplicationError(str(error), type=ErrorCode.UNAVAILABLE) from error
        self._tell(Outcome.SUCCEEDED, end.content)
        return settled


class _RolledBack(Exception):
    def __init__(self, end: Failed) -> None:
        super().__init__(end.message)
        self.end = end


def _run_was_cancelled() -> bool:
    details = activity.cancellation_details()
    return details is not None and details.cancel_requested
