"""A worker: serves runs of its agents, turns of their models and calls of their tools."""

import os
import socket
from collections.abc import Callable, Iterable
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from handfast.activities.boundary import Boundary
from handfast.activities.bugs import bounded
from handfast.activities.call_tool import call_tool
from handfast.activities.children import begin_child, end_child
from handfast.activities.decide import fence, record_decision
from handfast.activities.failures import FailuresToLedger
from handfast.activities.model_turn import model_turn
from handfast.activities.open_run import close_run, open_run
from handfast.activities.peers import send_message, wait_for_message
from handfast.activities.plan_turn import open_plan, plan_turn
from handfast.activities.read_result import read_result
from handfast.activities.review import review
from handfast.activities.savepoints import roll_back, savepoint
from handfast.activities.undo import begin_undo, compensate
from handfast.contracts import names
from handfast.contracts.agent import Agent
from handfast.contracts.errors import ContractError
from handfast.contracts.faults import HIDEABLE
from handfast.contracts.plan_steps import PlanTurnInput
from handfast.contracts.registry import Registry, ToolVersions
from handfast.contracts.upstream import Upstream
from handfast.contracts.wire import (
    CallInput,
    CallResult,
    ChildBegun,
    ChildInput,
    CloseInput,
    FenceInput,
    Opened,
    OpenedPlan,
    OpenInput,
    RunClosed,
    TurnInput,
    TurnResult,
)
from handfast.contracts.wire_undo import UndoInput, Undone, UndoPlan
from handfast.contracts.wire_words import RecordDecision
from handfast.ledger import Ledger
from handfast.llm.pricing import require_price
from handfast.llm.resolve import Models
from handfast.settings import Settings
from handfast.workers.extras import require_extras
from handfast.workflows.agent_run import AgentRun
from handfast.workflows.plan_run import PlanRun
from handfast.workflows.rollback_run import RollbackRun

BUILT_IN = (read_result, savepoint, roll_back, send_message, wait_for_message)
EAGER_CALLS = 10
"""How many calls of one turn may start on this worker without a detour over the server; the SDK's default is 3."""


def make_boundary(agents: Iterable[Agent], ledger: Ledger, settings: Settings) -> Boundary:
    """What the activities share, with every agent and tool checked.

    Raises:
        ContractError: The agents don't fit together, or the cost of a model can't be counted.
        SettingsError: An extra that they need is not installed.
    """
    registry = Registry(agents)
    models = Models(anthropic_api_key=settings.anthropic_api_key, anthropic_base_url=settings.anthropic_base_url)
    for agent in registry.agents.values():
        require_price(agent)
        _require_hideable(agent)
        # Made now: importing a provider's SDK in the first turn would stop the event loop, and every heartbeat with it.
        models.of(agent)
    upstreams = {**_upstreams_of(registry), **settings.upstreams}
    require_extras(registry.agents)
    boundary = Boundary(
        ledger=ledger,
        registry=registry,
        models=models,
        upstreams=upstreams,
        heartbeat_seconds=settings.heartbeat_seconds,
        gateway_url=settings.gateway_url,
        secrets=settings.secrets,
        approvers=settings.approvers,
    )
    if boundary.upstreams:
        # The same for the HTTP client: the first call would pay for it with its own time limit.
        _ = boundary.http
    return boundary


def _require_hideable(agent: Agent) -> None:
    """Find out now, and make ready, what is to recognise personal data that contracts hide.

    Raises:
        ContractError: It is not installed, or knows no such data.
    """
    wanted = {(tool.name, kind) for tool in agent.tools for kind in tool.hides if kind not in HIDEABLE}
    if not wanted:
        return
    from handfast.tools.presidio import recognisable

    known = recognisable()
    faults = [
        f"{name}: hides names {kind!r}, which nothing recognises by its form; allowed are {', '.join(sorted(known))}"
        for name, kind in sorted(wanted)
        if kind not in known
    ]
    if faults:
        raise ContractError(f"agent {agent.name!r}", faults)


def _upstreams_of(registry: Registry) -> dict[str, Upstream]:
    """The HTTP services that come with the tools and with what they fall back on."""
    tools = [tool for versions in registry.tools.values() for tool in versions]
    tools += [tool.fallback for tool in tools if tool.fallback is not None]
    return {name: one for tool in tools for name, one in tool.upstreams.items()}


def sandboxed_runner() -> WorkflowRunner:
    """A runner that refuses what is not deterministic in workflow code; for tests, as it costs a quarter more CPU."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules("handfast.contracts", "pydantic")
    return SandboxedWorkflowRunner(restrictions=restrictions)


def make_worker(
    client: Client,
    boundary: Boundary,
    settings: Settings,
    *,
    task_queue: str = "",
    workflow_runner: WorkflowRunner | None = None,
) -> Worker:
    """A Temporal worker for the boundary's agents and tools. Workflows run unsandboxed unless another runner is given."""
    deployment = _deployment_of(settings)
    queue = task_queue or settings.task_queue
    return Worker(
        client,
        task_queue=queue,
        max_task_queue_activities_per_second=_pace_of(boundary, queue),
        workflows=[AgentRun, PlanRun, RollbackRun],
        activities=[*_engine_activities(boundary), *(_tool_activity(boundary, t) for t in _tools(boundary))],
        interceptors=[FailuresToLedger(boundary.ledger)],
        workflow_runner=workflow_runner or UnsandboxedWorkflowRunner(),
        max_cached_workflows=settings.max_cached_runs,
        max_concurrent_activities=settings.max_concurrent_calls,
        max_concurrent_local_activities=settings.max_concurrent_calls,
        max_eager_activity_reservations_per_workflow_task=EAGER_CALLS,
        max_heartbeat_throttle_interval=timedelta(seconds=1),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=settings.sticky_seconds),
        graceful_shutdown_timeout=timedelta(seconds=settings.drain_seconds),
        identity=f"{os.getpid()}@{socket.gethostname()[:24]}",
        deployment_config=deployment,
        build_id=None if deployment else _build_id(),
    )


def _deployment_of(settings: Settings) -> WorkerDeploymentConfig | None:
    """The version that this worker has in its deployment; `None` if it belongs to none."""
    if not settings.deployment:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=settings.deployment, build_id=settings.build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


def _build_id() -> str:
    """What Temporal records as the version of the workflow code, such as `handfast-0.1.0`.

    Agents are data, so the workflow code is this package. Without a build id, the SDK hashes the code of every loaded
    module: 0.1 s at each start, 1.8 s where Python may not write bytecode.
    """
    return f"handfast-{version('handfast')}"


def _pace_of(boundary: Boundary, queue: str) -> float | None:
    """How many activities a second Temporal gives out of the queue of a tool with a rate of its own, over all workers.

    The rate itself is kept in the ledger, exactly. This spares calls that wait the way to a worker and back.
    """
    named = {name for name, versions in boundary.registry.tools.items() if versions.newest.queue == queue}
    if len(named) != 1:
        return None
    rates = boundary.registry.tools[named.pop()].newest.rates
    return min((rate.count / rate.per.total_seconds() for rate in rates if rate.each == "tool"), default=None)


def _tools(boundary: Boundary) -> list[ToolVersions]:
    """The tools that have an activity; calls that are runs of their own have none."""
    own = [versions for versions in boundary.registry.tools.values() if versions.newest.child is None]
    return [*own, *(ToolVersions(one) for one in BUILT_IN)]


def _tool_activity(boundary: Boundary, versions: ToolVersions) -> Callable[..., Any]:
    @activity.defn(name=versions.newest.name)
    async def run(call: CallInput) -> CallResult:
        return await call_tool(boundary, versions, call)

    return run


def _engine_activities(boundary: Boundary) -> list[Callable[..., Any]]:
    @activity.defn(name=names.OPEN_RUN)
    async def open_(given: OpenInput) -> Opened:
        with bounded("opening the run"):
            return await open_run(boundary, given)

    @activity.defn(name=names.MODEL_TURN)
    async def turn_(turn: TurnInput) -> TurnResult:
        return await model_turn(boundary, turn)

    @activity.defn(name=names.RECORD_DECISION)
    async def decide_(record: RecordDecision) -> CallResult | Undone:
        return await record_decision(boundary, record)

    @activity.defn(name=names.REVIEW_CALL)
    async def review_(call: CallInput) -> CallResult:
        return await review(boundary, call)

    @activity.defn(name=names.FENCE)
    async def fence_(fence_input: FenceInput) -> CallResult:
        return await fence(boundary, fence_input)

    @activity.defn(name=names.BEGIN_UNDO)
    async def begin_undo_(given: UndoInput) -> UndoPlan:
        return await begin_undo(boundary, given)

    @activity.defn(name=names.COMPENSATE)
    async def compensate_(call: CallInput) -> Undone:
        return await compensate(boundary, call)

    @activity.defn(name=names.CLOSE_RUN)
    async def close_(close: CloseInput) -> RunClosed:
        return await close_run(boundary, close)

    @activity.defn(name=names.OPEN_PLAN)
    async def open_plan_(given: OpenInput) -> OpenedPlan:
        with bounded("opening the plan"):
            return await open_plan(boundary, given)

    @activity.defn(name=names.PLAN_TURN)
    async def plan_turn_(turn: PlanTurnInput) -> TurnResult:
        with bounded("a turn of the plan"):
            return await plan_turn(boundary, turn)

    @activity.defn(name=names.BEGIN_CHILD)
    async def begin_child_(given: ChildInput) -> ChildBegun:
        with bounded("beginning a child run"):
            return await begin_child(boundary, given)

    @activity.defn(name=names.END_CHILD)
    async def end_child_(given: ChildInput) -> CallResult:
        return await end_child(boundary, given)

    return [
        open_, open_plan_, plan_turn_, turn_, decide_, review_, fence_, begin_undo_, compensate_, close_, begin_child_, end_child_,
    ]  # fmt: skip
