"""The longer campaign, `make crash`: a worker killed again and again at random moments, while many runs are under way.

`CRASH_SEED` (printed) repeats the kills, `CRASH_KILLS` makes it longer. A naive loop goes through the same as the baseline.
"""

import asyncio
import os
import random
import signal
import statistics
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.service import RPCError

from handfast import Client, Effect, Outcome, Run, RunStatus
from handfast.contracts.errors import DecisionRefused, EngineUnavailable, RunError
from handfast.engine.connect import Engine, connect, is_serving
from handfast.engine.embedded import EmbeddedEngine
from handfast.ledger import Ledger
from handfast.settings import Settings
from tests.conftest import until
from tests.crash.harness import Process, downstream, worker_env
from tests.crash.naive import CHARGES

SEED = int(os.environ.get("CRASH_SEED", "0")) or random.randrange(1, 10**6)
KILLS = int(os.environ.get("CRASH_KILLS", "25"))
RUNS = 40
VICTIMS = ({"worker"}, {"worker"}, {"server"}, {"worker", "server"})


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What became of the intended calls, by the downstream's own log."""

    system: str
    kills: int
    calls: int
    duplicated: int
    lost: int
    """Claimed to have happened, and not in the log."""
    doubtful: int
    """Shown to a person as not known."""
    attempts: int
    recovery: list[float]
    """Seconds from each kill to the next step that was settled."""

    def __str__(self) -> str:
        recovered = sorted(self.recovery)
        p50, worst = (statistics.median(recovered), recovered[-1]) if recovered else (0, 0)
        return (
            f"{self.system:<24} {self.kills:>3} kills {self.calls:>4} calls {self.attempts:>4} attempts   "
            f"duplicated {self.duplicated:>3}   lost {self.lost:>3}   doubtful {self.doubtful:>3}   "
            f"next step after a kill, kills going on: p50 {p50:.1f} s, worst {worst:.1f} s   seed {SEED}"
        )


class Killer:
    """Starts a worker, and kills it at random moments; with a server of its own also that, or both at once."""

    def __init__(self, module: str, env: Mapping[str, str], output: Path, server: EmbeddedEngine | None = None) -> None:
        self._module, self._env, self._output, self._server = module, env, output, server
        self.worker = self._start()
        self.killed_at: list[float] = []

    def _start(self) -> Process:
        return Process(self._module, env=self._env, output=self._output)

    async def kill_until(self, ended: Callable[[], bool]) -> None:
        chance = random.Random(SEED)
        while len(self.killed_at) < KILLS and not ended():
            await asyncio.sleep(chance.uniform(1.5, 4.0))
            victims = {"worker"} if self._server is None else chance.choice(VICTIMS)
            self.killed_at.append(time.time())
            if self._server is not None and "server" in victims:
                # Its supervisor starts it again, on the same data.
                await until(self._server_is_back, seconds=60)
                os.kill(self._server.engine.pid, signal.SIGKILL)
            if "worker" in victims:
                self.worker.signal(signal.SIGKILL)
                await self.worker.wait()
                self.worker = self._start()

    async def _server_is_back(self) -> bool:
        return self._server is not None and await is_serving(self._server.engine.address)


@asynccontextmanager
async def killing(
    module: str, env: Mapping[str, str], output: Path, server: EmbeddedEngine | None = None
) -> AsyncGenerator[Killer]:
    killer = Killer(module, env, output, server)
    try:
        yield killer
    finally:
        await killer.worker.stop()


async def counted(address: str) -> dict[str, int]:
    """How often each reference was charged."""
    async with httpx.AsyncClient() as http:
        rows: list[dict[str, Any]] = (await http.get(f"{address}/charges")).json()
    refs = [str(row["ref"]) for row in rows]
    return {ref: refs.count(ref) for ref in refs}


async def resolve_as_a_person_would(run: Run, address: str) -> int:
    """Look at the other side for each call whose outcome is not known, until the run is over; how many there were."""
    resolved: set[str] = set()
    while not (await run.summary()).status.closed:
        for operation in await run.operations():
            if operation.outcome is Outcome.UNKNOWN and operation.operation_id not in resolved:
                happened = operation.operation_id in await counted(address)
                try:
                    await asyncio.wait_for(run.resolve(operation.operation_id, happened=happened, by="a person"), 10)
                except DecisionRefused:
                    pass  # it was taken, and the answer was lost
                except (RunError, EngineUnavailable, RPCError, TimeoutError):
                    continue  # the server is away: said again in a moment
                resolved.add(operation.operation_id)
        await asyncio.sleep(0.5)
    return len(resolved)


def recovery(killed_at: list[float], settled_at: list[float]) -> list[float]:
    """From each kill to the first step after it."""
    return [min(after) - kill for kill in killed_at if (after := [at for at in settled_at if at > kill])]


@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.RECONCILED, Effect.ONCE])
async def test_random_kills_lose_and_repeat_nothing(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    await campaign(engine.address, tmp_path, effect)


@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.RECONCILED, Effect.ONCE])
async def test_random_kills_of_worker_and_temporal_server_lose_and_repeat_nothing(
    tmp_path: Path, effect: Effect
) -> None:
    async with EmbeddedEngine(tmp_path / "engine") as server:
        await campaign(server.engine.address, tmp_path, effect, server)


async def campaign(temporal: str, folder: Path, effect: Effect, server: EmbeddedEngine | None = None) -> None:
    """Many runs under kills, and the bar."""
    queue, url = f"campaign-{effect}-{'both' if server else 'worker'}", f"sqlite:///{folder / 'ledger.db'}"
    settings = Settings(home=folder, task_queue=queue, ledger_url=url)
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.close()
    async with downstream(folder) as address, await Client.connect(temporal, settings=settings) as client:
        crash = {
            "CRASH_EFFECT": effect.value,
            "CRASH_REFS": "own",
            "CRASH_POINT": "slow",
            "CRASH_ATTEMPTS": "1000",
            "HANDFAST_MAX_CONCURRENT_CALLS": "10",
        }
        env = worker_env(temporal, settings.ledger, queue, {"downstream": address}, **crash)
        async with killing("tests.crash.worker", env, folder / "worker.log", server) as killer:
            runs = [await client.start("charger", f"Charge {n}", id=f"{queue}-{n}") for n in range(RUNS)]
            people = asyncio.gather(*(resolve_as_a_person_would(run, address) for run in runs))
            await killer.kill_until(people.done)
            doubtful = sum(await asyncio.wait_for(people, 600))
        results = [await run.result() for run in runs]
        operations = [operation for result in results for operation in result.operations]
        charged = await counted(address)
        tally = Tally(
            system=f"{effect}{', server too' if server else ''}",
            kills=len(killer.killed_at),
            calls=len(operations),
            duplicated=sum(number > 1 for number in charged.values()),
            lost=sum(o.outcome is Outcome.SUCCEEDED and o.operation_id not in charged for o in operations),
            doubtful=doubtful,
            attempts=sum(operation.attempts for operation in operations),
            recovery=recovery(killer.killed_at, [o.settled_at.timestamp() for o in operations if o.settled_at]),
        )
        print(f"\n{tally}")
        assert (tally.kills >= min(KILLS, 5), tally.duplicated, tally.lost) == (True, 0, 0), tally
        happened = {operation.operation_id for operation in operations if operation.outcome is Outcome.SUCCEEDED}
        assert happened == charged.keys(), tally
        for result in results:
            assert (result.status, len(result.operations)) == (RunStatus.COMPLETED, CHARGES), tally
            assert (await client.ledger.verify(result.run_id)).faults == (), tally
        if effect is not Effect.ONCE:
            assert (tally.doubtful, len(happened)) == (0, RUNS * CHARGES), tally


@pytest.mark.crash
@pytest.mark.timeout(1800)
async def test_the_naive_loop_repeats_effects_under_the_same_kills(engine: Engine, tmp_path: Path) -> None:
    """The baseline: if it came through unharmed, the campaign would prove nothing."""
    settings = Settings(home=tmp_path, task_queue="campaign-naive")
    async with downstream(tmp_path) as address:
        env = worker_env(engine.address, "", settings.task_queue, {}, NAIVE_DOWNSTREAM=address)
        async with killing("tests.crash.naive", env, tmp_path / "worker.log") as killer:
            finished, attempts, settled_at = await under_kills(engine, settings.task_queue, killer)
        charged = await counted(address)
    tally = Tally(
        system="naive loop",
        kills=len(killer.killed_at),
        calls=finished * CHARGES,
        duplicated=sum(number > 1 for number in charged.values()),
        lost=finished * CHARGES - len(charged),
        doubtful=0,
        attempts=attempts,
        recovery=recovery(killer.killed_at, settled_at),
    )
    print(f"\n{tally}")
    assert tally.duplicated > 0, tally


async def under_kills(engine: Engine, queue: str, killer: Killer) -> tuple[int, int, list[float]]:
    """Run the naive workflows; how many there were, how many attempts they took, and when each step ended."""
    temporal, _ = await connect(Settings(task_queue=queue), engine.address)
    handles = [await temporal.start_workflow("NaiveRun", id=f"{queue}-{n}", task_queue=queue) for n in range(RUNS)]
    ended = asyncio.gather(*(handle.result() for handle in handles))
    await killer.kill_until(ended.done)
    await ended
    attempts, at = 0, list[float]()
    for handle in handles:
        async for event in handle.fetch_history_events():
            if event.HasField("activity_task_started_event_attributes"):
                attempts += event.activity_task_started_event_attributes.attempt
            if event.HasField("activity_task_completed_event_attributes"):
                at.append(event.event_time.ToMilliseconds() / 1000)
    return len(handles), attempts, at
