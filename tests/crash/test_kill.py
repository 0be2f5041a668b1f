"""kill -9 at every point of a call and of a run, for every effect class; the downstream's own log says what happened."""

import asyncio
import signal
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from holdfast import Client, Effect, Outcome, RunResult, RunStatus
from holdfast.client import Run
from holdfast.engine.connect import Engine
from holdfast.ledger import Ledger
from holdfast.settings import Settings
from tests.conftest import outcomes, until
from tests.crash.harness import Process, charges, downstream, worker_env

CALL_POINTS = (
    "K1 started",
    "K2 reserved",
    "K3 before sending",
    "K4 committed, no answer",
    "K5 answered, unwritten",
    "K6 settled, unreported",
)
RUN_POINTS = (
    "M0 before opening",
    "M1 opened",
    "M2 model answered",
    "M3 turn settled",
    "M4 before closing",
    "M5 closed",
)
DOUBTFUL = CALL_POINTS[1:5]
"""Where only the other side knows whether it happened."""
AT_ONCE = 5
"""Cases that run side by side, so that the whole campaign takes a minute."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """How one case ended."""

    point: str
    result: RunResult
    kills: int
    resolved: int
    faults: tuple[str, ...]
    kinds: list[str]
    charged: dict[str, int]


async def play(engine: Engine, folder: Path, effect: Effect, point: str) -> Played:
    """One run of two charges; its worker is killed once at the point and started again."""
    folder = folder / uuid.uuid4().hex[:8]
    folder.mkdir()
    queue = f"crash-{uuid.uuid4().hex[:8]}"
    settings = Settings(home=folder, task_queue=queue, ledger_url=f"sqlite:///{folder / 'ledger.db'}")
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.database.write(lambda connection: connection.execute(text("CREATE TABLE charges (ref TEXT)")))
    await ledger.close()
    async with downstream(folder) as address, await Client.connect(engine.address, settings=settings) as client:
        crash = {"CRASH_POINT": point, "CRASH_MARK": str(folder / "mark"), "CRASH_EFFECT": effect.value}
        env = worker_env(engine.address, settings.ledger, queue, {"downstream": address}, **crash)
        run = await client.start("charger", "Charge", id=f"run-{queue}")
        ended = asyncio.create_task(run.result())
        kills = resolved = 0
        worker = Process("tests.crash.worker", env=env, output=folder / "worker.log")
        try:
            async with asyncio.timeout(90):
                while not ended.done():
                    if worker.code is not None:
                        assert worker.code == -signal.SIGKILL, worker.output.read_text()[-3000:]
                        kills += 1
                        worker = Process("tests.crash.worker", env=env, output=folder / "worker.log")
                    resolved += await resolve_as_a_person_would(run, address)
                    await asyncio.sleep(0.05)
        finally:
            await worker.stop()
        return Played(
            point=point,
            result=await ended,
            kills=kills,
            resolved=resolved,
            faults=(await client.ledger.verify(run.id)).faults,
            kinds=[event.kind for event in await client.ledger.read_events(run.id)],
            charged={
                ref: len(await charges(address, ref)) + await booked(client.ledger, ref) for ref in ("one", "two")
            },
        )


async def booked(ledger: Ledger, ref: str) -> int:
    """Charges that a TRANSACTIONAL tool made in the ledger's own database."""
    count = text("SELECT COUNT(*) FROM charges WHERE ref = :ref")
    return int(await ledger.database.read(lambda connection: connection.execute(count, {"ref": ref}).scalar_one()))


async def resolve_as_a_person_would(run: Run, address: str) -> int:
    """Look at the other side, and say what became of what is not known."""
    unknown = [operation for operation in await run.operations() if operation.outcome is Outcome.UNKNOWN]
    if not unknown or not (await run.state()).waiting:
        return 0
    happened = bool(await charges(address, unknown[0].arguments["ref"]))
    await run.resolve(unknown[0].operation_id, happened=happened, by="a person")
    return 1


async def campaign(engine: Engine, folder: Path, effect: Effect, points: Sequence[str]) -> list[Played]:
    """All points, a few side by side."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(point: str) -> Played:
        async with limit:
            return await play(engine, folder, effect, point)

    return await asyncio.gather(*(one(point) for point in points))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.RECONCILED])
async def test_a_call_that_can_be_repeated_or_looked_up_happens_exactly_once(
    engine: Engine, tmp_path: Path, effect: Effect
) -> None:
    for played in await campaign(engine, tmp_path, effect, CALL_POINTS):
        assert (played.point, played.kills, played.faults) == (played.point, 1, ())
        assert (played.point, played.charged) == (played.point, {"one": 1, "two": 1})
        assert (played.result.status, played.resolved) == (RunStatus.COMPLETED, 0)
        assert outcomes(played.result.operations) == [("charge", Outcome.SUCCEEDED)] * 2


@pytest.mark.timeout(300)
async def test_an_effect_in_the_ledgers_database_commits_with_its_record_or_not_at_all(
    engine: Engine, tmp_path: Path
) -> None:
    points = ("K1 started", "K2 reserved", "T3 written, uncommitted", "T6 committed, unreported")
    for played in await campaign(engine, tmp_path, Effect.TRANSACTIONAL, points):
        assert (played.point, played.kills, played.faults) == (played.point, 1, ())
        assert (played.point, played.charged) == (played.point, {"one": 1, "two": 1})
        assert (played.result.status, played.resolved) == (RunStatus.COMPLETED, 0)
        attempts = [operation.attempts for operation in played.result.operations]
        assert (played.point, attempts) == (played.point, [2 if played.point in points[1:3] else 1, 1])


@pytest.mark.timeout(300)
async def test_a_call_that_nothing_protects_happens_at_most_once_and_every_doubt_is_shown(
    engine: Engine, tmp_path: Path
) -> None:
    for played in await campaign(engine, tmp_path, Effect.ONCE, CALL_POINTS):
        happened = played.point not in {"K2 reserved", "K3 before sending"}
        assert (played.point, played.kills, played.faults) == (played.point, 1, ())
        assert (played.point, played.charged) == (played.point, {"one": int(happened), "two": 1})
        assert (played.point, played.resolved) == (played.point, int(played.point in DOUBTFUL))
        first = Outcome.SUCCEEDED if happened else Outcome.FAILED
        assert outcomes(played.result.operations) == [("charge", first), ("charge", Outcome.SUCCEEDED)]


@pytest.mark.timeout(300)
async def test_a_kill_between_calls_loses_and_repeats_nothing(engine: Engine, tmp_path: Path) -> None:
    for played in await campaign(engine, tmp_path, Effect.KEYED, RUN_POINTS):
        assert (played.point, played.kills, played.faults) == (played.point, 1, ())
        assert played.charged == {"one": 1, "two": 1}
        assert (played.result.status, played.result.turns) == (RunStatus.COMPLETED, 3)
        repeats = played.kinds.count("repeated")
        assert (played.point, repeats) == (played.point, int(played.point == "M2 model answered"))


@pytest.mark.timeout(120)
async def test_a_frozen_worker_that_wakes_up_repeats_nothing(engine: Engine, tmp_path: Path) -> None:
    """SIGSTOP in the middle of a call, past its heartbeat; another worker takes over; SIGCONT."""
    queue = f"freeze-{uuid.uuid4().hex[:8]}"
    settings = Settings(home=tmp_path, task_queue=queue, ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.close()
    async with downstream(tmp_path) as address, await Client.connect(engine.address, settings=settings) as client:
        env = worker_env(engine.address, settings.ledger, queue, {"downstream": address}, CRASH_POINT="slow")
        frozen = Process("tests.crash.worker", env=env, output=tmp_path / "frozen.log")
        other: Process | None = None
        try:
            run = await client.start("charger", "Charge", id=f"run-{queue}")

            async def reserved() -> bool:
                return any(operation.state == "reserved" for operation in await run.operations())

            await until(reserved)
            frozen.signal(signal.SIGSTOP)
            other = Process("tests.crash.worker", env=env, output=tmp_path / "other.log")

            async def first_done() -> bool:
                return any(operation.outcome is not None for operation in await run.operations())

            await until(first_done, seconds=60)
            frozen.signal(signal.SIGCONT)
            result = await run.result()
        finally:
            await frozen.stop()
            if other is not None:
                await other.stop()
        assert result.status is RunStatus.COMPLETED
        assert [operation.attempts for operation in result.operations] == [2, 1]
        assert [len(await charges(address, ref)) for ref in ("one", "two")] == [1, 1]
        assert (await client.ledger.verify(run.id)).faults == ()
