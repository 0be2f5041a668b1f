"""A worker that stands still for a while, by a signal or by a tool that blocks it, and goes on: no call is in doubt for that."""

import asyncio
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from handfast import Client, Effect, Outcome, RunStatus, Tier, ask, tool
from handfast.engine.connect import Engine, connect, require_search_attributes
from handfast.engine.embedded import EmbeddedEngine
from handfast.ledger import Ledger
from handfast.settings import Settings
from handfast.workers.worker import make_boundary, make_worker
from tests.conftest import OpenShop, outcomes
from tests.effects.agents import agent
from tests.effects.slow_run import SlowRun, slow_run

STANDSTILL = 8
"""Seconds: several heartbeat timeouts, within the time that a call may take."""


async def stand_still(slow: SlowRun) -> None:
    slow.worker.signal(signal.SIGSTOP)
    await asyncio.sleep(STANDSTILL)
    slow.worker.signal(signal.SIGCONT)


@pytest.mark.parametrize("effect", [Effect.ONCE, Effect.KEYED])
async def test_a_call_outlives_the_standstill_of_its_worker(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    """Temporal gives the worker's open polls the next attempts meanwhile, which all begin when it goes on."""
    async with slow_run(engine, tmp_path, HANDFAST_HEARTBEAT_SECONDS="1", SLOW_EFFECT=effect.value) as slow:
        await stand_still(slow)
        await asyncio.sleep(3)  # longer than it takes to hear from Temporal that the attempt was given up
        slow.let_go(1, 2)
        result = await asyncio.wait_for(slow.run.result(), 60)
        assert outcomes(result.operations) == [("step", Outcome.SUCCEEDED)] * 2
        assert [operation.attempts for operation in result.operations] == [1, 1]
        assert slow.done == ["1", "2"]
        assert result.status is RunStatus.COMPLETED


async def test_a_call_that_was_given_up_is_interrupted_if_its_run_is_cancelled(engine: Engine, tmp_path: Path) -> None:
    async with slow_run(engine, tmp_path, HANDFAST_HEARTBEAT_SECONDS="1") as slow:
        await stand_still(slow)
        await asyncio.sleep(3)
        await slow.run.cancel()
        # The call itself would take its 30 seconds.
        result = await asyncio.wait_for(slow.run.result(), 15)
        assert result.status is RunStatus.CANCELLED
        assert outcomes(result.operations) == [("step", Outcome.UNKNOWN)]


async def test_a_worker_that_must_stop_does_not_wait_for_an_attempt_that_was_given_up(
    engine: Engine, tmp_path: Path
) -> None:
    env = {"HANDFAST_HEARTBEAT_SECONDS": "1", "HANDFAST_DRAIN_SECONDS": "0.5", "SLOW_EFFECT": "KEYED"}
    async with slow_run(engine, tmp_path, **env) as slow:
        await stand_still(slow)
        await asyncio.sleep(3)
        slow.worker.signal(signal.SIGTERM)
        assert await asyncio.wait_for(slow.worker.wait(), 20) == 0
        slow.let_go(1, 2)
        slow.start_another_worker()
        result = await asyncio.wait_for(slow.run.result(), 60)
        assert outcomes(result.operations) == [("step", Outcome.SUCCEEDED)] * 2
        assert slow.done == ["1", "2"]


@pytest.mark.filterwarnings(
    "ignore:Cannot find activity to cancel"
)  # the blocking call has ended when Temporal gives it up
async def test_a_tool_that_blocks_its_worker_leaves_the_calls_beside_it_in_no_doubt(shop: OpenShop) -> None:
    sent: list[str] = []

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def send() -> str:
        """Send."""
        await asyncio.sleep(7)
        sent.append("sent")
        return "sent"

    @tool(version="1.0.0", effect=Effect.IDEMPOTENT, tier=Tier.REVERSIBLE, scope="x:y")
    async def block() -> str:
        """Block."""
        await asyncio.sleep(0.5)
        time.sleep(4)  # noqa: ASYNC251 - that is the fault
        return "blocked"

    desk = await shop(agent([ask("send"), ask("block")], "done", tools=[send, block]), heartbeat_seconds=1.0)
    result = await asyncio.wait_for((await desk.client.start("tester", "Go", id="beside")).result(), 60)
    assert outcomes(result.operations) == [("send", Outcome.SUCCEEDED), ("block", Outcome.SUCCEEDED)]
    assert (sent, result.operations[0].attempts) == (["sent"], 1)


async def test_a_call_of_a_run_that_was_terminated_is_interrupted(shop: OpenShop) -> None:
    """As before: its heartbeats were in time, and Temporal knows it no longer because somebody has ended the run."""
    begun, interrupted = asyncio.Event(), asyncio.Event()

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y", timeout=timedelta(minutes=5))
    async def send() -> str:
        """Send."""
        begun.set()
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            interrupted.set()
            raise
        return "sent"

    desk = await shop(agent(ask("send"), "done", tools=[send]), heartbeat_seconds=1.0)
    run = await desk.client.start("tester", "Go", id="ended")
    await begun.wait()
    await run.handle.terminate()
    await asyncio.wait_for(interrupted.wait(), 20)


async def test_a_call_outlives_the_standstill_of_the_temporal_server(tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def send() -> str:
        """Send."""
        begun.set()
        await go_on.wait()
        return "sent"

    settings = Settings(home=tmp_path, ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}", heartbeat_seconds=1)
    async with EmbeddedEngine(tmp_path) as embedded:
        ledger = Ledger.connect(settings.ledger)
        await ledger.migrate()
        temporal, _ = await connect(settings, embedded.engine.address)
        await require_search_attributes(temporal)
        boundary = make_boundary([agent(ask("send"), "done", tools=[send])], ledger, settings)
        async with (
            make_worker(temporal, boundary, settings),
            await Client.connect(embedded.engine.address, settings=settings) as client,
        ):
            run = await client.start("tester", "Go", id="server-stalls")
            await begun.wait()
            os.kill(embedded.engine.pid, signal.SIGSTOP)
            await asyncio.sleep(STANDSTILL)
            os.kill(embedded.engine.pid, signal.SIGCONT)
            await asyncio.sleep(4)
            go_on.set()
            result = await asyncio.wait_for(run.result(), 60)
            assert outcomes(result.operations) == [("send", Outcome.SUCCEEDED)]
            assert result.operations[0].attempts == 1
        await boundary.close()
        await ledger.close()
