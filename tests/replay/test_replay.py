"""Histories of real runs, recorded by earlier versions, replay with the workflow as it is now."""

import json
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from handfast.workers.worker import sandboxed_runner
from handfast.workflows.agent_run import AgentRun
from handfast.workflows.plan_run import PlanRun
from handfast.workflows.rollback_run import RollbackRun

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


def replayer() -> Replayer:
    workflows = [AgentRun, PlanRun, RollbackRun]
    return Replayer(workflows=workflows, workflow_runner=sandboxed_runner(), data_converter=pydantic_data_converter)


def load(path: Path) -> dict[str, Any]:
    history: dict[str, Any] = json.loads(path.read_text())
    return history


def test_there_are_histories_of_every_kind() -> None:
    assert len(HISTORIES) >= 9


@pytest.mark.parametrize("path", HISTORIES, ids=[path.stem for path in HISTORIES])
async def test_a_stored_history_replays(path: Path) -> None:
    await replayer().replay_workflow(WorkflowHistory.from_json(path.stem, load(path)))


async def test_a_history_of_another_workflow_does_not() -> None:
    [path] = [path for path in HISTORIES if path.stem.endswith("parallel-1")]
    history = load(path)
    for event in history["events"]:
        attributes = event.get("activityTaskScheduledEventAttributes", {})
        if attributes.get("activityType", {}).get("name") == "look":
            attributes["activityType"]["name"] = "listen"
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(WorkflowHistory.from_json("changed", history))
