"""Ledger, Temporal or worker away for a while: runs wait and go on, nothing lost, nothing twice."""

import asyncio
import os
import signal
import sqlite3
from pathlib import Path

import psutil
import pytest

from handfast import (
    Client,
    Effect,
    Outcome,
    RunStatus,
    Tier,
    ask,
    tool,
)  # fmt: skip
from handfast.activities.watchdog import EXIT_CODE
from handfast.engine.connect import Engine, connect, require_search_attributes
from handfast.engine.embedded import EmbeddedEngine
from handfast.ledger import Ledger
from handfast.settings import Settings
from handfast.workers.worker import make_boundary, make_worker
from tests.conftest import OpenShop, new_database, outcomes, start_postgres, until
from tests.crash.harness import Process
from tests.effects.agents import agent
from tests.effects.slow_run import logged, prepared, slow_run

BLOCKING = ("handfast.client.cli", "worker", "tests.effects.blocking:agent")


async def test_a_tool_that_blocks_the_event_loop_ends_its_worker_and_another_goes_on(
    engine: Engine, tmp_path: Path
) -> None:
    settings, env = await prepared(engine, tmp_path, HANDFAST_WATCHDOG_SECONDS="1", BLOCK_MARK=str(tmp_path / "mark"))
    worker = Process(*BLOCKING, env=env, output=tmp_path / "w.log")
    try:
        async with await Client.connect(engine.address, settings=settings) as client:
            run = await client.start("blocker", "Go", id=f"run-{settings.task_queue}")
            assert await worker.wait() == EXIT_CODE
            assert '"tools": ["block"]' in worker.output.read_text()
            worker = Process(*BLOCKING, env=env, output=tmp_path / "w.log")
            result = await run.result()
            assert (result.status, outcomes(result.operations)) == (RunStatus.COMPLETED, [("block", Outcome.SUCCEEDED)])
            assert result.operations[0].attempts >= 1
    finally:
        await worker.stop()


async def test_runs_wait_while_another_process_holds_the_sqlite_ledger(shop: OpenShop, tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def send() -> str:
        """Send."""
        begun.set()
        await go_on.wait()
        done.append("sent")
        return "sent"

    desk = await shop(agent(ask("send"), "done", tools=[send]), heartbeat_seconds=1.0)
    run = await desk.client.start("tester", "Go", id="locked")
    await begun.wait()
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    go_on.set()
    await asyncio.sleep(10)  # longer than SQLite itself waits: the ledger is away
    assert (done, outcomes(await run.operations())) == (["sent"], [("send", None)])
    other.execute("ROLLBACK")
    other.close()
    result = await run.result()
    assert (done, outcomes(result.operations)) == (["sent"], [("send", Outcome.SUCCEEDED)])
    assert [o.attempts for o in result.operations] == [1]


async def test_runs_wait_while_postgresql_restarts_and_while_it_is_down_for_ten_seconds(
    shop: OpenShop, tmp_path: Path
) -> None:
    """While it shuts down and starts, it answers, and refuses: no call may take that for an answer."""
    server = start_postgres(tmp_path / "postgres")
    try:
        done: list[int] = []

        @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
        async def send(n: int) -> str:
            """Send."""
            done.append(n)
            await asyncio.sleep(0.1)
            return "sent"

        steps = [*(ask("send", n=n) for n in range(6)), "done"]
        # Heartbeats are not what is tested: one that comes late, on a machine with much to do, would leave the call in doubt.
        desk = await shop(agent(*steps, tools=[send]), ledger_url=new_database(server), heartbeat_seconds=20.0)
        runs = [await desk.client.start("tester", "Go", id=f"pg-down-{n}") for n in range(8)]
        for seconds in (0.5, 0.5, 10):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(server.ensure_postgres_running)
        for run in runs:
            result = await run.result()
            assert outcomes(result.operations) == [("send", Outcome.SUCCEEDED)] * 6
            assert (await desk.ledger.verify(run.id)).faults == ()
        assert sorted(done) == sorted([*range(6)] * 8)
    finally:
        server.cleanup()


async def test_runs_go_on_after_the_temporal_server_was_away_for_ten_seconds_and_came_back(tmp_path: Path) -> None:
    """First it hangs, then it dies; the embedded engine starts another one."""
    done: list[int] = []

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def send(n: int) -> str:
        """Send."""
        done.append(n)
        await asyncio.sleep(0.2)
        return "sent"

    steps = [*(ask("send", n=n) for n in range(8)), "done"]
    settings = Settings(home=tmp_path, ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}", heartbeat_seconds=2)
    async with EmbeddedEngine(tmp_path) as embedded:
        ledger = Ledger.connect(settings.ledger)
        await ledger.migrate()
        temporal, _ = await connect(settings, embedded.engine.address)
        await require_search_attributes(temporal)
        boundary = make_boundary([agent(*steps, tools=[send])], ledger, settings)
        async with (
            make_worker(temporal, boundary, settings),
            await Client.connect(embedded.engine.address, settings=settings) as client,
        ):
            run = await client.start("tester", "Go", id="server-killed")

            async def some() -> bool:
                return len(done) >= 3

            await until(some)
            first = embedded.engine.pid
            os.kill(first, signal.SIGSTOP)
            await asyncio.sleep(10)
            assert len(done) < 8
            os.kill(first, signal.SIGKILL)
            result = await asyncio.wait_for(run.result(), 90)
            assert embedded.engine.pid != first
        assert (done, outcomes(result.operations)) == ([*range(8)], [("send", Outcome.SUCCEEDED)] * 8)
        await ledger.close()


async def test_runs_wait_while_the_disk_takes_no_writes(engine: Engine, tmp_path: Path) -> None:
    """The kernel refuses every write behind the ledger's present size, as a full disk does, and then has room again."""
    async with slow_run(engine, tmp_path) as slow:
        process = psutil.Process(slow.worker.pid)
        room = process.rlimit(psutil.RLIMIT_FSIZE)
        full = (tmp_path / "ledger.db-wal").stat().st_size
        assert full > slow.worker.output.stat().st_size, "else it could not write its log"
        process.rlimit(psutil.RLIMIT_FSIZE, (full, room[1]))
        slow.let_go(1)
        await until(lambda: logged(slow.worker, "ledger away, waiting"), seconds=30)
        assert outcomes(await slow.run.operations()) == [("step", None)]
        process.rlimit(psutil.RLIMIT_FSIZE, room)
        slow.let_go(2)
        result = await asyncio.wait_for(slow.run.result(), 60)
        assert result.status is RunStatus.COMPLETED
        assert outcomes(result.operations) == [("step", Outcome.SUCCEEDED)] * 2
        assert [operation.attempts for operation in result.operations] == [1, 1]
        assert slow.done == ["1", "2"]
        assert (await slow.client.ledger.verify(slow.run.id)).faults == ()


async def test_a_worker_that_is_told_to_stop_lets_its_calls_end(engine: Engine, tmp_path: Path) -> None:
    async with slow_run(engine, tmp_path, HANDFAST_DRAIN_SECONDS="20") as slow:
        slow.worker.signal(signal.SIGTERM)
        await until(lambda: logged(slow.worker, "draining"), seconds=10)
        slow.let_go(1)
        assert await asyncio.wait_for(slow.worker.wait(), 20) == 0
        assert outcomes(await slow.run.operations()) == [("step", Outcome.SUCCEEDED)]
        slow.let_go(2)
        slow.start_another_worker()
        result = await asyncio.wait_for(slow.run.result(), 60)
        assert outcomes(result.operations) == [("step", Outcome.SUCCEEDED)] * 2
        assert slow.done == ["1", "2"]


@pytest.mark.parametrize(("effect", "resolved"), [(Effect.KEYED, False), (Effect.ONCE, True)])
async def test_a_call_that_outlasts_the_drain_is_taken_over_as_its_class_allows(
    engine: Engine, tmp_path: Path, effect: Effect, resolved: bool
) -> None:
    async with slow_run(engine, tmp_path, HANDFAST_DRAIN_SECONDS="0.5", SLOW_EFFECT=effect.value) as slow:
        slow.worker.signal(signal.SIGTERM)
        assert await asyncio.wait_for(slow.worker.wait(), 20) == 0
        assert outcomes(await slow.run.operations()) == [("step", None)]
        slow.let_go(1, 2)
        slow.start_another_worker()

        async def doubtful_or_ended() -> bool:
            doubt = any(operation.outcome is Outcome.UNKNOWN for operation in await slow.run.operations())
            return doubt or (await slow.run.summary()).status.closed

        await until(doubtful_or_ended, seconds=60)
        if resolved:
            [operation] = await slow.run.operations()
            note = "the log has no line of it"
            await slow.run.resolve(operation.operation_id, happened=False, by="ada", note=note)
        result = await asyncio.wait_for(slow.run.result(), 60)
        first = Outcome.FAILED if resolved else Outcome.SUCCEEDED
        assert outcomes(result.operations) == [("step", first), ("step", Outcome.SUCCEEDED)]
        assert slow.done == (["2"] if resolved else ["1", "2"])
