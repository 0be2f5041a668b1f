"""The ledger as the rest of Handfast uses it: every method is one transaction, and can be repeated."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, select

from handfast.contracts.clauses import Rate
from handfast.contracts.errors import LedgerRace, RunNotFound
from handfast.contracts.provenance import Labels
from handfast.contracts.results import Event, Operation, RunSummary, WaitingCall
from handfast.contracts.served import ServedCall, Standing
from handfast.contracts.wire import CallInput, CallResult, CloseInput, TurnInput
from handfast.contracts.wire_model import Anchor
from handfast.contracts.wire_words import Decision, Resolution, Said
from handfast.ledger import (
    at_once,
    branches,
    changed,
    children,
    decisions,
    entries,
    erase,
    family,
    inbox,
    joined,
    listing,
    looked,
    migrate,
    operations,
    pending,
    plans,
    provenance,
    reasons,
    runs,
    served,
    throttle,
    transcript,
    turns,
    unfinished,
    unsettled,
    verify,
    words,
)
from handfast.ledger import peers as peers_
from handfast.ledger.chain import ANCHOR_CHARACTERS
from handfast.ledger.connect import connect_database
from handfast.ledger.database import Database
from handfast.ledger.decisions import Judge
from handfast.ledger.families import Families
from handfast.ledger.installation import Installation
from handfast.ledger.joined import LastTurn, Opened, SettledCall, SettledTurn, TurnAhead
from handfast.ledger.late import Settlement
from handfast.ledger.looked import Looked
from handfast.ledger.operations import Settled
from handfast.ledger.peers import Letter
from handfast.ledger.pending import Begun
from handfast.ledger.permissions import Permissions
from handfast.ledger.plans import AskedPlan, PlanContext
from handfast.ledger.provenance import Material
from handfast.ledger.runs import NewOpening, NewRun, OpenedRow, RunRow
from handfast.ledger.shared import Shared
from handfast.ledger.statement import DriverCall
from handfast.ledger.tables import entries as entries_table
from handfast.ledger.tables import runs as runs_table
from handfast.ledger.throttle import Throttle, Throttled, queue_up
from handfast.ledger.transcript import TurnContext
from handfast.ledger.turns import NewTurn
from handfast.ledger.undoing import Undoing
from handfast.ledger.unfinished import Unfinished
from handfast.ledger.unsettled import FailedSettlement
from handfast.ledger.verify import Verification
from handfast.ledger.words import WordsJudge

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")


class Ledger:
    """The append-only, hash-chained record of runs.

    Every method raises `LedgerUnavailable` when the database does not answer; whoever can wait repeats it.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.installation = Installation(self)
        self.permissions = Permissions(self)
        self.undoing = Undoing(self)
        self.families = Families(self)
        self.shared = Shared(self)

    @classmethod
    def connect(cls, url: str) -> "Ledger":
        """The ledger at a URL: `sqlite:///path` or `postgresql://user@host/name`."""
        return cls(connect_database(url))

    async def close(self) -> None:
        """Let go of every connection."""
        await self.database.close()

    async def migrate(self) -> tuple[str, str]:
        """Bring the tables to the newest revision; the revisions before and after."""
        await asyncio.to_thread(migrate.ONE_AT_A_TIME.acquire)
        try:
            return await self.write(migrate.migrate)
        finally:
            migrate.ONE_AT_A_TIME.release()

    async def require_newest(self) -> None:
        """Refuse tables of another revision."""
        await self.database.read(migrate.require_newest)

    async def request_run(self, new: NewRun) -> RunRow:
        """Write down a request; see `runs.request_run`."""
        return await self.write(runs.request_run, new)

    async def open_run(self, run_id: str, new: NewOpening) -> OpenedRow:
        """Bind a run to its execution; see `runs.open_run`."""
        return await self.write(runs.open_run, run_id, new)

    async def open_and_ask(self, run_id: str, new: NewOpening, first: NewTurn) -> Opened:
        """The same, and settle its first turn; see `joined.open_and_ask`."""
        return await self.write(joined.open_and_ask, run_id, new, first)

    async def close_run(self, run_id: str, close: CloseInput, *, execution: str = "") -> tuple[RunRow, Anchor]:
        """Write down how a run ended; see `children.close_with_left`."""
        return await self.write(children.close_with_left, run_id, close, execution=execution)

    async def read_run(self, run_id: str) -> RunRow:
        """One run."""
        return await self.read(runs.read_run, run_id)

    async def list_runs(self, limit: int = 50, *, waiting: bool = False, blocked: bool = False) -> list[RunSummary]:
        """The newest runs first."""
        return await self.read(runs.list_runs, limit=limit, waiting=waiting, blocked=blocked)

    async def summary(self, run_id: str) -> RunSummary:
        """One line about one run."""
        found = await self.read(runs.list_runs, limit=1, run_id=run_id)
        if not found:
            msg = f"the ledger has no run {run_id!r}; `handfast runs` lists those it has"
            raise RunNotFound(msg)
        return found[0]

    async def settle_turn(self, run_id: str, new: NewTurn) -> SettledTurn:
        """Write down a model's answer; see `turns.settle_turn`."""
        anchor = await self._at_once(lambda: at_once.settle_turn(run_id, new))
        if anchor is not None:
            return SettledTurn(new.result.model_copy(update={"anchor": anchor}), mine=True)
        return SettledTurn(*await self.write(turns.settle_turn, run_id, new))

    async def record_unsettled(self, run_id: str, new: FailedSettlement) -> int:
        """Write down that an answer could not be settled; see `unsettled.record_unsettled`."""
        return await self.write(unsettled.record_unsettled, run_id, new)

    async def ask_and_close(self, run_id: str, new: NewTurn, close: CloseInput, *, execution: str = "") -> LastTurn:
        """Write down a turn that asks for nothing more, and how the run ended; see `joined.ask_and_close`."""
        return await self.write(joined.ask_and_close, run_id, new, close, execution=execution)

    async def record_repeat(
        self, run_id: str, turn: int, attempt: int, tokens: int, branches: Sequence[int] = ()
    ) -> None:
        """Count a model call that may have been paid twice."""
        await self.write(turns.record_repeat, run_id, turn, attempt, tokens, branches)

    async def record_failure(self, run_id: str, failure: reasons.Failure) -> int:
        """Write down what an error said; see `reasons.record_failure`."""
        return await self.write(reasons.record_failure, run_id, failure)

    async def begin_branch(self, run_id: str, turn: int, *, left: str = "", by: str = "", reason: str = "") -> int:
        """Leave everything from a turn on behind; see `branches.begin_branch`."""
        return await self.write(branches.begin_branch, run_id, turn, left=left, by=by, reason=reason)

    async def read_request(self, run_id: str) -> str:
        """The text that a run was asked with; empty once erased."""
        return await self.read(transcript.read_request_text, run_id)

    async def read_plan(self, run_id: str) -> AskedPlan:
        """The plan of a run, and what it was given; see `plans.read_plan`."""
        return await self.read(plans.read_plan, run_id)

    async def read_plan_opening(self, run_id: str, *, intents: bool) -> tuple[AskedPlan, PlanContext]:
        """The same, and what its first turn needs to know; see `plans.read_opening`."""
        return await self.read(plans.read_opening, run_id, intents=intents)

    async def read_plan_context(
        self, run_id: str, steps: Collection[str], *, intents: bool, keeps: bool = False
    ) -> PlanContext:
        """What a turn of a plan needs to know; see `plans.read_plan_context`."""
        return await self.read(plans.read_plan_context, run_id, steps, intents=intents, keeps=keeps)

    async def record_said(self, run_id: str, said_id: str, text: str, signed: str = "") -> Said:
        """Write down what the user says during a run, and what the client has signed of it."""
        return await self.write(transcript.record_said, run_id, said_id, text, signed)

    async def judge_request(self, run_id: str, judge: WordsJudge) -> None:
        """Look whose words a run's request is; see `words.judge_request`."""
        await self.write(words.judge_request, run_id, judge)

    async def judge_said(self, run_id: str, refs: Collection[int], judge: WordsJudge) -> None:
        """Look whose words were said to a run; see `words.judge_said`."""
        await self.write(words.judge_said, run_id, refs, judge)

    async def post(self, letter: Letter, peers: Collection[str]) -> tuple[str, int]:
        """Write a message down for another run; see `peers.post`."""
        return await self.write(peers_.post, letter, peers)

    async def read_context(
        self, run_id: str, turn: TurnInput, *, known: int, intents: bool, counted: Collection[str] = ()
    ) -> TurnContext:
        """What a turn needs to know; see `transcript.read_context`."""
        return await self.read(transcript.read_context, run_id, turn, known=known, intents=intents, counted=counted)

    async def read_result(self, run_id: str, operation_id: str) -> Any:
        """The whole content an operation was settled with; see `listing.read_result`."""
        return await self.read(listing.read_result, run_id, operation_id)

    async def read_material(self, run_id: str) -> Material:
        """What values of a run may have come from; see `provenance.read_material`."""
        return await self.read(provenance.read_material, run_id)

    async def read_labels(self, run_id: str) -> Labels:
        """What is in a run by now; see `provenance.read_labels`."""
        return await self.read(provenance.read_labels, run_id)

    async def read_labelled(self, run_id: str, operation_id: str) -> listing.Labelled:
        """The same, with what it brings into a run, and by which contract."""
        return await self.read(listing.read_labelled, run_id, operation_id)

    async def look_up(self, run_id: str, call: CallInput) -> Looked:
        """What stands about a call; see `looked.look_up`."""
        return await self.read(looked.look_up, run_id, call)

    async def reserve(
        self,
        run_id: str,
        call: CallInput,
        owner: str,
        lease_ms: int,
        version: str,
        *,
        seen: int,
        throttle: Throttle | None = None,
        alone: bool = False,
    ) -> int:
        """Write down that an attempt is about to act; see `operations.reserve`."""
        if throttle is None and not alone:
            until = entries.now_ms() + lease_ms
            if await self._at_once(lambda: at_once.reserve(run_id, call.id, owner, until, version, seen=seen)):
                return seen + 1
        try:
            return await self.write(
                operations.reserve, run_id, call, owner, lease_ms, version, seen=seen, throttle=throttle, alone=alone
            )
        except Throttled as held:
            if throttle is None or held.then != "wait" or not throttle.queues:
                raise
            wait_ms = await self.write(queue_up, throttle, call.id)
            raise Throttled(str(held), wait_ms or held.wait_ms) from held

    async def settle(self, run_id: str, operation_id: str, owner: str, new: Settlement, *, tool: str = "") -> Settled:
        """Write down what became of an operation; see `operations.settle`. Its tool's name, where it is known, makes that faster."""
        settled = await self._settle_at_once(run_id, operation_id, owner, new, tool)
        if settled is not None:
            return settled
        return await self.write(operations.settle, run_id, operation_id, owner, new)

    async def settle_and_ask(
        self, run_id: str, operation_id: str, owner: str, new: Settlement, ahead: TurnAhead, *, tool: str = ""
    ) -> SettledCall:
        """The same, and settle the turn that follows if all of its turn have succeeded; see `joined.settle_and_ask`.

        That it does not where both by themselves are faster.
        """
        settled = await self._settle_at_once(run_id, operation_id, owner, new, "" if ahead.joins else tool)
        if settled is not None:
            return SettledCall(call=settled)
        return await self.write(joined.settle_and_ask, run_id, operation_id, owner, new, ahead)

    async def _settle_at_once(
        self, run_id: str, operation_id: str, owner: str, new: Settlement, tool: str
    ) -> Settled | None:
        anchor = await self._at_once(lambda: at_once.settle(run_id, operation_id, owner, new, tool))
        return None if anchor is None else Settled(CallResult(outcome=new.outcome, anchor=anchor), mine=True)

    async def ask_ahead(self, run_id: str, ahead: TurnAhead) -> LastTurn | None:
        """Settle the turn that follows calls that have all succeeded; see `joined.ask_ahead`."""
        if not ahead.joins and ahead.close is None:
            return LastTurn(turn=await self.settle_turn(run_id, ahead.new))
        return await self.write(joined.ask_ahead, run_id, ahead)

    async def pend(
        self,
        run_id: str,
        operation_id: str,
        owner: str,
        reference: str,
        deadline_ms: int,
        *,
        background: bool = False,
    ) -> CallResult | None:
        """Write down that an operation's work goes on elsewhere; see `pending.pend`."""
        return await self.write(
            pending.pend, run_id, operation_id, owner, reference, deadline_ms, background=background
        )

    async def find_operation(self, operation_id: str) -> Begun | None:
        """An operation that was begun, in whatever run."""
        return await self.read(pending.find_operation, operation_id)

    async def release(
        self,
        run_id: str,
        operation_id: str,
        owner: str,
        code: str,
        *,
        attempt: int = 0,
        surely_not: bool,
        acted: bool = False,
    ) -> None:
        """Write down that an attempt failed and another follows; see `operations.release`."""
        await self.write(
            operations.release, run_id, operation_id, owner, code, attempt=attempt, surely_not=surely_not, acted=acted
        )

    async def record_checkpoint(
        self, run_id: str, operation_id: str, owner: str, number: int, value: Any, *, sent: int = 0
    ) -> None:
        """Keep a value for the next attempt; see `operations.record_checkpoint`."""
        await self.write(operations.record_checkpoint, run_id, operation_id, owner, number, value, sent=sent)

    async def fence(
        self,
        run_id: str,
        operation_id: str,
        reason: str,
        *,
        error: dict[str, Any] | None = None,
        absent: int | None = None,
    ) -> CallResult:
        """Close an operation to late attempts; see `operations.fence`."""
        return await self.write(operations.fence, run_id, operation_id, reason, error=error, absent=absent)

    async def hold(self, run_id: str, operation_id: str, reason: str = "", *, policy: int = 0) -> None:
        """Make a call wait for a person; see `decisions.hold`."""
        await self.write(decisions.hold, run_id, operation_id, reason, policy=policy)

    async def record_decision(self, run_id: str, decision: Decision, judge: Judge) -> CallResult:
        """Write down an approval or a rejection; see `decisions.record_decision`."""
        wanted = changed.refusal_with_change
        return await self.write(decisions.record_decision, run_id, decision, judge, wanted=wanted)

    async def list_waiting(
        self, *, tenant: str = "", agent: str = "", tool: str = "", run_id: str = "", limit: int = 1000
    ) -> list[WaitingCall]:
        """The calls that wait for a decision; see `inbox.list_waiting`."""
        return await self.read(inbox.list_waiting, tenant=tenant, agent=agent, tool=tool, run_id=run_id, limit=limit)

    async def record_resolution(self, run_id: str, resolution: Resolution, judge: Judge | None = None) -> CallResult:
        """Write down what became of an UNKNOWN operation; see `decisions.record_resolution`."""
        return await self.write(decisions.record_resolution, run_id, resolution, judge)

    async def read_answer(self, run_id: str) -> tuple[str, Any]:
        """The last words of a run; see `family.read_answer`."""
        return await self.read(family.read_answer, run_id)

    async def read_unfinished(self, run_ids: Sequence[str]) -> list[Unfinished]:
        """Those of these runs that are not over; see `unfinished.read_unfinished`."""
        return await self.read(unfinished.read_unfinished, run_ids)

    async def abandon(self, run_id: str, close: CloseInput) -> None:
        """Close a run whose workflow can't do it any more; see `unfinished.abandon`."""
        await self.write(unfinished.abandon, run_id, close)

    async def list_operations(self, run_id: str) -> list[Operation]:
        """The run's operations, with arguments and results."""
        return await self.read(listing.list_operations, run_id)

    async def list_failed(self, limit: int = 50) -> list[tuple[str, Operation]]:
        """Calls that failed for good, the newest first, each with its run."""
        return await self.read(listing.list_failed, limit)

    async def list_orphans(self, limit: int = 50) -> list[tuple[str, Operation]]:
        """Effects that no branch which goes on has asked for, the newest first, each with its run."""
        return await self.read(listing.list_orphans, limit)

    async def read_events(self, run_id: str, *, after: int = 0) -> list[Event]:
        """The run's entries behind a sequence number, oldest first."""
        found = await self.read(entries.read_entries, run_id, after=after)
        return [
            Event(
                run_id=run_id,
                sequence=entry.seq,
                kind=entry.kind,
                at=entries.moment(entry.at),
                reference=entry.ref,
                data=entry.meta,
                content=entry.content,
            )
            for entry in found
        ]

    async def verify(self, run_id: str, anchors: Sequence[Anchor] = ()) -> Verification:
        """Check one run's chain, and the anchors that Temporal's history holds, if given."""

        def check(connection: Connection) -> Verification:
            runs.read_run(connection, run_id)
            found = verify.verify_run(connection, run_id)
            more = verify.anchor_faults(connection, run_id, list(anchors))
            return found.model_copy(update={"faults": (*found.faults, *more), "anchors": len(anchors)})

        return await self.database.read(check)

    async def begin_served(self, call: ServedCall, *, abandoned_ms: int, again: bool) -> Standing:
        """What stands about a call for somebody else; see `served.begin`."""
        return await self.write(served.begin, call, abandoned_ms=abandoned_ms, again=again)

    async def answer_served(self, call: ServedCall, status: int, body: str) -> None:
        """Write its answer down; see `served.answer`."""
        await self.write(served.answer, call, status, body)

    async def withdraw_served(self, call: ServedCall) -> None:
        """Forget that it was begun; see `served.withdraw`."""
        await self.write(served.withdraw, call)

    async def take_place(self, tool: str, tenant: str, rates: Sequence[Rate]) -> int:
        """Take a place in a tool's windows; 0, or in how many milliseconds to come back."""
        try:
            await self.write(throttle.take, Throttle(tool=tool, tenant=tenant, user="", rates=rates), "")
        except Throttled as error:
            return error.wait_ms
        return 0

    async def run_ids(self) -> list[str]:
        """Every run id, also of runs whose row was removed but whose entries still stand."""

        def collect(connection: Connection) -> list[str]:
            return sorted(
                {*connection.execute(select(runs_table.c.run_id)).scalars()}
                | {*connection.execute(select(entries_table.c.run_id).distinct()).scalars()}
            )

        return await self.database.read(collect)

    async def erase(self, run_id: str) -> int:
        """Delete a closed run's contents; how many entries had some."""
        return await self.write(erase.erase_run, run_id)

    def open(self) -> "AbstractAsyncContextManager[AsyncConnection]":
        """A write transaction for `TRANSACTIONAL` tools."""
        return self.database.open()

    async def _at_once(self, make: Callable[[], DriverCall | None]) -> Anchor | None:
        entry = await self.database.at_once(make)
        return None if entry is None else (entry[0], entry[1][:ANCHOR_CHARACTERS])

    async def read(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """What a function of a connection finds, in a transaction of its own."""
        return await self.database.read(lambda connection: function(connection, *args, **kwargs))

    async def write(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a function of a connection that writes, in a transaction of its own."""

        def transaction(connection: Connection) -> T:
            return function(connection, *args, **kwargs)

        try:
            return await self.database.write(transaction)
        except LedgerRace:
            return await self.database.write(transaction)
