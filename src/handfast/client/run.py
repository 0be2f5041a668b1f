"""One run, as whoever started it or looks after it sees it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from temporalio.client import Client as TemporalClient
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from handfast.client.keyring import KeyRing, read_key
from handfast.client.refusals import clean_words, refusals
from handfast.client.reset import find_turn, reset_to
from handfast.contracts import names
from handfast.contracts.authority import remembered_text
from handfast.contracts.effects import RunStatus
from handfast.contracts.errors import (
    DecisionRefused,
    LedgerConflict,
    RunFailed,
    RunNotFound,
    SignatureRefused,
)
from handfast.contracts.grants import SigningKey, Verb, read_grant
from handfast.contracts.messages import Usage
from handfast.contracts.policy import Condition
from handfast.contracts.results import Event, Operation, RunResult, RunSummary, Stalled, Undo
from handfast.contracts.starting import MAX_TEXT
from handfast.contracts.texts import clean_text, clean_value
from handfast.contracts.wire import RunState
from handfast.contracts.wire_undo import RollbackRequest
from handfast.contracts.wire_words import Decision, Resolution, Said, UndoWord
from handfast.contracts.words import Words
from handfast.engine.rollback import start_rollback
from handfast.ledger import Ledger

FIRST_LOOK, LONGEST_LOOK = 0.02, 0.5
"""Seconds between looks at the ledger for new events: short after something happened, longer while nothing does."""


class Run:
    """A handle on one run. Making one costs nothing and checks nothing."""

    def __init__(self, temporal: TemporalClient, ledger: Ledger, run_id: str, task_queue: str, keys: KeyRing) -> None:
        self._temporal = temporal
        self._ledger = ledger
        self._task_queue = task_queue
        self._keys = keys
        self.id = run_id

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        """Temporal's own handle on the run's workflow."""
        return self._temporal.get_workflow_handle(self.id)

    async def summary(self) -> RunSummary:
        """One line about it.

        Raises:
            RunNotFound: The ledger knows no such run.
        """
        return await self._ledger.summary(self.id)

    async def operations(self) -> tuple[Operation, ...]:
        """Its tool calls with arguments, results and outcomes, in the order the model asked."""
        return tuple(await self._ledger.list_operations(self.id))

    async def children(self) -> tuple[RunSummary, ...]:
        """The runs that its calls are, the oldest first: agents that it has asked, plans that it has had carried out."""
        return tuple(await self._ledger.families.children(self.id))

    async def state(self) -> RunState:
        """Where its workflow stands now: turn, use, pause, and the calls that wait for a person."""
        with refusals(self.id):
            state: RunState = await self.handle.query(names.STATE, result_type=RunState)
        return await self._with_reasons(state) if state.waiting or state.blocked else state

    async def _with_reasons(self, state: RunState) -> RunState:
        """The same with the reasons as the ledger has them: Temporal has only what is no content of them."""
        waits = {one.operation_id: one.reason for one in await self.operations() if one.state == "waiting"}
        events = await self._ledger.read_events(self.id) if state.blocked else []
        stuck = {one.data["operation"]: _reason(one) for one in events if one.kind == "blocked"}
        waiting = (one.model_copy(update={"reason": waits.get(one.operation) or one.reason}) for one in state.waiting)
        blocked = (one.model_copy(update={"reason": stuck.get(one.operation) or one.reason}) for one in state.blocked)
        return state.model_copy(update={"waiting": tuple(waiting), "blocked": tuple(blocked)})

    async def stalled(self) -> tuple[Stalled, ...]:
        """What keeps failing at the moment, as Temporal shows it; nothing where its workflow is over, or not known."""
        try:
            description = await self.handle.describe()
        except RPCError:
            return ()
        return tuple(
            Stalled(activity=one.activity_type.name, attempts=one.attempt - 1, reason=one.last_failure.message[:300])
            for one in description.raw_description.pending_activities
            if one.attempt > 1 and one.HasField("last_failure")
        )

    async def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """Its ledger entries as they are written, until it is closed.

        Args:
            after: Only entries behind this sequence number: what a reader that was interrupted goes on from.
        """
        wait = FIRST_LOOK
        while True:
            found = await self._ledger.read_events(self.id, after=after)
            for event in found:
                after = event.sequence
                yield event
                if event.kind == "closed" and event is found[-1]:
                    return
            if not found and await self._over():
                return
            wait = FIRST_LOOK if found else min(wait * 1.5, LONGEST_LOOK)
            await asyncio.sleep(wait)

    async def result(self) -> RunResult:
        """Wait until it is closed, and say how.

        Raises:
            RunFailed: It ended with an error.
            RunNotFound: There is no such run.
        """
        await self._until_closed()
        summary = await self.summary()
        events = await self._ledger.read_events(self.id)
        closed = next((event for event in reversed(events) if event.kind == "closed"), None)
        reason = _reason(closed)
        if closed is None or summary.status is RunStatus.FAILED:
            raise RunFailed(f"run {self.id!r} failed: {reason or 'its workflow was ended from outside'}")
        text, output = await self._ledger.read_answer(self.id)
        undo = await self.undo()
        return RunResult(
            run_id=self.id,
            status=summary.status,
            text=text,
            output=output,
            limit=str(closed.data.get("limit", "")),
            reason=reason,
            turns=summary.turns,
            calls=summary.calls,
            tokens=summary.tokens,
            usage=sum(
                (Usage.model_validate(e.data["usage"]) for e in events if e.kind == "turn" and "usage" in e.data),
                Usage(),
            ),
            cost_usd=summary.cost_usd,
            operations=await self.operations(),
            undone=tuple(one for one in undo if one.undone),
            not_undone=tuple(one for one in undo if not one.undone),
        )

    async def undo(self) -> tuple[Undo, ...]:
        """What became of undoing it, the last call first; empty if nobody wanted it undone."""
        return tuple(await self._ledger.undoing.undone(self.id))

    async def say(self, text: str) -> None:
        """Say something to the model before its next turn. The text goes into the ledger, not into Temporal.

        Raises:
            DecisionRefused: There is nothing in it, or the run is ending.
        """
        text = clean_text(text)
        if not text.strip():
            raise DecisionRefused("there is nothing in it to say")
        if len(text) > MAX_TEXT:
            msg = f"a message of {len(text)} characters: allowed are {MAX_TEXT}; give large documents to a tool instead"
            raise DecisionRefused(msg)
        message = uuid.uuid4().hex
        signed = self._keys.sign(Words(run=self.id, message=message, told={"text": text}))
        said = await self._ledger.record_said(self.id, message, text, signed)
        await self._update(names.SAY, said)

    async def pause(self) -> None:
        """Start no further turn or call until resumed. Calls under way end."""
        await self._update(names.PAUSE)

    async def resume(self) -> None:
        """Go on after a pause."""
        await self._update(names.RESUME)

    async def decide(
        self,
        operation_id: str,
        *,
        approve: bool,
        digest: str = "",
        by: str = "",
        reason: str = "",
        key: SigningKey | Path | None = None,
        lasts: timedelta = timedelta(hours=1),
        remember: Mapping[str, Condition] | None = None,
        changed: Mapping[str, Any] | None = None,
    ) -> None:
        """Approve or reject a call that waits, with a signed grant.

        Returns once the ledger has it. A PRIVILEGED call goes on waiting where another person must agree, too.

        Args:
            operation_id: Which call.
            approve: Whether it may run.
            digest: The digest of the arguments that were looked at. Unless given, that of the call as it waits now.
            by: Who decides; recorded. Where people have keys of their own, the key says who.
            reason: Recorded, and told to the model on rejection.
            key: Whose word it is: a key, or the file of one. Unless given, that of the settings (`HANDFAST_KEY`); where nobody has a
                key yet, one is made for whoever sits here.
            lasts: For how long the grant counts if the call does not begin before.
            remember: Let an approval count for later calls of the tool in this run, too, as long as it lasts: those whose arguments
                fit these conditions. None at all fit every call. Not for PRIVILEGED calls.
            changed: Approve the call with these arguments in the place of the model's; those that are not named stay. The call is
                refused as it is, the model is told which arguments are wanted, and when it asks for just that, the new call runs.
                Not for PRIVILEGED calls.

        Raises:
            DecisionRefused: No such call waits, it waits with another digest, it was decided, or this key's word does not count.
        """
        by, reason = clean_words(by=by, reason=reason)
        word: Verb = "approve" if approve else "reject"
        if changed is not None:
            word = "change"
        grant = await self.grant(
            operation_id, word, digest=digest, reason=reason, key=key, lasts=lasts, remember=remember, changed=changed
        )
        await self.deliver(grant, by=by, reason=reason)

    async def grant(
        self,
        operation_id: str,
        word: Verb,
        *,
        digest: str = "",
        reason: str = "",
        key: SigningKey | Path | None = None,
        lasts: timedelta = timedelta(hours=1),
        remember: Mapping[str, Condition] | None = None,
        changed: Mapping[str, Any] | None = None,
    ) -> str:
        """A signed word on a call, to be delivered by anybody and through any channel. Nothing happens yet.

        Args:
            operation_id: Which call.
            word: What is said of it, such as `approve`.
            digest: As of `decide`.
            reason: What goes with it, which must be delivered with it.
            key: As of `decide`.
            lasts: As of `decide`.
            remember: As of `decide`.
            changed: As of `decide`, with the word `change`.

        Raises:
            DecisionRefused: There is no such call.
        """
        _, reason = clean_words(reason=reason)
        digest = digest or await self._digest_of(operation_id)
        if key is None:
            key = await self._keys.key()
        elif isinstance(key, Path):
            key = read_key(key)
        lasts_ms = round(lasts.total_seconds() * 1000)
        told = None if remember is None else remembered_text(remember)
        wanted = None if changed is None else await self._propose(operation_id, changed)
        return key.grant(
            self.id, operation_id, digest, word, reason=reason, lasts_ms=lasts_ms, remember=told, changed=wanted
        )

    async def deliver(self, grant: str, *, by: str = "", reason: str = "") -> None:
        """Hand in a word that somebody has signed.

        Args:
            grant: What `grant` has made, here or elsewhere.
            by: Who says so, where nobody has a key of their own.
            reason: Of a rejection: the one that was signed.

        Raises:
            DecisionRefused: It is no grant, or it does not count.
        """
        by, reason = clean_words(by=by, reason=reason)
        try:
            said = read_grant(grant)
        except SignatureRefused as error:
            raise DecisionRefused(str(error)) from error
        match said.word:
            case "approve" | "reject" | "change":
                decision = Decision(
                    operation=said.operation,
                    digest=said.digest,
                    approve=said.word == "approve",
                    by=by,
                    reason=reason,
                    grant=grant,
                    remember=said.remember is not None,
                    changed=said.changed or "",
                )
                await self._update(names.DECIDE, decision)
            case "happened" | "did not happen":
                happened = said.word == "happened"
                resolution = Resolution(operation=said.operation, happened=happened, by=by, note=reason, grant=grant)
                await self._update(names.RESOLVE, resolution)
            case "retry" | "skip" | "done":
                word = UndoWord(operation=said.operation, action=said.word, by=by, reason=reason, grant=grant)
                await self._unblock(word)

    async def resolve(
        self, operation_id: str, *, happened: bool, by: str = "", note: str = "", key: SigningKey | Path | None = None
    ) -> None:
        """Say what became of a call whose outcome is UNKNOWN, after looking. The word is signed, as of `decide`.

        Raises:
            DecisionRefused: No such call waits for that, or this key's word does not count.
        """
        by, note = clean_words(by=by, reason=note)
        resolution = Resolution(operation=operation_id, happened=happened, by=by, note=note)
        stuck = await self._stuck(operation_id)
        if stuck is not None and stuck.child:
            await self._child(stuck.child).resolve(operation_id, happened=happened, by=by, note=note, key=key)
            return
        if stuck is not None:
            # It could not be undone as long as nobody knew.
            await self._ledger.record_resolution(self.id, resolution)
            await self.unblock(operation_id, "retry", by=by, reason=note, key=key)
            return
        summary = await self.summary()
        orphaned = any(o.operation_id == operation_id and o.left_by for o in await self.operations())
        if summary.status.closed or orphaned:
            await self._ledger.record_resolution(self.id, resolution)
            return
        word: Verb = "happened" if happened else "did not happen"
        await self.deliver(await self.grant(operation_id, word, reason=note, key=key), by=by, reason=note)

    async def cancel(self, *, undo: bool | None = None) -> None:
        """Ask it to end: no further call is started, those under way are told to stop and waited for.

        A run that completes before it hears of that has completed: `result` says so, and `rollback` undoes it then.

        Args:
            undo: Whether what it did is then undone. Unless said, as its agent says.
        """
        with refusals(self.id):
            if undo is not None:
                await self.handle.signal(names.UNDO, undo)
            await self.handle.cancel()

    async def rollback(self, *, to: str = "", by: str = "", reason: str = "") -> None:
        """Undo what it did, as far as its tools name a `compensate=`: a run that goes on is cancelled for that, and waited for.

        Also after its end, however it ended. Said again, it goes on with what is still owed. `Run.undo` and `handfast show` tell
        what became of it, `Ledger.undoing.owed` what would be undone.

        Args:
            to: Only the calls after this operation, of a run that is over. Unless said, all of them.
            by: Who wants it; recorded.
            reason: Recorded.

        Raises:
            RunNotFound: There is no such run.
            DecisionRefused: It has no operation `to`, or it goes on and can only be undone as a whole.
            EngineUnavailable: Temporal does not answer; say it again.
        """
        by, reason = clean_words(by=by, reason=reason)
        summary = await self.summary()
        await self._ledger.undoing.owed(self.id, to)
        if not summary.status.closed and not await self._over():
            if to:
                msg = f"run {self.id!r} goes on: cancel it first, or roll it back as a whole"
                raise DecisionRefused(msg)
            # It may complete before it hears of that: then it is undone all the same.
            request = RollbackRequest(by=by, reason=reason, ends=True)
        else:
            request = RollbackRequest(by=by, reason=reason, to=to)
        with refusals(self.id):
            await start_rollback(self._temporal, self.id, request, self._task_queue)

    async def unblock(
        self,
        operation_id: str,
        action: Literal["retry", "skip", "done"],
        *,
        by: str = "",
        reason: str = "",
        key: SigningKey | Path | None = None,
    ) -> None:
        """Say what becomes of a call that could not be undone. The word is signed, as of `decide`.

        Args:
            operation_id: The call that was to be undone, of this run or of one that it has begun.
            action: `retry` tries it again; `skip` leaves what it did as it is; `done` says that it was undone by hand.
            by: Who says so; recorded.
            reason: Recorded; `skip` needs one.
            key: As of `decide`.

        Raises:
            DecisionRefused: The call does not wait for that, `skip` has no reason, or this key's word does not count.
        """
        by, reason = clean_words(by=by, reason=reason)
        if action == "skip" and not reason.strip():
            msg = "skip needs a reason: it is recorded with what stays as it is"
            raise DecisionRefused(msg)
        stuck = await self._stuck(operation_id)
        if stuck is not None and stuck.child:
            await self._child(stuck.child).unblock(operation_id, action, by=by, reason=reason, key=key)
            return
        await self.deliver(await self.grant(operation_id, action, reason=reason, key=key), by=by, reason=reason)

    async def _unblock(self, word: UndoWord) -> None:
        closed = (await self.summary()).status.closed or await self._over()
        handle = self._temporal.get_workflow_handle(f"{names.ROLLBACK_PREFIX}{self.id}") if closed else self.handle
        with refusals(self.id):
            await handle.execute_update(names.UNBLOCK, word)

    async def reset(self, turn: int, *, by: str = "", reason: str = "") -> None:
        """Go back to a turn and let the model think it again, also after the end. What was done since is not undone.

        An effect that the new branch asks for again, with the same arguments, is not repeated: it takes over what became of it.
        Effects it does not ask for again are orphans: `Ledger.list_orphans`, `handfast runs --orphans`. A reset in Temporal itself
        is no such step: it repeats no settled turn and no effect.

        Args:
            turn: The first turn that is thought again, from 1.
            by: Who wants it; recorded.
            reason: Recorded.

        Raises:
            RunNotFound: There is no such run, or Temporal no longer has that turn.
            DecisionRefused: The run has no such turn.
            EngineUnavailable: Temporal does not answer; say it again.
        """
        by, reason = clean_words(by=by, reason=reason)
        await self.summary()
        with refusals(self.id):
            point = await find_turn(self._temporal, self.id, turn)
            if point is None:
                msg = f"run {self.id!r} has no turn {turn} that Temporal still has: start a new run instead"
                raise RunNotFound(msg)
            try:
                branch = await self._ledger.begin_branch(self.id, turn, left=point.latest, by=by, reason=reason)
            except LedgerConflict as error:
                raise DecisionRefused(str(error)) from error
            await reset_to(self._temporal, self.id, point, branch, reason or "handfast reset")

    def _child(self, run_id: str) -> "Run":
        return Run(self._temporal, self._ledger, run_id, self._task_queue, self._keys)

    async def _stuck(self, operation_id: str) -> Undo | None:
        """The call of that id if it could not be undone, of this run or of one that it has begun."""
        return next((one for one in await self.undo() if one.operation == operation_id and one.blocked), None)

    async def _propose(self, operation_id: str, changed: Mapping[str, Any]) -> str:
        """Write down the arguments that are wanted; their digest."""
        asked = next((one for one in await self.operations() if one.operation_id == operation_id), None)
        arguments: dict[str, Any] = {**(asked.arguments if asked is not None else {}), **clean_value(dict(changed))}
        return await self._ledger.permissions.propose_change(self.id, operation_id, arguments)

    async def _digest_of(self, operation_id: str) -> str:
        for operation in await self.operations():
            if operation.operation_id == operation_id:
                return operation.digest
        msg = f"run {self.id!r} has no operation {operation_id!r}; `handfast show {self.id}` lists them"
        raise DecisionRefused(msg)

    async def _update(self, name: str, *args: Said | Decision | Resolution) -> None:
        with refusals(self.id):
            await self.handle.execute_update(name, args=args)

    async def _over(self) -> bool:
        """Whether the workflow ended without the ledger's knowing, terminated for instance."""
        summary = await self.summary()
        if summary.status.closed:
            return False
        try:
            description = await self.handle.describe()
        except RPCError:
            return False
        return description.close_time is not None and not (await self.summary()).status.closed

    async def _until_closed(self) -> None:
        summary = await self.summary()
        if summary.status.closed:
            return
        with refusals(self.id):
            try:
                await self.handle.result()
            except RPCError:
                raise
            except Exception:  # noqa: BLE001 - how it ended is read from the ledger, whichever way Temporal puts it
                return


def _reason(closed: Event | None) -> str:
    content: dict[str, str] = closed.content if closed is not None and closed.content else {}
    return content.get("reason", "")
