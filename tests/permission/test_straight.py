"""Straight to Temporal, with its own command line and a raw client: whatever is sent to a run, nothing acts and nothing is stuck."""

import asyncio
import json
import subprocess
import uuid
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowExecutionStatus, WorkflowQueryFailedError, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from handfast import Effect, RunStatus, Tier, ask, tool
from handfast.contracts import names
from handfast.contracts.wire import CallInput
from handfast.engine.connect import connect
from handfast.engine.embedded import find_binary
from tests.conftest import OpenShop, Shop, outcomes
from tests.permission.people import ended, person, waiting
from tests.workflow.agents import agent, double

HANDLERS = {
    "update": (
        names.SAY,
        names.DECIDE,
        names.RESOLVE,
        names.UNBLOCK,
        names.PAUSE,
        names.RESUME,
        "nothing",
        "__temporal_x",
    ),
    "signal": (names.UNDO, names.WAKE, names.REVIEW, names.HOLD, "nothing", "__temporal_x"),
    "query": (names.STATE, "nothing"),
}
"""All of a run, and some that are not there."""
JSON = {"encoding": b"json/plain"}
BAD: dict[str, list[Payload]] = {
    "nothing at all": [],
    "no JSON": [Payload(metadata=JSON, data=b"\x00\xff{")],
    "null": [Payload(metadata=JSON, data=b"null")],
    "a number": [Payload(metadata=JSON, data=b"7")],
    "an empty object": [Payload(metadata=JSON, data=b"{}")],
    "other types": [
        Payload(metadata=JSON, data=b'{"operation": 1, "digest": [], "approve": "x", "ref": "y", "text": 5}')
    ],
    "a reference into another run": [Payload(metadata=JSON, data=b'{"ref": 999999}')],
    "a negative reference": [Payload(metadata=JSON, data=b'{"ref": -1, "text": ""}')],
    "unknown fields": [Payload(metadata=JSON, data=b'{"x": {"y": [1, 2, {"z": null}]}}')],
    "an unknown encoding": [Payload(metadata={"encoding": b"binary/evil"}, data=b"x")],
    "no encoding": [Payload(data=b"{}")],
    "deep": [Payload(metadata=JSON, data=b'{"text": ' + b"[" * 5000 + b"]" * 5000 + b"}")],
    "long": [
        Payload(metadata=JSON, data=json.dumps({"operation": "o" * 500_000, "digest": "d", "approve": True}).encode())
    ],
    "several": [Payload(metadata=JSON, data=b"{}")] * 3,
}


def paying(paid: list[str]) -> Any:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="payments:pay")
    async def pay(to: str) -> str:
        """Pay."""
        paid.append(to)
        return "paid"

    return pay


def raw(payloads: list[Payload]) -> list[RawValue]:
    return [RawValue(payload) for payload in payloads]


async def answers(desk: Shop, run_id: str) -> bool:
    """Whether the workflow still does its work: no task of it fails over and over."""
    handle = desk.client.temporal.get_workflow_handle(run_id)
    state = await asyncio.wait_for(handle.query(names.STATE), 10)
    events = [event async for event in handle.fetch_history_events()]
    failed = [event for event in events if event.HasField("workflow_task_failed_event_attributes")]
    return state is not None and not failed


@pytest.mark.parametrize("what", BAD)
async def test_what_no_handler_understands_is_refused_and_the_run_goes_on(shop: OpenShop, what: str) -> None:
    paid: list[str] = []
    desk = await shop(agent([ask("double", n=1), ask("pay", to="bob"), "done"], double, paying(paid)))
    ada = await person(desk, "ada")
    run = await desk.client.start("tester", "Go", id=f"straight-bad-{uuid.uuid4().hex[:8]}")
    one = await waiting(run)
    handle = desk.client.temporal.get_workflow_handle(run.id)
    for kind, handlers in HANDLERS.items():
        for name in handlers:
            try:
                async with asyncio.timeout(10):
                    if kind == "update":
                        await handle.execute_update(name, args=raw(BAD[what]))
                    elif kind == "signal":
                        await handle.signal(name, args=raw(BAD[what]))
                    else:
                        await handle.query(name, args=raw(BAD[what]))
            except (WorkflowUpdateFailedError, WorkflowQueryFailedError, RPCError, ApplicationError, TimeoutError):
                pass
            assert await answers(desk, run.id), f"{kind} {name} with {what}"
    assert (paid, (await waiting(run)).operation) == ([], one.operation)
    await run.resume()
    await run.decide(one.operation, approve=True, key=ada)
    result = await ended(run)
    assert (result.status, paid) == (RunStatus.COMPLETED, ["bob"])
    assert (await desk.ledger.verify(run.id)).faults == ()


STARTS: list[tuple[str, bytes]] = [
    ("AgentRun", b'{"agent": "nobody", "text": "x"}'),
    ("AgentRun", b'{"agent": "tester"}'),
    ("AgentRun", b'{"agent": "tester", "by_reference": true}'),
    ("AgentRun", b'{"agent": "tester", "carried": {"turn": 7, "opened": {"model": "script"}}}'),
    ("AgentRun", b'{"agent": "tester", "carried": {"turn": -7, "branch": 99}}'),
    (
        "AgentRun",
        b'{"agent": "tester", "carried": {"turn": 1, "jobs": [{"head": {"id": "x", "tool": "pay", "digest": "d"}, "turn": 1}]}}',
    ),
    ("PlanRun", b'{"agent": "tester", "text": "no plan"}'),
    ("PlanRun", b'{"agent": "tester", "text": "{}"}'),
    ("PlanRun", b'{"agent": "tester", "text": "[1]"}'),
    ("PlanRun", b'{"agent": "tester", "text": "{\\"plan\\": 7, \\"request\\": []}"}'),
    ("PlanRun", b'{"agent": "nobody", "by_reference": true}'),
    ("RollbackRun", b'{"cause": "x", "to": "y"}'),
    ("RollbackRun", b'{"ends": true}'),
]
"""What can be read as what a workflow is started with; what can't be read never comes to our code."""


async def test_what_is_started_with_anything_does_nothing_and_ends(shop: OpenShop) -> None:
    paid: list[str] = []
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying(paid)))

    async def start(workflow_type: str, data: bytes) -> WorkflowExecutionStatus | None:
        handle = await desk.client.temporal.start_workflow(
            workflow_type,
            args=raw([Payload(metadata=JSON, data=data)]),
            id=f"straight-start-{uuid.uuid4().hex[:8]}",
            task_queue=desk.settings.task_queue,
            execution_timeout=timedelta(seconds=8),
        )
        with pytest.raises(Exception, match=r"Workflow execution (failed|timed out)|timed out"):
            await handle.result()
        return (await handle.describe()).status

    ended_as = await asyncio.gather(*(start(*one) for one in STARTS))
    assert set(ended_as) <= {WorkflowExecutionStatus.FAILED, WorkflowExecutionStatus.TIMED_OUT}
    assert paid == []
    found = [await desk.client.run(run_id).operations() for run_id in await desk.ledger.run_ids()]
    assert all(one.state == "waiting" for operations in found for one in operations), (
        "a plain start is a run like any other"
    )


async def test_the_command_line_of_temporal_can_start_runs_and_nothing_else_that_acts(shop: OpenShop) -> None:
    """A plain start works, and asks a person before it does anything; forged words of the same command line do nothing."""
    paid: list[str] = []
    desk = await shop(agent([ask("double", n=1), ask("pay", to="bob"), "done"], double, paying(paid)))
    ada = await person(desk, "ada")
    run_id = f"straight-cli-{uuid.uuid4().hex[:8]}"

    async def temporal(*words: str) -> tuple[int, str]:
        command = [str(find_binary()), *words, "--address", desk.client.engine.address]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    given = json.dumps({"agent": "tester", "text": "Pay bob", "user": "uma"})
    start = ("workflow", "start", "--type", "AgentRun", "--task-queue", desk.settings.task_queue)
    code, told = await temporal(*start, "--workflow-id", run_id, "--input", given)
    assert code == 0, told
    run = desk.client.run(run_id)
    one = await waiting(run)
    forged = json.dumps({"operation": one.operation, "digest": one.digest, "approve": True, "by": "ada"})
    code, told = await temporal(
        "workflow", "update", "execute", "--workflow-id", run_id, "--name", names.DECIDE, "--input", forged
    )
    assert code != 0
    assert "not signed" in told
    code, told = await temporal(
        "workflow", "update", "execute", "--workflow-id", run_id, "--name", names.DECIDE, "--input", "garbage"
    )
    assert code != 0
    for words in (("signal", "--name", names.WAKE, "--input", '"x"'), ("signal", "--name", names.REVIEW)):
        assert (await temporal("workflow", words[0], "--workflow-id", run_id, *words[1:]))[0] == 0
    events = [event async for event in run.handle.fetch_history_events()]
    scheduled = {
        event.activity_task_scheduled_event_attributes.activity_id
        for event in events
        if event.HasField("activity_task_scheduled_event_attributes")
    }
    for activity_id in scheduled:
        await temporal(
            "activity",
            "complete",
            "--workflow-id",
            run_id,
            "--activity-id",
            activity_id,
            "--result",
            '{"outcome": "SUCCEEDED"}',
        )
    assert (paid, (await waiting(run)).operation) == ([], one.operation)
    await run.decide(one.operation, approve=True, key=ada)
    assert outcomes((await ended(run)).operations) == [("double", "SUCCEEDED"), ("pay", "SUCCEEDED")]
    assert paid == ["bob"]


@workflow.defn(name="Thief", sandboxed=False)
class Thief:
    """A workflow of somebody else, under any id, that asks for any activity of ours with anything."""

    @workflow.run
    async def run(self, name: str, queue: str, given: Any) -> Any:
        return await workflow.execute_activity(
            name,
            given,
            task_queue=queue,
            start_to_close_timeout=timedelta(seconds=5),
            schedule_to_close_timeout=timedelta(seconds=5),
        )


async def test_no_activity_acts_for_somebody_elses_workflow(shop: OpenShop) -> None:
    """Every activity, with forged and with real contents of another run, from a workflow that is not that run's."""
    paid: list[str] = []
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying(paid)))
    run = await desk.client.start("tester", "Go", id=f"straight-victim-{uuid.uuid4().hex[:8]}")
    one = await waiting(run)
    before = await desk.ledger.read_events(run.id)
    real = CallInput(id=one.operation, turn=1, index=0, digest=one.digest)
    temporal, _ = await connect(desk.settings, desk.client.engine.address)
    queue = f"thieves-{uuid.uuid4().hex[:8]}"
    activities = sorted({*names.RESERVED_TOOL_NAMES - {names.OPEN_RUN, names.OPEN_PLAN}, "pay"})
    async with Worker(temporal, task_queue=queue, workflows=[Thief], workflow_runner=UnsandboxedWorkflowRunner()):

        async def steal(name: str, given: Any) -> None:
            with pytest.raises(Exception, match="Workflow execution failed"):
                await temporal.execute_workflow(
                    "Thief",
                    args=[name, desk.settings.task_queue, given],
                    id=f"thief-{uuid.uuid4().hex[:8]}",
                    task_queue=queue,
                )

        contents: list[Any] = [real.model_dump(mode="json"), {}, {"turn": 1}, None]
        await asyncio.gather(*(steal(name, given) for name in activities for given in contents))
    assert paid == []
    assert await desk.ledger.read_events(run.id) == before, "nothing was written into the run either"
    assert (await waiting(run)).operation == one.operation
