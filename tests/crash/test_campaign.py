"""The longer campaign, `make crash`: a worker killed again and again at random moments, while many runs are under way.

`CRASH_SEED` (printed on failure) repeats it, `CRASH_KILLS` makes it longer.
"""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from holdfast import Client, Effect, Outcome, RunStatus
from holdfast.engine.connect import Engine
from holdfast.ledger import Ledger
from holdfast.settings import Settings
from tests.conftest import outcomes
from tests.crash.harness import Process, charges, downstream, worker_env

SEED = int(os.environ.get("CRASH_SEED", "0")) or random.randrange(1, 10**6)
KILLS = int(os.environ.get("CRASH_KILLS", "25"))
RUNS = 40


@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.RECONCILED])
async def test_random_kills_lose_and_repeat_nothing(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    chance = random.Random(SEED)
    settings = Settings(
        home=tmp_path, task_queue=f"campaign-{effect}", ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}"
    )
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.close()
    async with downstream(tmp_path) as address, await Client.connect(engine.address, settings=settings) as client:
        crash = {
            "CRASH_EFFECT": effect.value,
            "CRASH_REFS": "own",
            "CRASH_POINT": "slow",
            "CRASH_ATTEMPTS": "1000",
            "HOLDFAST_MAX_CONCURRENT_CALLS": "10",
        }
        env = worker_env(engine.address, settings.ledger, settings.task_queue, {"downstream": address}, **crash)
        worker = Process("tests.crash.worker", env=env, output=tmp_path / "worker.log")
        runs = [await client.start("charger", f"Charge {n}", id=f"{effect}-{n}") for n in range(RUNS)]
        ended = asyncio.gather(*(run.result() for run in runs))
        kills = 0
        try:
            for _ in range(KILLS):
                await asyncio.sleep(chance.uniform(1.5, 4.0))
                if ended.done():
                    break
                worker.signal(signal.SIGKILL)
                await worker.wait()
                kills += 1
                worker = Process("tests.crash.worker", env=env, output=tmp_path / "worker.log")
            results = await asyncio.wait_for(ended, 600)
        finally:
            await worker.stop()
        attempts = [operation.attempts for result in results for operation in result.operations]
        print(f"seed {SEED}, {effect}: {kills} kills, {RUNS} runs, {len(attempts)} calls, {sum(attempts)} attempts")
        assert kills >= min(KILLS, 5)
        for result in results:
            refs = [f"{operation.operation_id}" for operation in result.operations]
            counted = [len(await charges(address, ref)) for ref in refs]
            assert (SEED, result.run_id, result.status, counted) == (SEED, result.run_id, RunStatus.COMPLETED, [1, 1])
            assert outcomes(result.operations) == [("charge", Outcome.SUCCEEDED)] * 2
            assert (await client.ledger.verify(result.run_id)).faults == ()
