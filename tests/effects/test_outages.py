"""Ledger, Temporal or worker away for a while: runs wait and go on, nothing lost, nothing twice."""

import asyncio
import os
import signal
import sqlite3
import uuid
from pathlib import Path

import psutil
import pytest

from holdfast import (
    Client,
    Effect,
    Outcome,
    RunStatus,
    Tier,
    ask,
    tool,
)  # fmt: skip
from holdfast.activities.watchdog import EXIT_CODE
from holdfast.engine.connect import Engine, connect, require_search_attributes
from holdfast.engine.embedded import EmbeddedEngine
from holdfast.ledger import Ledger
from holdfast.settings import Settings
from holdfast.workers.worker import make_boundary, make_worker
from tests.conftest import OpenShop, new_database, outcomes, start_postgres, until
from tests.crash.harness import Process, worker_env
from tests.effects.agents import agent

SLOW = ("holdfast.client.cli", "worker", "tests.effects.slow:slow")
BLOCKING = ("holdfast.client.cli", "worker", "tests.effects.blocking:agent")


async def prepared(engine: Engine, folder: Path, **more: str) -> tuple[Settings, dict[str, str]]:
    """A new ledger in a folder, with the settings of a client and the environment of a worker process."""
    queue = f"q-{uuid.uuid4().hex[:8]}"
    settings = Settings(home=folder, task_queue=queue, ledger_url=f"sqlite:///{folder / 'ledger.db'}")
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.close()
    return settings, worker_env(engine.address, settings.ledger, queue, {}, SLOW_FOLDER=str(folder), **more)


async def exists(path: Path) -> bool:
    return path.exists()  # noqa: ASYNC240 - one look at a local file


async def logged(worker: Process, event: str) -> bool:
    return f'"event": "{event}"' in worker.output.read_text()


async def test_a_tool_that_blocks_the_event_loop_ends_its_worker_and_another_goes_on(
    engine: Engine, tmp_path: Path
) -> None:
    settings, env = await prepared(engine, tmp_path, HOLDFAST_WATCHDOG_SECONDS="1", BLOCK_MARK=str(tmp_path / "mark"))
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


async def test_runs_wait_while_postgresql_is_down_for_ten_seconds(shop: OpenShop, tmp_path: Path) -> None:
    server = start_postgres(tmp_path / "postgres")
    try:
        done: list[int] = []
        begun = asyncio.Event()

        @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
        async def send(n: int) -> str:
            """Send."""
            done.append(n)
            begun.set()
            await asyncio.sleep(0.3)
            return "sent"

        steps = [*(ask("send", n=n) for n in range(3)), "done"]
        desk = await shop(agent(*steps, tools=[send]), ledger_url=new_database(server))
        run = await desk.client.start("tester", "Go", id="pg-down")
        await begun.wait()
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(10)
        await asyncio.to_thread(server.ensure_postgres_running)
        result = await run.result()
        assert (done, outcomes(result.operations)) == ([0, 1, 2], [("send", Outcome.SUCCEEDED)] * 3)
        assert (await desk.ledger.verify("pg-down")).faults == ()
    finally:
        server.cleanup()


async def test_runs_go_on_after_the_temporal_server_was_killed_and_came_back(tmp_path: Path) -> None:
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
            os.kill(first, signal.SIGKILL)
            result = await asyncio.wait_for(run.result(), 90)
            assert embedded.engine.pid != first
        assert (done, outcomes(result.operations)) == ([*range(8)], [("send", Outcome.SUCCEEDED)] * 8)
        await ledger.close()


async def test_runs_wait_while_the_disk_takes_no_writes(engine: Engine, tmp_path: Path) -> None:
    """The kernel refuses every write behind the ledger's present size, as a full disk does, and then has room again."""
    settings, env = await prepared(engine, tmp_path)
    worker = Process(*SLOW, env=env, output=tmp_path / "w.log")
    try:
        async with await Client.connect(engine.address, settings=settings) as client:
            run = await client.start("slow", "Go", id=f"run-{settings.task_queue}")
            await until(lambda: exists(tmp_path / "begun-1"), seconds=60)
            process = psutil.Process(worker.pid)
            room = process.rlimit(psutil.RLIMIT_FSIZE)
            full = (tmp_path / "ledger.db-wal").stat().st_size
            assert full > worker.output.stat().st_size, "else it could not write its log"
            process.rlimit(psutil.RLIMIT_FSIZE, (full, room[1]))
            (tmp_path / "go-1").touch()
            await until(lambda: logged(worker, "ledger away, waiting"), seconds=30)
            assert outcomes(await run.operations()) == [("step", None)]
            process.rlimit(psutil.RLIMIT_FSIZE, room)
            (tmp_path / "go-2").touch()
            result = await asyncio.wait_for(run.result(), 60)
            assert (result.status, outcomes(result.operations)) == (
                RunStatus.COMPLETED,
                [("step", Outcome.SUCCEEDED)] * 2,
            )
            assert [operation.attempts for operation in result.operations] == [1, 1]
            assert (tmp_path / "log").read_text().split() == ["1", "2"]
            assert (await client.ledger.verify(run.id)).faults == ()
    finally:
        await worker.stop()


async def test_a_worker_that_is_told_to_stop_lets_its_calls_end(engine: Engine, tmp_path: Path) -> None:
    settings, env = await prepared(engine, tmp_path, HOLDFAST_DRAIN_SECONDS="20")
    worker = Process(*SLOW, env=env, output=tmp_path / "first.log")
    try:
        async with await Client.connect(engine.address, settings=settings) as client:
            run = await client.start("slow", "Go", id=f"run-{settings.task_queue}")
            await until(lambda: exists(tmp_path / "begun-1"), seconds=60)
            worker.signal(signal.SIGTERM)
            await until(lambda: logged(worker, "draining"), seconds=10)
            (tmp_path / "go-1").touch()
            assert await asyncio.wait_for(worker.wait(), 20) == 0
            assert outcomes(await run.operations()) == [("step", Outcome.SUCCEEDED)]
            (tmp_path / "go-2").touch()
            worker = Process(*SLOW, env=env, output=tmp_path / "second.log")
            result = await asyncio.wait_for(run.result(), 60)
            assert outcomes(result.operations) == [("step", Outcome.SUCCEEDED)] * 2
            assert (tmp_path / "log").read_text().split() == ["1", "2"]
    finally:
        await worker.stop()


@pytest.mark.parametrize(("effect", "resolved"), [(Effect.KEYED, False), (Effect.ONCE, True)])
async def test_a_call_that_outlasts_the_drain_is_taken_over_as_its_class_allows(
    engine: Engine, tmp_path: Path, effect: Effect, resolved: bool
) -> None:
    settings, env = await prepared(engine, tmp_path, HOLDFAST_DRAIN_SECONDS="0.5", SLOW_EFFECT=effect.value)
    worker = Process(*SLOW, env=env, output=tmp_path / "first.log")
    try:
        async with await Client.connect(engine.address, settings=settings) as client:
            run = await client.start("slow", "Go", id=f"run-{settings.task_queue}")
            await until(lambda: exists(tmp_path / "begun-1"), seconds=60)
            worker.signal(signal.SIGTERM)
            assert await asyncio.wait_for(worker.wait(), 20) == 0
            assert outcomes(await run.operations()) == [("step", None)]
            for number in (1, 2):
                (tmp_path / f"go-{number}").touch()
            worker = Process(*SLOW, env=env, output=tmp_path / "second.log")

            async def person_or_end() -> bool:
                return bool((await run.state()).waiting) or (await run.summary()).status.closed

            await until(person_or_end, seconds=60)
            if resolved:
                [one] = (await run.state()).waiting
                assert one.unknown
                await run.resolve(one.operation, happened=False, by="ada", note="the log has no line of it")
            result = await asyncio.wait_for(run.result(), 60)
            first = Outcome.FAILED if resolved else Outcome.SUCCEEDED
            assert outcomes(result.operations) == [("step", first), ("step", Outcome.SUCCEEDED)]
            assert (tmp_path / "log").read_text().split() == (["2"] if resolved else ["1", "2"])
    finally:
        await worker.stop()
