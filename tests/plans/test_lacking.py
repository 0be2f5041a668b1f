"""What a worker can't do is told at its start, or shown: no run hangs in silence, and the worker can be ended."""

import asyncio
import signal
import sqlite3
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from handfast import Agent, Client, Effect, Lane, Run, RunStatus, Script, Tier, ask, tool
from handfast.contracts import names
from handfast.engine.connect import Engine
from handfast.workflows.visibility import STATUS
from tests.conftest import OpenShop, until
from tests.crash.harness import Process
from tests.effects.slow_run import prepared
from tests.plans.lacking import PLAN
from tests.processes import run_module

CLI = "handfast.client.cli"


@asynccontextmanager
async def stalled_plan(engine: Engine, folder: Path) -> AsyncGenerator[tuple[Client, Run, Process, dict[str, str]]]:
    """A plan with a condition on the only worker there is, which can't read conditions."""
    settings, env = await prepared(engine, folder)
    worker = Process(
        CLI, "worker", "tests.plans.lacking:desk", env={**env, "LACKING": "cel_expr_python"}, output=folder / "w"
    )
    try:
        async with await Client.connect(engine.address, settings=settings) as client:
            run = await client.start_plan(PLAN, {"n": 3}, id=f"plan-{settings.task_queue}")
            await until(run.stalled, seconds=60)
            yield client, run, worker, env
    finally:
        await worker.stop()


async def test_a_plan_that_its_worker_cannot_carry_out_is_shown_and_the_worker_ends(
    engine: Engine, tmp_path: Path
) -> None:
    async with stalled_plan(engine, tmp_path) as (_, run, worker, env):
        [stalled] = await run.stalled()
        assert (stalled.activity, stalled.attempts > 0) == (names.OPEN_PLAN, True)
        assert "conditions of plans need the extra `plans`" in stalled.reason
        state = await run.state()
        assert "conditions of plans need the extra `plans`" in state.stalled[names.OPEN_PLAN]
        assert (await run.handle.describe()).typed_search_attributes.get(STATUS) == "stalled"
        shown = await run_module(CLI, "show", run.id, env=env, cwd=tmp_path)
        assert f"stalled: {names.OPEN_PLAN} has failed" in shown.stdout
        assert "keeps failing on this worker, and is given to any" in worker.output.read_text()
        assert "wait for a worker that can: install handfast[plans]" in worker.output.read_text()
        worker.signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await worker.wait() == 0


async def test_a_healthy_worker_takes_what_another_one_cannot_do(engine: Engine, tmp_path: Path) -> None:
    async with stalled_plan(engine, tmp_path) as (_, run, _, env):
        healthy = Process(CLI, "worker", "tests.plans.lacking:desk", env=env, output=tmp_path / "healthy")
        try:
            result = await asyncio.wait_for(run.result(), 60)
        finally:
            await healthy.stop()
        assert (result.status, result.output) == (RunStatus.COMPLETED, 3)
        assert (await run.handle.describe()).typed_search_attributes.get(STATUS) == "completed"


@pytest.mark.parametrize(
    ("agents", "lacking", "told"),
    [
        ("with_plan", "cel_expr_python", "conditions of plans need the extra `plans`: pip install"),
        (
            "with_planner",
            "cel_expr_python",
            "the models of agents boss make plans, with conditions: install handfast[plans]",
        ),
        (
            "with_sql",
            "sqlglot",
            "tool 'select' of agent 'sql' takes arguments that need sqlglot: install handfast[inputs]",
        ),
        ("with_html", "nh3", "tool 'publish' of agent 'html' takes arguments that need nh3: install handfast[inputs]"),
    ],
)
async def test_a_worker_that_lacks_what_its_agents_need_does_not_start(
    engine: Engine, tmp_path: Path, agents: str, lacking: str, told: str
) -> None:
    _, env = await prepared(engine, tmp_path, LACKING=lacking)
    ended = await run_module(CLI, "worker", f"tests.plans.lacking:{agents}", env=env, cwd=Path.cwd())
    assert (ended.returncode, told in ended.stderr.replace("\n", " ")) == (4, True), ended.stderr


async def test_a_worker_is_ended_while_it_waits_for_a_server_at_its_start(tmp_path: Path) -> None:
    async def says_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await gone.wait()
        writer.close()

    connected, gone = asyncio.Event(), asyncio.Event()
    server = await asyncio.start_server(says_nothing, "127.0.0.1", 0)
    address = "{}:{}".format(*server.sockets[0].getsockname())
    _, env = await prepared(Engine(address=address), tmp_path)
    worker = Process(CLI, "worker", "tests.plans.lacking:desk", env=env, output=tmp_path / "w")
    try:
        await asyncio.wait_for(connected.wait(), 60)
        worker.signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await worker.wait() == 0
    finally:
        gone.set()
        server.close()
        await worker.stop()


@tool(
    version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r", lane=Lane.FAST, timeout=timedelta(seconds=2)
)
async def look() -> str:
    """Look."""
    return "seen"


BROKEN = {names.OPEN_RUN: "opened", names.MODEL_TURN: "turn", "look": "settled", names.CLOSE_RUN: "closed"}


@pytest.mark.parametrize("activity", BROKEN)
async def test_every_local_activity_that_keeps_failing_is_shown_and_goes_on_once_it_can(
    shop: OpenShop, tmp_path: Path, activity: str
) -> None:
    model = Script([ask("look"), "done"], lane=Lane.FAST)
    desk = await shop(Agent(name="desk", instructions="Test.", model=model, tools=[look]))
    ledger: Any = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    ledger.execute(
        f"CREATE TRIGGER broken BEFORE INSERT ON entries WHEN new.kind = '{BROKEN[activity]}' BEGIN SELECT json('{{'); END"
    )
    run = await desk.client.start("desk", "Go", id=f"broken-{uuid.uuid4()}")

    async def is_stalled() -> bool:
        return activity in (await run.state()).stalled

    await until(is_stalled, seconds=60)
    if activity != "look":
        # A tool that has acted does not fail: its activity waits until it can write that down.
        await until(run.stalled, seconds=60)
        assert (await run.stalled())[0].activity == activity
    ledger.execute("DROP TRIGGER broken")
    ledger.close()
    result = await asyncio.wait_for(run.result(), 60)
    assert (result.status, result.text) == (RunStatus.COMPLETED, "done")
