"""The undo campaign: plans of two to eight steps that fail at every step, under kills at every point, some cancelled at random.

Each plan is done as a whole or undone as a whole: the downstream's own log says so. Where nothing protects a call, a person says of
each doubt what that log says. And the same with workers that freeze, and wake up when another one has taken over; and with a
ledger in a PostgreSQL that goes away again and again, where no call may be in doubt, as no worker dies. `CRASH_SEED` (printed) repeats
the kills.
"""

import asyncio
import contextlib
import os
import random
import signal
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from handfast import Client, Effect, Run, RunStatus
from handfast.contracts.errors import LedgerError, RunError
from handfast.contracts.plan import Plan
from handfast.engine.connect import Engine
from handfast.ledger import Ledger
from handfast.settings import Settings
from tests.conftest import new_database, start_postgres
from tests.crash.harness import Process, downstream, worker_env
from tests.crash.sagas import Saga, faults_of, log_of, look_as_a_person_would, seconds_to_consistent
from tests.crash.test_campaign import SEED
from tests.crash.test_freeze import is_stopped

POINTS = (
    "M1 opened", "M2 model answered", "K0 decided", "K1 started", "K2 reserved", "K3 before sending", "K3 sending",
    "K4 committed, no answer", "K5 answered, unwritten", "K6 settled, unreported", "U0 before undoing", "U0 begun", "U1 started",
    "U2 reserved", "U3 before sending", "U4 committed, no answer", "U5 answered, unwritten", "U6 settled, unreported",
    "M4 before closing", "M5 closed",
)  # fmt: skip
FROZEN_POINTS = tuple(point for point in POINTS if point != "K3 sending" and "no answer" not in point)
"""Where a worker may be frozen and find out, once it wakes up, that its lease is over. Inside the very write nothing can stop it."""
FROZEN_SECONDS = 9
"""Longer than a lease, and than another worker takes to be at the same call."""
LIMIT = 900
"""Seconds until everything must be consistent."""


def every_saga(longest: int) -> list[Saga]:
    """Serial and parallel ones of every length, failing at every step, and two of each that don't."""
    sagas: list[Saga] = []
    for steps in range(2, longest + 1):
        for serial in (True, False):
            sagas += [Saga(steps=steps, serial=serial, fails=step) for step in range(steps + 1)]
            sagas.append(Saga(steps=steps, serial=serial, fails=0, cancelled=True))
    return sagas


async def freeze_until(
    ended: asyncio.Future[Any], env: dict[str, str], folder: Path, points: Sequence[str], *, within: int
) -> list[tuple[str, float]]:
    """Workers, each of which freezes at a point; the next one takes over, and the frozen one wakes up beside it.

    Where they froze, and when they woke up.
    """
    chance = random.Random(SEED)
    woken: list[tuple[str, float]] = []
    workers: list[Process] = []

    async def freezes(worker: Process) -> None:
        while not await is_stopped(worker):
            await asyncio.sleep(0.1)

    try:
        while not ended.done():
            point = points[len(workers)] if len(workers) < len(points) else "none"
            crash = {
                "CRASH_SIGNAL": "STOP",
                "CRASH_POINT": point,
                "CRASH_MARK": str(folder / f"mark-{len(workers)}"),
                "CRASH_COUNT": str(chance.randint(1, within)),
            }
            worker = Process("tests.crash.worker", env={**env, **crash}, output=folder / f"worker-{len(workers)}.log")
            frozen = asyncio.create_task(freezes(worker))
            if workers:
                # While the one before it stands still, this one takes over.
                await asyncio.wait([ended], timeout=FROZEN_SECONDS)
                workers[-1].signal(signal.SIGCONT)
            workers.append(worker)
            await asyncio.wait(
                [frozen, ended], timeout=20 if point != "none" else LIMIT, return_when=asyncio.FIRST_COMPLETED
            )
            if frozen.done() and not ended.done():
                woken.append((point, time.time() + FROZEN_SECONDS))
            frozen.cancel()
            for old in workers[:-1]:
                # It had its time to do what it was about to do.
                await old.stop()
    finally:
        for worker in workers:
            await worker.stop()
    return woken


async def kill_until(
    ended: asyncio.Future[Any], env: dict[str, str], folder: Path, points: Sequence[str], *, within: int
) -> list[tuple[str, float]]:
    """Workers, one after the other; each dies at a point, at one of its first passings. Where they died, and when."""
    chance = random.Random(SEED)
    died: list[tuple[str, float]] = []
    while not ended.done():
        point = points[len(died)] if len(died) < len(points) else "none"
        crash = {
            "CRASH_POINT": point,
            "CRASH_MARK": str(folder / f"mark-{len(died)}"),
            "CRASH_COUNT": str(chance.randint(1, within)),
        }
        worker = Process("tests.crash.worker", env={**env, **crash}, output=folder / "worker.log")
        death = asyncio.create_task(worker.wait())
        try:
            # Where a point is not passed often enough, it dies after a while.
            await asyncio.wait(
                [death, ended], timeout=20 if point != "none" else LIMIT, return_when=asyncio.FIRST_COMPLETED
            )
            assert worker.code in {None, -signal.SIGKILL}, worker.output.read_text()[-3000:]
            if not ended.done():
                died.append((point if worker.code else "some moment", time.time()))
        finally:
            await worker.stop()
            await death
    return died


def outages_of(server: Any) -> Callable[..., Awaitable[list[tuple[str, float]]]]:
    """A worker whose database goes away: it is stopped in good order, or at once, as by a crash. How, and when it was back."""

    async def outages_until(
        ended: asyncio.Future[Any], env: dict[str, str], folder: Path, points: Sequence[str], *, within: int
    ) -> list[tuple[str, float]]:
        chance = random.Random(SEED)
        away: list[tuple[str, float]] = []
        worker = Process("tests.crash.worker", env=env, output=folder / "worker.log")
        try:
            while not ended.done():
                await asyncio.wait([ended], timeout=chance.uniform(0.2, within))
                how = chance.choice(points)
                main = psutil.Process(server.get_pid())
                os.kill(main.pid, signal.SIGINT if how == "stopped" else signal.SIGQUIT)
                await asyncio.to_thread(main.wait, 60)
                await asyncio.sleep(chance.uniform(0, 2))
                await asyncio.to_thread(server.ensure_postgres_running)
                if not ended.done():
                    away.append((how, time.time()))
            assert worker.code is None, worker.output.read_text()[-3000:]
        finally:
            await worker.stop()
        return away

    return outages_until


async def cancel_at_some_moment(run: Run, number: int) -> None:
    await asyncio.sleep(random.Random(SEED + number).uniform(0, 20))
    while True:
        with contextlib.suppress(LedgerError):
            try:
                await run.cancel(undo=True)
            except RunError:
                if (await run.summary()).status.closed:
                    return
            else:
                return
        await asyncio.sleep(0.2)


async def end_of(run: Run) -> None:
    """Wait for the end of a run, also while its ledger is away."""
    while True:
        with contextlib.suppress(LedgerError):
            await run.result()
            return
        await asyncio.sleep(0.2)


async def campaign(
    engine: Engine,
    folder: Path,
    effect: Effect,
    sagas: list[Saga],
    points: Sequence[str],
    *,
    within: int,
    injure: Callable[..., Awaitable[list[tuple[str, float]]]] = kill_until,
    ledger_url: str = "",
) -> tuple[list[str], int]:
    """What is not as it must be, and how often a person was asked."""
    queue = f"sagas-{effect}-{injure.__name__}-{SEED}-{folder.name}"
    url = ledger_url or f"sqlite:///{folder / 'ledger.db'}"
    settings = Settings(home=folder, task_queue=queue, ledger_url=url)
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.close()
    async with downstream(folder) as address, await Client.connect(engine.address, settings=settings) as client:
        crash = {
            "CRASH_EFFECT": effect.value,
            "CRASH_REFS": "own",
            "CRASH_ATTEMPTS": "1000",
            "CRASH_UNDO": "1",
            "HANDFAST_MAX_CONCURRENT_CALLS": "5",
        }
        env = worker_env(engine.address, settings.ledger, queue, {"downstream": address}, **crash)
        runs = [await client.start_plan(saga.plan, id=f"{queue}-{number}") for number, saga in enumerate(sagas)]
        ended = asyncio.gather(*map(end_of, runs), return_exceptions=True)
        cancels = [
            asyncio.create_task(cancel_at_some_moment(run, number))
            for number, (saga, run) in enumerate(zip(sagas, runs, strict=True))
            if saga.cancelled
        ]
        people = [asyncio.create_task(look_as_a_person_would(run, address)) for run in runs]
        died = await asyncio.wait_for(injure(ended, env, folder, points, within=within), LIMIT)
        await asyncio.gather(*cancels)
        asked = sum(await asyncio.gather(*people))
        log = await log_of(address)
        faults = [
            f"{saga}: {fault}"
            for saga, run in zip(sagas, runs, strict=True)
            for fault in await faults_of(saga, effect, run, log)
        ]
        for run in runs:
            faults += [f"{run.id}: {fault}" for fault in (await client.ledger.verify(run.id)).faults]
        took = sorted(
            filter(None, [await seconds_to_consistent(client.ledger, run, [at for _, at in died]) for run in runs])
        )
        charges = [ref for ref in log if not ref.startswith("undo-")]
        points_hit = len({point for point, _ in died})
        print(
            f"\n{effect:<11} {len(runs):>3} plans, {len(died):>3} {injure.__name__} at {points_hit} points, {len(charges)} charges, "
            f"{len(log) - len(charges)} paid back, {asked} doubts shown to a person   "
            f"violations {len(faults)}   from undoing, or the last kill, to consistent: median "
            f"{statistics.median(took):.1f} s, p99 {took[min(len(took) - 1, int(len(took) * 0.99))]:.1f} s   seed {SEED}"
        )
        return faults, asked


@pytest.mark.crash
@pytest.mark.timeout(180)
async def test_plans_that_fail_are_undone_as_a_whole_although_workers_die(engine: Engine, tmp_path: Path) -> None:
    sagas = [Saga(steps=3, serial=serial, fails=fails) for serial in (True, False) for fails in (0, 3)]
    points = ("K4 committed, no answer", "U4 committed, no answer", "U6 settled, unreported")
    assert await campaign(engine, tmp_path, Effect.KEYED, sagas, points, within=2) == ([], 0)


@pytest.mark.timeout(120)
async def test_a_turn_that_was_settled_stands_although_more_is_ready_after_the_crash(
    engine: Engine, tmp_path: Path
) -> None:
    """The worker dies when what follows the first step is settled; when the next one looks, the second step has ended, too."""

    def call(number: int, *after: str) -> dict[str, Any]:
        return {"tool": "charge", "with": {"ref": f"s{number}"}, "depends_on": after}

    steps = {"one": call(1), "two": call(2), "after_one": call(3, "one"), "after_two": call(4, "two")}
    plan = Plan.model_validate({"name": "pairs", "agent": "charger", "steps": {**steps, "last": call(5, *steps)}})
    settings = Settings(home=tmp_path, task_queue="pairs", ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.close()
    async with downstream(tmp_path) as address, await Client.connect(engine.address, settings=settings) as client:
        crash = {"CRASH_POINT": "K0 decided", "CRASH_MARK": str(tmp_path / "mark")}
        crash |= {"CRASH_EFFECT": "KEYED", "CRASH_REFS": "own", "CRASH_UNDO": "1"}
        env = worker_env(engine.address, settings.ledger, "pairs", {"downstream": address}, **crash)
        run = await client.start_plan(plan, id="pairs")
        first = Process("tests.crash.worker", env=env, output=tmp_path / "first.log")
        second = None
        try:
            assert await asyncio.wait_for(first.wait(), 60) == -signal.SIGKILL
            second = Process("tests.crash.worker", env=env, output=tmp_path / "second.log")
            assert (await asyncio.wait_for(run.result(), 60)).status is RunStatus.COMPLETED
        finally:
            for worker in filter(None, (first, second)):
                await worker.stop()
        operations = await run.operations()
        assert sorted(one.arguments["ref"] for one in operations) == ["s1", "s2", "s3", "s4", "s5"]
        assert sorted(await log_of(address)) == sorted(one.operation_id for one in operations)
        assert (await client.ledger.verify(run.id)).faults == ()


@pytest.mark.crash
@pytest.mark.timeout(LIMIT + 120)
@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.RECONCILED, Effect.ONCE])
async def test_the_undo_campaign(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    faults, _ = await campaign(engine, tmp_path, effect, every_saga(8), POINTS * 3, within=5)
    assert faults == []


@pytest.mark.crash
@pytest.mark.timeout(LIMIT + 120)
@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.RECONCILED, Effect.ONCE])
async def test_the_undo_campaign_with_workers_that_freeze(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    faults, _ = await campaign(engine, tmp_path, effect, every_saga(6), FROZEN_POINTS, within=3, injure=freeze_until)
    assert faults == []


@pytest.mark.crash
@pytest.mark.timeout(LIMIT + 120)
@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.RECONCILED, Effect.ONCE])
async def test_the_undo_campaign_with_a_database_that_goes_away(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    server = start_postgres(tmp_path / "postgres")
    try:
        url, hows = new_database(server), ("stopped", "crashed")
        injure = outages_of(server)
        kept = await campaign(engine, tmp_path, effect, every_saga(6), hows, within=2, injure=injure, ledger_url=url)
        assert kept == ([], 0)
    finally:
        server.cleanup()
