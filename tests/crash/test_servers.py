"""The Temporal server killed at each point of a call, alone and together with the worker; part of `make crash`.

What it has in memory is gone: open polls, updates nobody has accepted, and what it had not written. The bar is the matrix's.
"""

import asyncio
import signal
from pathlib import Path

import pytest
from temporalio.service import RPCError

from handfast import Effect, Lane
from handfast.contracts.errors import DecisionRefused, EngineUnavailable, RunError
from handfast.engine.connect import is_serving
from handfast.engine.embedded import EmbeddedEngine
from tests.conftest import until
from tests.crash.case import Case, opened_case
from tests.crash.harness import Process
from tests.crash.test_matrix import SEED, Seen, System, require, seen, told

SYSTEMS = (
    System(effect=Effect.READ, manner="plain"),
    System(effect=Effect.IDEMPOTENT, manner="plain"),
    System(effect=Effect.KEYED, manner="keyed"),
    System(effect=Effect.KEYED, manner="keyed", lane=Lane.FAST),
    System(effect=Effect.TRANSACTIONAL, manner="plain"),
    System(effect=Effect.RECONCILED, manner="plain"),
    System(effect=Effect.ONCE, manner="plain"),
)


async def injured(server: EmbeddedEngine, folder: Path, system: System, point: str, victims: str) -> Seen:
    """One run of two charges; at the point the server dies, or the server and the worker."""
    more = {"CRASH_MANNER": system.manner, "CRASH_LANE": system.lane.value}
    more |= {"CRASH_VICTIMS": victims, "CRASH_SERVER": str(folder / "engine" / "engine.json")}
    async with opened_case(server.engine, folder, system.effect, point, more=more) as case:
        worker = case.worker("first")
        person = asyncio.create_task(resolving(case))
        try:
            async with asyncio.timeout(200):
                while not (await case.run.summary()).status.closed:
                    if worker.code is not None:
                        worker = await another(case, worker, server)
                    await asyncio.sleep(0.05)
        finally:
            person.cancel()
            await worker.stop()
        await until(lambda: is_serving(server.engine.address), seconds=60)
        injuries = len((case.folder / "mark").read_text().splitlines())
        return await seen(server.engine, case, (point,), injuries)


async def another(case: Case, killed: Process, server: EmbeddedEngine) -> Process:
    """A new worker in place of one that was killed, once there is a server to work for."""
    assert killed.code == -signal.SIGKILL, killed.output.read_text()[-3000:]
    await until(lambda: is_serving(server.engine.address), seconds=60)
    return case.worker("after")


async def resolving(case: Case) -> None:
    """Look at each doubt and say what became of it; said again if the server has died meanwhile."""
    while True:
        known = set(case.resolved)
        try:
            await asyncio.wait_for(case.resolve_as_a_person_would(), 10)
        except DecisionRefused:
            pass  # it was taken, and the answer was lost
        except (RunError, EngineUnavailable, RPCError, TimeoutError):
            case.resolved.intersection_update(known)
        await asyncio.sleep(0.1)


@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("system", SYSTEMS, ids=str)
async def test_the_server_is_killed_at_every_point_of_a_call(tmp_path: Path, system: System) -> None:
    async with EmbeddedEngine(tmp_path / "engine") as server:
        for victims in ("server", "both"):
            cases = [await injured(server, tmp_path, system, point, victims) for point in system.points]
            print(f"\n{told(system, f'{victims} killed', cases)}   seed {SEED}")
            for case in cases:
                require(system, victims, case)
