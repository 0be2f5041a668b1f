"""One attempt of one operation: reserve, execute, settle. Any of it may die at any point."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import BaseModel
from temporalio import activity
from temporalio.exceptions import ApplicationError

from handfast.activities.attempt import RESULT_LOST, Done, poll_once, run_once
from handfast.activities.boundary import Boundary
from handfast.activities.context import EngineContext
from handfast.activities.doubt import clear_doubt, find, must_look
from handfast.activities.failure import Failed
from handfast.activities.gate import invalid_arguments
from handfast.activities.one_attempt import UnderWay
from handfast.activities.patience import patiently, uninterrupted
from handfast.activities.plan_ahead import take_ahead, turn_after, turn_ahead
from handfast.activities.result_cache import name_of
from handfast.activities.transcripts import telling_of, told_of
from handfast.contracts.arguments import load_arguments
from handfast.contracts.effects import Effect, Outcome
from handfast.contracts.errors import ErrorCode, LedgerConflict, LedgerUnavailable
from handfast.contracts.pending import Pending
from handfast.contracts.policy.quotas import Quota
from handfast.contracts.provenance import marks_of
from handfast.contracts.texts import PublicText
from handfast.contracts.tool import Tool
from handfast.contracts.wire import CallInput, CallResult, TurnResult
from handfast.ledger import Looked, OperationMoved, Settled, Settlement, State, Throttle, Throttled
from handfast.ledger.entries import now_ms
from handfast.ledger.late import OUTSIDE
from handfast.ledger.operations import settle_with_effect
from handfast.telemetry import step_span
from handfast.tools.hiding import without_values
from handfast.tools.lease import Lease

if TYPE_CHECKING:
    from handfast.tools.credentials import Given

LEASE_MARGIN = timedelta(seconds=1)
"""Between an attempt's time limit and the end of its lease."""
LONGEST_DELAY = timedelta(hours=1)
WITHOUT_POLL = timedelta(minutes=5)
log = structlog.get_logger()


class OperationAttempt:
    """One attempt, from the reservation to the settlement."""

    def __init__(
        self,
        boundary: Boundary,
        tool: Tool,
        call: CallInput,
        run_id: str,
        looked: Looked,
        quotas: Sequence[Quota] = (),
    ) -> None:
        self._ledger = boundary.ledger
        self._boundary = boundary
        self._tool = tool
        self._call = call
        self._run_id = run_id
        self._looked = looked
        self._owner = str(uuid.uuid4())
        self._lease: Lease | None = None
        self._reserved = False
        self._number = 0
        self._quotas = quotas
        """Limits of policies, which count calls: an attempt after the first is none."""
        self._unreserved = tool.effect is Effect.READ and not tool.limited and not quotas
        # A read's first attempt is not written down; if Temporal says that there was one, it counts.
        self._unwritten = int(self._unreserved and activity.info().attempt > 1)
        self._given: dict[str, Given] = {}
        """By tool: the secrets that its contract names."""
        self._seen: set[str] = set()
        """Those that the call has got, from here or by signing in."""
        self._doubtful = False
        """An earlier attempt may have had an effect, and nothing has cleared that up."""

    async def carry_out(self) -> CallResult:
        """Find out what stands, and act if it may.

        Raises:
            OperationMoved: Another attempt was faster: what this one has looked at is no longer so.
            ApplicationError: It can't go on; Temporal tries again.
            Throttled: A limit of a policy holds it back, and it does not wait for room.
        """
        if self._tool.effect.harmless:
            return await self._carry_out()
        seconds = (self._tool.timeout + LEASE_MARGIN).total_seconds()
        async with self._boundary.one_attempt.of(self._call.id, seconds) as under_way:
            return await self._carry_out(under_way)

    async def _carry_out(self, under_way: UnderWay | None = None) -> CallResult:
        loaded = load_arguments(self._tool, self._looked.arguments, self._looked.defaulted)
        if isinstance(loaded, dict):
            error = {**invalid_arguments(self._tool, loaded), "operation": self._call.id}
            return await self._fence("the arguments don't fit the contract any more", error=error)
        arguments = loaded.value
        await self._equip(self._tool)
        kept = await self._boundary.results.look(self._tool, *self._asked) if self._tool.cache else None
        if kept is not None and kept.expires_at:
            return await self._close(Outcome.SUCCEEDED, kept.content, cached=True)
        if self._looked.state is State.PENDING:
            return await self._look_again(arguments)
        known = await self._without_doubt()
        if known is not None:
            return known
        attempt = await self._reserve()
        if self._tool.effect is Effect.TRANSACTIONAL:
            return await uninterrupted(self._in_transaction(arguments, attempt))
        with step_span("handfast.execute"):
            acting = run_once(self._tool, arguments, self._context(attempt))
            end = await (acting if under_way is None else under_way.end_of(acting))
        if isinstance(end, Pending):
            return await uninterrupted(self._pend(end, attempt))
        if isinstance(end, Failed):
            end = await self._otherwise(end, attempt)
        elif self._tool.cache and kept is not None and not end.lost:
            await self._boundary.results.keep(self._tool, self._tool.cache, *self._asked, end.content, kept)
        # From here on something is known, and it must be written down whatever else happens.
        return await uninterrupted(self._record(end, attempt))

    async def _pend(self, pending: Pending, attempt: int) -> CallResult:
        """The work goes on elsewhere: this activity ends, and the workflow waits for a callback or the next look."""
        owner = self._owner if self._reserved else ""
        deadline = int(pending.deadline.total_seconds() * 1000)
        try:
            known = await patiently(
                lambda: self._ledger.pend(
                    self._run_id,
                    self._call.id,
                    owner,
                    pending.reference,
                    deadline,
                    background=self._tool.background,
                )
            )
        except LedgerConflict as error:
            raise ApplicationError(PublicText(error), type=ErrorCode.UNAVAILABLE) from error
        log.info("call goes on elsewhere", attempt=attempt)
        return known or CallResult(pending=self._next_look(now_ms() + deadline), background=self._tool.background)

    async def _look_again(self, arguments: BaseModel) -> CallResult:
        """What became of work that goes on elsewhere."""
        end: Done | Failed | None = None
        if self._tool.poll is not None:
            end = await poll_once(self._tool, arguments, self._looked.reference, self._context(self._looked.attempts))
        if isinstance(end, Done):
            return await self._close(Outcome.SUCCEEDED, end.content, lost=end.lost, polled=True)
        if isinstance(end, Failed) and not end.retryable and not end.cancelled:
            return await self._close(Outcome.FAILED, end.told(self._call.id), polled=True, code=end.code)
        if now_ms() >= self._looked.lease_until:
            return await self._fence(f"{self._tool.name} was still going on elsewhere at its deadline")
        asked = (end.retry_after or 0.0) if isinstance(end, Failed) else 0.0
        return CallResult(pending=self._next_look(self._looked.lease_until, asked))

    def _next_look(self, deadline_ms: int, asked: float = 0.0) -> float:
        """Seconds until it is worth looking again, not before the service has `asked` to.

        Without a `poll` that is only in case a callback's wake was lost.
        """
        wait = self._tool.polls.delay(self._call.look + 1, self._call.id) if self._tool.poll else WITHOUT_POLL
        return round(max(min(max(wait.total_seconds(), asked), (deadline_ms - now_ms()) / 1000), 0.05), 3)

    async def _without_doubt(self) -> CallResult | None:
        """What became of the operation, if that can be said without another attempt, or no further one may follow."""
        absent = None
        if self._looked.state is State.RESERVED:
            known = await clear_doubt(
                self._ledger, self._tool, self._run_id, self._call, self._looked, self._context(0)
            )
            if known is not None:
                return known
            absent = self._looked.attempts if must_look(self._tool, self._looked) else None
            self._doubtful = absent is None and not self._tool.effect.harmless
        tried = self._looked.attempts + self._unwritten
        if tried >= self._tool.attempts:
            return await self._fence(f"{self._tool.name} was tried {tried} times", absent=absent)
        return None

    @property
    def _asked(self) -> tuple[str, dict[str, Any]]:
        """What results are kept by, besides the tool."""
        return self._looked.tenant, self._looked.arguments

    def _remarks(self, lost: str) -> dict[str, Any]:
        """What is recorded beside a result: what the model should know, and that what was returned is not known.

        No values: what is not content is kept when a run is erased.
        """
        told = [lost] if lost.startswith(RESULT_LOST) else []
        told += self._warnings
        return ({"warning": "; ".join(told)} if told else {}) | ({"lost": lost} if lost else {})

    @property
    def _warnings(self) -> list[str]:
        """That the model did not ask for quite this, or that the contract will go."""
        told: list[str] = []
        if self._looked.changed:
            told.append("a rule has changed the arguments of this call before it was carried out")
        deprecated = self._tool.deprecated
        if deprecated is not None and self._tool.version != self._looked.version:
            told.append(f"{self._tool.name} {self._tool.version}: {deprecated.told}")
        return told

    @property
    def _invalidated(self) -> tuple[str, ...]:
        """The names of kept results that are no longer true once it happened."""
        return tuple(name_of(tool, self._looked.tenant) for tool in self._tool.invalidated)

    async def _otherwise(self, end: Failed, attempt: int) -> Done | Failed:
        """What else can be found out once no further attempt follows: by a fallback, or by looking."""
        final = not end.cancelled and not self._another_attempt_follows(end, attempt, harmless=self._harmless(end))
        if not final:
            return end
        if self._tool.effect is Effect.READ and self._tool.fallback is not None and end.broken:
            return await self._fall_back(self._tool.fallback, end, attempt)
        if self._tool.effect is Effect.KEYED and self._tool.reconcile is not None and not self._harmless(end):
            try:
                found = await find(self._tool, self._looked, self._context(attempt))
            except Exception as error:  # the author's code may raise anything: then nothing more is known
                log.warning("reconcile does not know", exc_info=error)
                return end
            return end if found is None else Done(content=found)
        return end

    async def _fall_back(self, fallback: Tool, end: Failed, attempt: int) -> Done | Failed:
        loaded = load_arguments(fallback, self._looked.arguments, self._looked.defaulted)
        if isinstance(loaded, dict):
            return end
        log.warning("call falls back", code=end.code, fallback=fallback.name)
        await self._equip(fallback)
        instead = await run_once(fallback, loaded.value, self._context(attempt, tool=fallback))
        if not isinstance(instead, Done):
            return end
        note = f"{self._tool.name} is not available ({end.code}); this is from {fallback.name}"
        return Done(content={"note": note, "result": instead.content})

    def _offered_instead(self) -> str:
        """The name of the fallback, if the model has it."""
        agent, fallback = self._boundary.registry.agents.get(self._looked.agent), self._tool.fallback
        return fallback.name if fallback is not None and agent is not None and agent.tool(fallback.name) else ""

    @property
    def _peers(self) -> Collection[str]:
        """The agents whose runs the call's may write to."""
        agent = self._boundary.registry.agents.get(self._looked.agent)
        return () if agent is None else agent.peers

    def _harmless(self, end: Failed) -> bool:
        return self._tool.effect.harmless or (end.surely_not and not self._doubtful)

    async def _reserve(self) -> int:
        """The number of this attempt. A first read needs no reservation: it has no effect.

        Raises:
            OperationMoved: Another attempt was faster: what this one has looked at is no longer so.
            ApplicationError: The tool's rates or its concurrency hold it back; it waits in Temporal.
            Throttled: A limit of a policy holds it back, and it does not wait for room.
        """
        if self._unreserved and activity.info().attempt == 1:
            return 1
        seconds = (self._tool.timeout + LEASE_MARGIN).total_seconds()
        self._lease = Lease(seconds)
        with step_span("handfast.reserve"):
            try:
                attempt = await patiently(
                    lambda: self._ledger.reserve(
                        self._run_id,
                        self._call,
                        self._owner,
                        int(seconds * 1000),
                        self._tool.version,
                        seen=self._looked.attempts,
                        throttle=self._throttle(),
                        alone=self._must_be_alone,
                    )
                )
            except Throttled as error:
                if error.then != "wait":
                    raise
                wait = timedelta(milliseconds=error.wait_ms)
                raise ApplicationError(PublicText(error), type=ErrorCode.RATE_LIMITED, next_retry_delay=wait) from error
        self._reserved, self._number = True, attempt
        if self._lease.over:
            # It was frozen since: somebody else may have taken the operation over.
            late = Failed(code=ErrorCode.TIMEOUT, message="the lease ran out before the call began")
            await self._release(late, surely_not=not self._doubtful)
            raise ApplicationError(PublicText(late.message), type=late.code)
        return attempt + self._unwritten

    @property
    def _must_be_alone(self) -> bool:
        """Whether no other call of its family may mean the same: nobody has agreed to it, and there may be others."""
        if not self._tool.same_intent or self._looked.approved or self._looked.attempts or self._looked.undoes:
            return False
        agent = self._boundary.registry.agents.get(self._looked.agent)
        asks_others = agent is None or agent.planner is not None or any(tool.child for tool in agent.tools)
        return asks_others or bool(self._looked.parent)

    def _throttle(self) -> Throttle | None:
        tool, looked = self._tool, self._looked
        if not tool.limited and not self._quotas:
            return None
        return Throttle(
            tool=tool.name,
            tenant=looked.tenant,
            user=looked.user,
            rates=tool.rates,
            concurrency=tool.concurrency,
            quotas=self._quotas,
        )

    async def _equip(self, tool: Tool) -> None:
        """Read what the contract names of secrets, right before it may be used."""
        if tool.secrets:
            self._given[tool.name] = await self._boundary.credentials.given_to(tool, self._looked.tenant)

    def _context(self, attempt: int, connection: Any = None, tool: Tool | None = None) -> EngineContext:
        return EngineContext(
            ledger=self._ledger,
            http=lambda: self._boundary.http,
            run_id=self._run_id,
            operation_id=self._call.id,
            owner=self._owner,
            attempt=attempt,
            tool=tool or self._tool,
            given=self._given.get((tool or self._tool).name),
            seen=self._seen,
            looked=self._looked,
            drift=lambda: self._boundary.drift,
            gateway_url=self._boundary.gateway_url,
            doubtful=self._doubtful,
            lease=self._lease,
            connection=connection,
            peers=self._peers,
            hides_of=lambda tool, version: self._boundary.telling(tool, version).hides,
        )

    async def _record(self, end: Done | Failed, attempt: int) -> CallResult:
        end = end.without(self._seen)
        if isinstance(end, Done):
            return await self._close(Outcome.SUCCEEDED, end.content, lost=end.lost, attempt=attempt)
        if end.never and self._tool.effect is Effect.KEYED:
            self._doubtful = False
        harmless = self._harmless(end)
        told = end.told(self._call.id)
        if end.broken and (instead := self._offered_instead()):
            told["hint"] = f"use {instead} instead"
        if end.cancelled and not _run_was_cancelled():
            # The worker is going down, or was taken for dead: another one takes over by the rules of the effect class.
            await self._release(end, surely_not=self._tool.effect.harmless)
            raise ApplicationError(PublicText("the worker stopped during the call"), type=ErrorCode.UNAVAILABLE)
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
        return await self._close(Outcome.UNKNOWN, told, acted=end.acted, attempt=attempt, code=end.code)

    def _another_attempt_follows(self, end: Failed, attempt: int, *, harmless: bool) -> bool:
        if self._tool.effect is Effect.RECONCILED and not harmless and not end.cancelled:
            # It looks first, and runs again only if this one is absent and attempts are left.
            return True
        repeatable = harmless or self._tool.effect is not Effect.ONCE
        return end.retryable and repeatable and attempt < self._tool.attempts

    async def _close(
        self, outcome: Outcome, content: Any, *, acted: bool = True, lost: str = "", **meta: Any
    ) -> CallResult:
        names, content = self._invalidated, without_values(content, self._seen)
        meta |= self._remarks(lost) | marks_of(self._tool, outcome, content)
        new = Settlement(outcome=outcome, content=content, meta=meta, acted=acted, invalidates=names)
        owner = self._owner if self._reserved else OUTSIDE if self._looked.state is State.PENDING else ""
        try:
            with step_span("handfast.settle"):
                settled, followed = await self._settle(owner, new)
        except LedgerConflict as error:
            # Another attempt has taken over, and decides; what this one may have done is kept beside it.
            if outcome is Outcome.UNKNOWN:
                late = Failed(code=str(meta.get("code", "")), message=str(error), acted=acted)
                await self._release(late, surely_not=False)
            raise ApplicationError(PublicText(error), type=ErrorCode.UNAVAILABLE) from error
        self._boundary.results.forget(names)
        if settled.mine:
            self._tell(outcome, content, meta)
        return settled.result if followed is None else settled.result.model_copy(update={"next": followed})

    async def _settle(self, owner: str, new: Settlement) -> tuple[Settled, TurnResult | None]:
        """What stands, and the turn that follows, if it could be settled with it."""
        run_id, call, tool = self._run_id, self._call, self._tool.name
        follows = call.then is not None and new.outcome is Outcome.SUCCEEDED
        ahead = await turn_ahead(self._boundary, call, self._looked, new.content) if follows else None
        if ahead is None:
            settled = await patiently(lambda: self._ledger.settle(run_id, call.id, owner, new, tool=tool))
        else:
            both = await patiently(
                lambda: self._ledger.settle_and_ask(run_id, call.id, owner, new, ahead.turn, tool=tool)
            )
            settled = both.call
            if both.next is not None:
                return settled, await take_ahead(self._boundary, ahead, both.next)
        if not (follows and settled.mine):
            return settled, None
        return settled, await turn_after(self._boundary, call, self._looked, new.content, ahead)

    def _tell(self, outcome: Outcome, content: Any, meta: Mapping[str, Any]) -> None:
        """Spare the next turn the reading of a result that this process has settled, if nobody can still change it."""
        told_at_once = not self._looked.receipt and "warning" not in meta
        heard = self._boundary.transcripts.hears(self._run_id, self._call.turn)
        if outcome in {Outcome.SUCCEEDED, Outcome.FAILED} and told_at_once and heard:
            told = told_of(self._tool, outcome, content)
            self._boundary.transcripts.tell(self._run_id, self._call.turn, self._call.id, told, telling_of(self._tool))

    async def _release(self, end: Failed, *, surely_not: bool) -> None:
        if self._reserved:
            await patiently(
                lambda: self._ledger.release(
                    self._run_id,
                    self._call.id,
                    self._owner,
                    end.code,
                    attempt=self._number,
                    surely_not=surely_not,
                    acted=end.acted,
                )
            )

    async def _fence(
        self, reason: str, *, error: dict[str, Any] | None = None, absent: int | None = None
    ) -> CallResult:
        return await patiently(
            lambda: self._ledger.fence(self._run_id, self._call.id, reason, error=error, absent=absent)
        )

    async def _in_transaction(self, arguments: BaseModel, attempt: int) -> CallResult:
        """The effect and its settlement commit together, or neither does."""
        names = self._invalidated
        meta: dict[str, Any] = {"attempt": attempt}
        try:
            async with self._ledger.open() as connection:
                end = await run_once(self._tool, arguments, self._context(attempt, connection))
                if isinstance(end, Pending):
                    message = f"{self._tool.name} is TRANSACTIONAL: it commits or does not, and can't be Pending"
                    end = Failed(code=ErrorCode.TOOL_FAILED, message=message)
                if isinstance(end, Failed):
                    raise _RolledBack(end)
                end = end.without(self._seen)
                meta |= self._remarks(end.lost) | marks_of(self._tool, Outcome.SUCCEEDED, end.content)
                new = Settlement(outcome=Outcome.SUCCEEDED, content=end.content, meta=meta, invalidates=names)
                settled = await connection.run_sync(settle_with_effect, self._run_id, self._call.id, self._owner, new)
        except _RolledBack as rolled_back:
            return await self._record(rolled_back.end, attempt)
        except (LedgerUnavailable, OperationMoved) as error:
            # Whether it committed is not known, or another attempt has taken over: the ledger knows next time.
            raise ApplicationError(str(error), type=ErrorCode.UNAVAILABLE) from error
        self._boundary.results.forget(names)
        self._tell(Outcome.SUCCEEDED, end.content, meta)
        return settled


class _RolledBack(Exception):
    def __init__(self, end: Failed) -> None:
        super().__init__(end.message)
        self.end = end


def _run_was_cancelled() -> bool:
    details = activity.cancellation_details()
    return details is not None and details.cancel_requested
