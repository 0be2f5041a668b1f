"""A new version is deployed while a run is under way: the turn ends on the old one, the run goes on on the new one."""

import asyncio
import uuid
from importlib.metadata import version as installed
from typing import Any

import pytest
from temporalio.api.enums.v1 import RoutingConfigUpdateState
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client as TemporalClient
from temporalio.service import RPCError

from handfast import Agent, Effect, Script, SettingsError, Tier, ask, tool
from handfast.settings import load_settings
from tests.conftest import OpenShop, until

COMPLETED = RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_COMPLETED


async def set_current(temporal: TemporalClient, deployment: str, build_id: str) -> None:
    """What a deploy does once the new version's workers are there; waits until every queue knows."""
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=temporal.namespace, deployment_name=deployment, build_id=build_id, identity="deploy"
    )

    async def accepted() -> bool:
        try:
            await temporal.workflow_service.set_worker_deployment_current_version(request)
        except RPCError:
            return False  # the version's first poll has not arrived yet
        return True

    async def known_everywhere() -> bool:
        found = await temporal.workflow_service.describe_worker_deployment(
            DescribeWorkerDeploymentRequest(namespace=temporal.namespace, deployment_name=deployment)
        )
        return found.worker_deployment_info.routing_config_update_state == COMPLETED

    await until(accepted, seconds=30)
    await until(known_everywhere, seconds=30)


async def test_a_run_moves_to_the_new_version_after_its_turn_and_loses_nothing(shop: OpenShop) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    served: list[str] = []

    def version(build: str) -> Agent:
        @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
        async def act(n: int) -> str:
            """Act."""
            served.append(f"{n} on {build}")
            if n == 1:
                begun.set()
                await go_on.wait()
            return build

        script = Script([ask("act", n=1), ask("act", n=2), ask("act", n=3), f"answered by {build}"])
        return Agent(name="a", model=script, instructions="x", tools=[act])

    deployment = f"d-{uuid.uuid4().hex[:8]}"
    place: dict[str, Any] = {"task_queue": deployment, "deployment": deployment}
    old = await shop(version("one"), build_id="one", **place)
    await set_current(old.client.temporal, deployment, "one")
    run = await old.client.start("a", "Go", id=f"run-{deployment}")
    await begun.wait()
    new = await shop(version("two"), build_id="two", **place)
    await set_current(new.client.temporal, deployment, "two")
    go_on.set()
    result = await asyncio.wait_for(run.result(), 60)
    assert served == ["1 on one", "2 on two", "3 on two"]
    assert (result.text, result.turns, result.calls) == ("answered by two", 4, 3)
    executions = [found.run_id async for found in old.client.temporal.list_workflows(f"WorkflowId = '{run.id}'")]
    assert len(executions) == 2  # it continued as new once, not after every turn
    assert (await old.ledger.verify(run.id)).faults == ()


async def test_a_run_outside_a_deployment_records_the_version_of_handfast(shop: OpenShop) -> None:
    desk = await shop(Agent(name="a", model=Script(["Hello."]), instructions="x"))
    run = await desk.client.start("a", "Hi", id=f"run-{uuid.uuid4().hex[:8]}")
    await run.result()
    history = await desk.client.temporal.get_workflow_handle(run.id).fetch_history()
    tasks = [event.workflow_task_completed_event_attributes for event in history.events]
    build_ids = {task.worker_version.build_id for task in tasks if task.HasField("worker_version")}
    assert build_ids == {f"handfast-{installed('handfast')}"}


def test_half_a_deployment_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFAST_DEPLOYMENT", "support")
    with pytest.raises(SettingsError, match="HANDFAST_DEPLOYMENT and HANDFAST_BUILD_ID go together"):
        load_settings()
