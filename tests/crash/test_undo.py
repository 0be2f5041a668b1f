"""kill -9 at every point of undoing: each compensation happens once, in order, or a person is asked; the downstream's log says so."""

import asyncio
import signal
from pathlib import Path

import pytest

from handfast import Client, Effect, Outcome, RunFailed, RunStatus
from handfast.engine.connect import Engine
from handfast.ledger import Ledger
from handfast.settings import Settings
from tests.conftest import outcomes, until
from tests.crash.case import REFS, opened_case
from tests.crash.harness import charges, downstream, worker_env
from tests.crash.test_campaign import RUNS, SEED, counted, killing
from tests.crash.test_freeze import is_stopped, serves

POINTS = (
    "U0 before undoing",
    "U0 begun",
    "U1 started",
    "U2 reserved",
    "U3 before sending",
    "U4 committed, no answer",
    "U5 answered, unwritten",
    "U6 settled, unreported",
    "M4 before closing",
)
DOUBTFUL = POINTS[3:7]
"""Where only the other side knows whether it happened."""
TWICE = (
    "U4 committed, no answer;U2 reserved",
    "U2 reserved;U4 committed, no answer",
    "U0 begun;U6 settled, unreported",
)
AT_ONCE = 5


async def play(engine: Engine, folder: Path, effect: Effect, points: str) -> int:
    """A run of two charges that fails and is undone while its worker dies at the points; how often a person was asked."""
    async with opened_case(engine, folder, effect, points, more={"CRASH_UNDO": "1"}) as case:
        kills, worker = 0, case.worker("first")
        try:
            async with asyncio.timeout(200):
                while not (await case.run.summary()).status.closed:
                    if worker.code is not None:
                        assert worker.code == -signal.SIGKILL, worker.output.read_text()[-3000:]
                        kills += 1
                        worker = case.worker(f"after-{kills}")
                    person = asyncio.create_task(case.unblock_as_a_person_would())
                    await asyncio.wait([person], timeout=0.5)
                    if not person.done() and worker.code is None:
                        await asyncio.wait([person])
                    if person.done():
                        person.result()
                    await asyncio.sleep(0.05)
        finally:
            await worker.stop()
        assert (points, kills) == (points, len(points.split(";")))
        assert (points, (await case.run.summary()).status) == (points, RunStatus.FAILED)
        ledger = case.client.ledger
        assert (points, (await ledger.verify(case.run.id)).faults) == (points, ())
        assert outcomes(await case.run.operations()) == [("charge", Outcome.COMPENSATED)] * 2
        assert (points, await case.charged()) == (points, {"one": 1, "two": 1})
        back = [await charges(case.address, f"undo-{ref}") for ref in REFS]
        assert (points, [len(found) for found in back]) == (points, [1, 1])
        assert (points, back[1][0]["charge"] < back[0][0]["charge"]) == (points, True)
        kinds = [event.kind for event in await ledger.read_events(case.run.id)]
        assert (points, kinds.count("undone")) == (points, 2)
        return len(case.resolved)


async def campaign(engine: Engine, folder: Path, effect: Effect, places: tuple[str, ...]) -> list[tuple[str, int]]:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(points: str) -> tuple[str, int]:
        async with limit:
            return points, await play(engine, folder, effect, points)

    return await asyncio.gather(*(one(points) for points in places))


@pytest.mark.crash
@pytest.mark.timeout(120)
async def test_a_compensation_happens_once_although_its_worker_dies_or_a_person_is_asked(
    engine: Engine, tmp_path: Path
) -> None:
    keyed = ("U4 committed, no answer;U2 reserved", "U6 settled, unreported")
    once = ("U2 reserved", "U5 answered, unwritten;B2 word written")
    protected, asked = await asyncio.gather(
        campaign(engine, tmp_path, Effect.KEYED, keyed), campaign(engine, tmp_path, Effect.ONCE, once)
    )
    assert (protected, asked) == ([(points, 0) for points in keyed], [(points, 1) for points in once])


@pytest.mark.crash
@pytest.mark.timeout(120)
async def test_what_a_model_takes_back_is_undone_once_although_workers_die_and_the_run_goes_on(
    engine: Engine, tmp_path: Path
) -> None:
    async def one(points: str) -> None:
        async with opened_case(engine, tmp_path, Effect.KEYED, points, more={"CRASH_BACK": "1"}) as case:
            kills = await case.play(100)
            result = await case.run.result()
            assert (points, kills, result.status) == (points, len(points.split(";")), RunStatus.COMPLETED)
            back = [await charges(case.address, f"undo-{ref}") for ref in REFS]
            assert (points, await case.charged(), [len(found) for found in back]) == (
                points,
                {"one": 1, "two": 1},
                [1, 1],
            )
            assert {one.tool for one in result.undone} == {"charge"}
            assert (points, (await case.client.ledger.verify(case.run.id)).faults) == (points, ())

    await asyncio.gather(*(one(points) for points in ("U0 begun;U6 settled, unreported", "U4 committed, no answer")))


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.RECONCILED, Effect.TRANSACTIONAL, Effect.ONCE])
async def test_undoing_under_kills_at_every_point(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    """What can be repeated or looked up is undone once, and nobody is asked; of every other doubt a person is, once."""
    protected = effect in {Effect.KEYED, Effect.RECONCILED}
    places = POINTS + (TWICE if protected else ())
    asked = await campaign(engine, tmp_path, effect, places)
    print(
        f"\n{effect}: {len(places)} cases, all undone once, in order; a person was asked {sum(n for _, n in asked)} times"
    )
    assert asked == [(point, int(point in DOUBTFUL and not protected)) for point in places]


@pytest.mark.crash
@pytest.mark.timeout(180)
async def test_an_effect_that_lands_after_it_was_undone_is_told_and_undone_again(
    engine: Engine, tmp_path: Path
) -> None:
    """The worker is frozen inside the write. The run is cancelled and undone meanwhile; then the bytes go out."""
    more = {"CRASH_UNDO": "1", "CRASH_SAFE": "1"}
    async with opened_case(engine, tmp_path, Effect.ONCE, "K3 sending", signal="STOP", more=more) as case:
        frozen = other = None
        try:
            frozen = case.worker("frozen")
            await until(lambda: is_stopped(frozen), seconds=60)
            other = case.worker("other")
            await until(lambda: serves(other), seconds=60)
            await case.run.cancel(undo=True)
            result = await asyncio.wait_for(case.run.result(), 90)
            [undone] = result.undone
            assert (result.status, undone.undone, await case.charged()) == (
                RunStatus.CANCELLED,
                True,
                {"one": 0, "two": 0},
            )
            frozen.signal(signal.SIGCONT)
            ledger = case.client.ledger

            async def told() -> bool:
                return [notice.kind for notice in await ledger.shared.list_notices()] == ["late_effect"]

            await until(told, seconds=60)
            assert await case.charged() == {"one": 1, "two": 0}
            assert [one.undone for one in await case.run.undo()] == [False]
            await case.run.rollback(by="a person")
            rollback = case.client.temporal.get_workflow_handle(f"rollback:{case.run.id}")
            await asyncio.wait_for(rollback.result(), 60)
            assert [one.undone for one in await case.run.undo()] == [True]
            [charge], back = await charges(case.address, "one"), await charges(case.address, "undo-one")
            assert (len(back), back[-1]["charge"] > charge["charge"]) == (2, True)
            assert (await ledger.verify(case.run.id)).faults == ()
        finally:
            for worker in filter(None, (frozen, other)):
                await worker.stop()


@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.RECONCILED])
async def test_random_kills_while_runs_are_made_and_undone(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    queue, url = f"undo-campaign-{effect}", f"sqlite:///{tmp_path / 'ledger.db'}"
    settings = Settings(home=tmp_path, task_queue=queue, ledger_url=url)
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.close()
    async with downstream(tmp_path) as address, await Client.connect(engine.address, settings=settings) as client:
        crash = {
            "CRASH_EFFECT": effect.value, "CRASH_REFS": "own", "CRASH_POINT": "slow", "CRASH_ATTEMPTS": "1000", "CRASH_UNDO": "1",
            "HANDFAST_MAX_CONCURRENT_CALLS": "10",
        }  # fmt: skip
        env = worker_env(engine.address, settings.ledger, queue, {"downstream": address}, **crash)
        async with killing("tests.crash.worker", env, tmp_path / "worker.log") as killer:
            runs = [await client.start("charger", f"Charge {n}", id=f"{queue}-{n}") for n in range(RUNS)]
            ended = asyncio.gather(*(run.result() for run in runs), return_exceptions=True)
            await killer.kill_until(ended.done)
            results = await asyncio.wait_for(ended, 600)
        assert {type(result) for result in results} == {RunFailed}
        charged = await counted(address)
        operations = [operation for run in runs for operation in await run.operations()]
        print(
            f"\n{effect}, undone: {len(killer.killed_at)} kills, {len(operations)} calls, {len(charged)} charges   seed {SEED}"
        )
        wanted = {ref: 1 for one in operations for ref in (one.operation_id, f"undo-{one.operation_id}")}
        assert (len(killer.killed_at) >= 5, charged) == (True, wanted)
        assert {operation.outcome for operation in operations} == {Outcome.COMPENSATED}
        for run in runs:
            assert (await client.ledger.verify(run.id)).faults == ()
