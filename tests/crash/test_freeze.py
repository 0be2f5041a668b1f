"""SIGSTOP at the points of a call, past its heartbeat and its lease; another worker takes over; SIGCONT."""

import asyncio
import signal
from pathlib import Path

import psutil
import pytest

from handfast import Effect, Outcome, RunStatus
from handfast.engine.connect import Engine
from tests.conftest import outcomes, until
from tests.crash.case import opened_case
from tests.crash.harness import Process

LOOKED = "K1 started"
RESERVED = "K2 reserved"
SENDING = "K3 before sending"
ANSWERED = "K5 answered, unwritten"
CASES = (
    *((Effect.KEYED, point) for point in (LOOKED, ANSWERED)),
    *((Effect.RECONCILED, point) for point in (RESERVED, SENDING)),
    *((Effect.ONCE, point) for point in (RESERVED, ANSWERED)),
    (Effect.TRANSACTIONAL, RESERVED),
)
"""Every class at every point is in `test_matrix.py`. So is the worker that is frozen inside the write, past every look at its lease:
nothing can stop it, and it is told."""


async def is_stopped(worker: Process) -> bool:
    assert worker.code is None, worker.output.read_text()[-3000:]
    return bool(psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)


async def serves(worker: Process) -> bool:
    assert worker.code is None, worker.output.read_text()[-3000:]
    return '"event": "serving"' in worker.output.read_text()


async def freeze(engine: Engine, folder: Path, effect: Effect, point: str, starting: asyncio.Semaphore) -> None:
    """One run whose first worker freezes at the point and wakes up after a second one has settled the call."""
    async with opened_case(engine, folder, effect, point, signal="STOP") as case:
        frozen = other = None
        try:
            async with starting:
                frozen = case.worker("frozen")
                await until(lambda: is_stopped(frozen), seconds=60)
                other = case.worker("other")
                await until(lambda: serves(other), seconds=60)

            async def first_settled() -> bool:
                await case.resolve_as_a_person_would()
                first = (await case.run.operations())[0]
                return first.outcome not in {None, Outcome.UNKNOWN}

            await until(first_settled, seconds=90)
            frozen.signal(signal.SIGCONT)
            result = await asyncio.wait_for(case.run.result(), 60)
        finally:
            for worker in (frozen, other):
                if worker is not None:
                    await worker.stop()
        told = (effect, point)
        doubtful = effect is Effect.ONCE and point != LOOKED
        happened = not (effect is Effect.ONCE and point == RESERVED)
        first = Outcome.SUCCEEDED if happened else Outcome.FAILED
        assert (*told, result.status, len(case.resolved)) == (*told, RunStatus.COMPLETED, int(doubtful))
        assert (*told, await case.charged()) == (*told, {"one": int(happened), "two": 1})
        assert (*told, outcomes(result.operations)) == (*told, [("charge", first), ("charge", Outcome.SUCCEEDED)])
        assert (await case.client.ledger.verify(case.run.id)).faults == ()


@pytest.mark.crash
@pytest.mark.timeout(300)
async def test_a_frozen_worker_that_wakes_up_repeats_nothing(engine: Engine, tmp_path: Path) -> None:
    # All wait side by side, a few start side by side: a call that is slow because its machine is busy is no freeze.
    starting = asyncio.Semaphore(3)
    async with asyncio.TaskGroup() as group:
        for effect, point in CASES:
            group.create_task(freeze(engine, tmp_path, effect, point, starting))
