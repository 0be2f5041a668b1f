"""The way in for programs: connect, start runs, find them again."""

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from temporalio.client import Client as TemporalClient
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)  # fmt: skip
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from handfast.client.keyring import KeyRing
from handfast.client.run import Run
from handfast.client.trace import trace
from handfast.contracts import names
from handfast.contracts.audit import Audit
from handfast.contracts.called_from import NOWHERE, CalledFrom
from handfast.contracts.effects import Outcome, RunStatus
from handfast.contracts.errors import DecisionRefused, EngineUnavailable, RunError, RunIdTaken, SignatureRefused
from handfast.contracts.grants import read_grant
from handfast.contracts.identity import canonical_json
from handfast.contracts.plan import Plan, require_request
from handfast.contracts.policy import parse_policy
from handfast.contracts.results import Origin, RunResult, RunSummary, WaitingCall
from handfast.contracts.starting import MAX_RUN_ID, start_fault
from handfast.contracts.texts import clean_text, clean_value
from handfast.contracts.timing import TASK_TIME
from handfast.contracts.wire import PlanRequest, RunRequest
from handfast.contracts.words import Words
from handfast.engine.connect import Engine, connect
from handfast.ledger import Ledger, NewRun
from handfast.ledger.policies import PolicyVersion
from handfast.settings import Settings, load_settings
from handfast.telemetry import agent_span, current_trace_id


class Client:
    """Starts runs and finds them again. Make one with `Client.connect`."""

    def __init__(self, temporal: TemporalClient, ledger: Ledger, settings: Settings, engine: Engine) -> None:
        self.temporal = temporal
        self.ledger = ledger
        self.settings = settings
        self.engine = engine
        self.keys = KeyRing(ledger, settings)

    @classmethod
    async def connect(
        cls, address: str = "", *, ledger_url: str = "", task_queue: str = "", settings: Settings | None = None
    ) -> "Client":
        """Connect to Temporal and to the ledger.

        Args:
            address: Temporal's `HOST:PORT`. Unless given, Temporal's environment configuration says it
                (`TEMPORAL_ADDRESS` and so on), or the embedded engine that runs here.
            ledger_url: The ledger. Unless given, `HANDFAST_LEDGER_URL`, or the embedded engine's.
            task_queue: Where runs are started. Unless given, `HANDFAST_TASK_QUEUE`, or `handfast`.
            settings: Instead of the environment.

        Raises:
            EngineUnavailable: No Temporal server answers.
            LedgerError: The ledger does not answer, or has other tables than this version needs.
            SettingsError: A setting does not fit.
        """
        settings = settings or load_settings()
        given = {"ledger_url": ledger_url, "task_queue": task_queue}
        settings = settings.model_copy(update={name: value for name, value in given.items() if value})
        temporal, engine = await connect(settings, address)
        ledger = Ledger.connect(settings.ledger)
        try:
            await ledger.require_newest()
        except BaseException:
            await ledger.close()
            raise
        return cls(temporal, ledger, settings, engine)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the ledger."""
        await self.ledger.close()

    def run(self, run_id: str) -> Run:
        """A handle on a run that was started before."""
        return Run(self.temporal, self.ledger, run_id, self.settings.task_queue, self.keys)

    async def set_policy(self, text: str, *, by: str = "") -> PolicyVersion:
        """Let another policy hold for every agent, beside what each says of itself: of both, the stricter counts.

        Workers go by it within two seconds: for new calls, for calls that are about to begin, and for those that wait for a person.
        What it refuses is refused, what need no longer wait goes on.

        Args:
            text: TOML, as in a file that `handfast policy check` accepts; empty to take the policy away.
            by: Who says so; recorded.

        Raises:
            ContractError: It is no policy, with every fault.
        """
        text, by = clean_text(text), clean_text(by)
        if text.strip():
            parse_policy(text)
        version = await self.ledger.installation.set_policy(text if text.strip() else "", by)
        await self.review()
        return version

    async def inbox(
        self, *, tenant: str = "", agent: str = "", tool: str = "", run_id: str = "", limit: int = 1000
    ) -> list[WaitingCall]:
        """The calls that wait for a person's decision, the oldest first, over all runs."""
        return await self.ledger.list_waiting(tenant=tenant, agent=agent, tool=tool, run_id=run_id, limit=limit)

    async def audit(
        self, since: datetime, until: datetime | None = None, *, tenant: str = "", verify: bool = True
    ) -> Audit:
        """A security report over a period, without contents: who ran what on whose behalf, what decided, who agreed, what was refused.

        Args:
            since: Its begin, with a time zone.
            until: Its end; now unless given.
            tenant: Only this tenant's runs.
            verify: Recompute the chain of every run of the period.
        """
        return await self.ledger.installation.audit(since, until or datetime.now(UTC), tenant, check=verify)

    async def trace(self, call: WaitingCall) -> list[Origin]:
        """Where the arguments of a waiting call came from: the user's words, a result's field, words of others, or the model."""
        return await trace(self.ledger, call)

    async def deliver(self, grant: str, *, by: str = "", reason: str = "") -> None:
        """Hand in a word that somebody has signed, wherever it came from; see `Run.deliver`.

        Raises:
            DecisionRefused: It is no grant, or it does not count.
        """
        try:
            run_id = read_grant(grant).run
        except SignatureRefused as error:
            raise DecisionRefused(str(error)) from error
        await self.run(run_id).deliver(grant, by=by, reason=reason)

    async def review(self) -> int:
        """Let every run that waits for a person look whether its calls still must. How many were told.

        For calls that wait although the policy of their agent was loosened by a deployment; `set_policy` does it by itself.
        """
        told = 0
        for run_id in await self.ledger.installation.runs_that_wait():
            with contextlib.suppress(RPCError):
                await self.temporal.get_workflow_handle(run_id).signal(names.REVIEW)
                told += 1
        return told

    async def start(
        self,
        agent: str,
        text: str,
        *,
        user: str = "",
        tenant: str = "default",
        id: str = "",  # noqa: A002 - the public name; a run's id is an id
        called_from: CalledFrom = NOWHERE,
        continue_after_turns: int = 0,
    ) -> Run:
        """Start a run. The text goes into the ledger; Temporal gets a reference.

        Args:
            agent: The agent's name.
            text: The request.
            user: Who it is for.
            tenant: The tenant it belongs to.
            id: The run's id. The same id with the same request is the same run, however often it is started.
            called_from: From where it is asked for, as the service that calls this knows it.
            continue_after_turns: Continue as new after so many turns, for tests; else when Temporal suggests it.

        Raises:
            RunIdTaken: The id belongs to another request.
            RunError: The request can't be started as it is.
            EngineUnavailable: Temporal does not answer; the request is kept, and the same start again goes on.
        """
        run_id = id or f"{agent}-{uuid.uuid4().hex[:12]}"
        text, user, tenant = clean_text(text), clean_text(user), clean_text(tenant)
        _require_startable(run_id, text, agent=agent, user=user, tenant=tenant)
        return await self._start(
            NewRun(run_id=run_id, agent=agent, text=text, user=user, tenant=tenant, called_from=called_from),
            continue_after_turns,
        )

    async def start_plan(
        self,
        plan: Plan,
        request: Mapping[str, Any] | None = None,
        *,
        agent: str = "",
        user: str = "",
        tenant: str = "default",
        id: str = "",  # noqa: A002 - as in `start`
        called_from: CalledFrom = NOWHERE,
        continue_after_turns: int = 0,
    ) -> Run:
        """Start a run that carries out a plan. Plan and request go into the ledger; Temporal gets a reference.

        Args:
            plan: What is to be done; `read_plan` reads one from a file. The worker checks it before anything runs.
            request: What the plan is given.
            agent: In whose name; the plan's own unless said.
            user: Who it is for.
            tenant: The tenant it belongs to.
            id: The run's id. The same id with the same plan and request is the same run.
            called_from: As of `start`.
            continue_after_turns: Continue as new after so many turns, for tests; else when Temporal suggests it.

        Raises:
            RunIdTaken: The id belongs to another request.
            RunError: No agent is named, or the request does not fit the plan.
            EngineUnavailable: Temporal does not answer; the request is kept, and the same start again goes on.
        """
        agent = agent or plan.agent
        if not agent:
            msg = f"plan {plan.name!r} names no agent: say in whose name it is carried out"
            raise RunError(msg)
        try:
            require_request(plan, request or {})
            asked = {"plan": plan.model_dump(mode="json", exclude_defaults=True), "request": dict(request or {})}
            told = canonical_json(clean_value(asked))
        except (TypeError, ValueError) as error:
            raise RunError(str(error)) from error
        run_id = id or f"{plan.name}-{uuid.uuid4().hex[:12]}"
        text, user, tenant = f"plan {plan.name}", clean_text(user), clean_text(tenant)
        _require_startable(run_id, told, agent=agent, user=user, tenant=tenant)
        new = NewRun(
            run_id=run_id, agent=agent, text=text, user=user, tenant=tenant, plan=told, called_from=called_from
        )
        return await self._start(new, continue_after_turns)

    async def redrive(self, run_id: str, operation_id: str, *, id: str = "") -> Run:  # noqa: A002 - as in `start`
        """Carry a call out again that failed for good: in a new run of the same agent, which begins with that call.

        It is judged, gated and carried out like any call, as an operation of its own, and the model hears what became of it.

        Args:
            run_id: The run whose call failed.
            operation_id: The call.
            id: The new run's id; made from both unless said, so that the same call is carried out again once.

        Raises:
            RunNotFound: There is no such run.
            DecisionRefused: It is no call of the run that failed for good.
            EngineUnavailable: Temporal does not answer; say it again.
        """
        old = await self.ledger.read_run(run_id)
        failed = next((o for o in await self.ledger.list_operations(run_id) if o.operation_id == operation_id), None)
        if failed is None or failed.outcome is not Outcome.FAILED or not failed.version:
            state = "no call of it" if failed is None else f"{failed.outcome or failed.state}, not FAILED"
            msg = (
                f"operation {operation_id!r} of run {run_id!r} is {state}; "
                "`handfast runs --failed` lists what can be carried out again"
            )
            raise DecisionRefused(msg)
        new = NewRun(
            run_id=id or f"{run_id[: MAX_RUN_ID - 44]}-again-{operation_id}",
            agent=old.agent,
            text=f"Carry out again the call of {failed.tool} that failed in run {run_id}, and say what became of it.",
            user=old.user,
            tenant=old.tenant,
            again=operation_id,
            called_from=old.called_from,
        )
        return await self._start(new, 0)

    async def _start(self, new: NewRun, continue_after_turns: int) -> Run:
        with agent_span(new.agent, new.run_id):
            signed = self.keys.sign(Words(run=new.run_id, told=new.told))
            row = await self.ledger.request_run(replace(new, trace_id=current_trace_id(), signed=signed))
            if row.status is not RunStatus.REQUESTED:
                return self.run(new.run_id)
            kind = PlanRequest if new.plan else RunRequest
            request = kind(
                agent=new.agent,
                user=new.user,
                tenant=new.tenant,
                by_reference=True,
                continue_after_turns=continue_after_turns,
            )
            await self._start_workflow(new.run_id, request)
        return self.run(new.run_id)

    async def execute(self, agent: str, text: str, **options: Any) -> RunResult:
        """Start a run and wait for its result; see `start` and `Run.result`."""
        run = await self.start(agent, text, **options)
        return await run.result()

    async def runs(self, limit: int = 50, *, waiting: bool = False, blocked: bool = False) -> list[RunSummary]:
        """The newest runs first; with `waiting`, only those that wait for a person, with `blocked` those that could not be undone."""
        return await self.ledger.list_runs(limit, waiting=waiting, blocked=blocked)

    async def _start_workflow(self, run_id: str, request: RunRequest | PlanRequest) -> None:
        attributes = [
            SearchAttributePair(SearchAttributeKey.for_keyword(names.SEARCH_AGENT), request.agent),
            SearchAttributePair(SearchAttributeKey.for_keyword(names.SEARCH_STATUS), str(RunStatus.RUNNING)),
            SearchAttributePair(SearchAttributeKey.for_keyword(names.SEARCH_TENANT), request.tenant),
        ]
        try:
            await self.temporal.start_workflow(
                names.AGENT_RUN if isinstance(request, RunRequest) else names.PLAN_RUN,
                request,
                id=run_id,
                task_queue=self.settings.task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes(attributes),
                task_timeout=TASK_TIME,
            )
        except WorkflowAlreadyStartedError:
            # It has already run and closed; the ledger knows how.
            await self._require_ours(run_id)
        except RPCError as error:
            msg = (
                f"Temporal did not take run {run_id!r}: {error.message}. Its request is kept: "
                "start it again with the same id and text"
            )
            raise EngineUnavailable(msg) from error

    async def _require_ours(self, run_id: str) -> None:
        """Refuse a run of which Temporal says that it has completed, and this ledger that it never began: nobody would ever end it."""
        status = None
        with contextlib.suppress(RPCError):
            status = (await self.temporal.get_workflow_handle(run_id).describe()).status
        if status is not WorkflowExecutionStatus.COMPLETED:
            return
        if (await self.ledger.read_run(run_id)).status is RunStatus.REQUESTED:
            msg = (
                f"run id {run_id!r} is of a workflow that has completed, and this ledger knows nothing of that: do "
                "HANDFAST_LEDGER_URL and TEMPORAL_ADDRESS belong together? If so, start the request under a new id"
            )
            raise RunIdTaken(msg)


def _require_startable(run_id: str, text: str, *, agent: str, user: str, tenant: str) -> None:
    if fault := start_fault(run_id, agent=agent, text=text, user=user, tenant=tenant):
        raise RunError(fault)
