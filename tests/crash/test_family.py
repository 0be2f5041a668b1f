"""kill -9 at every point of a call that is a run of its own, and of undoing it: one child, each charge once, and taken back once."""

import asyncio
import random
from pathlib import Path

import httpx
import pytest

from handfast import Client, Effect, Outcome, RunFailed, RunStatus
from handfast.engine.connect import Engine
from handfast.ledger import Ledger
from handfast.settings import Settings
from tests.conftest import outcomes
from tests.crash.case import REFS, opened_case
from tests.crash.harness import charges, downstream, worker_env
from tests.crash.test_campaign import RUNS, SEED, killing
from tests.family.trees import Job, below, expected, grown, require_order

BEGUN = ("F0 before it is begun", "F1 child begun", "F2 child ended", "F3 its end written")
OWN = (
    "M0 before opening", "M1 opened", "M2 model answered", "K0 decided", "K1 started", "K2 reserved", "K3 before sending",
    "K4 committed, no answer", "K5 answered, unwritten", "K6 settled, unreported", "M4 before closing", "M5 closed",
)  # fmt: skip
"""Points that a run passes; the second passing is the child's, as far as its parent has passed it before."""
PASSED_BEFORE = {"M0 before opening", "M1 opened", "M2 model answered", "K0 decided"}
UNDOING = (
    "U0 before undoing", "U0 begun", "U2 reserved", "U4 committed, no answer", "U6 settled, unreported", "F4 child undone",
    "F5 its undoing written",
)  # fmt: skip
TWICE = ("F1 child begun;F3 its end written", "F2 child ended;F2 child ended", "K4 committed, no answer;F2 child ended")
AT_ONCE = 5


async def play(engine: Engine, folder: Path, effect: Effect, points: str, *, undo: bool, count: int = 1) -> None:
    """A run whose first charge another agent makes, while its worker dies at the points."""
    more = {"CRASH_FAMILY": "1", "CRASH_COUNT": str(count), **({"CRASH_UNDO": "1"} if undo else {})}
    async with opened_case(engine, folder, effect, points, more=more) as case:
        kills = await case.play()
        assert (points, kills) == (points, len(points.split(";")))
        status = RunStatus.FAILED if undo else RunStatus.COMPLETED
        assert (points, (await case.run.summary()).status) == (points, status)
        became = Outcome.COMPENSATED if undo else Outcome.SUCCEEDED
        assert (points, outcomes(await case.run.operations())) == (points, [("clerk", became), ("charge", became)])
        assert (points, await case.charged()) == (points, {"one": 1, "two": 1})
        back = [await charges(case.address, f"undo-{ref}") for ref in REFS]
        assert (points, [len(found) for found in back]) == (points, [int(undo)] * 2)
        assert not undo or back[1][0]["charge"] < back[0][0]["charge"]
        runs = await case.client.runs()
        assert (points, sorted(one.agent for one in runs)) == (points, ["charger", "clerk"])
        for one in runs:
            assert (points, (await case.client.ledger.verify(one.run_id)).faults) == (points, ())
        row = await case.client.ledger.read_run(case.run.id)
        assert (points, row.calls_below) == (points, 1)


async def campaign(engine: Engine, folder: Path, effect: Effect, places: list[tuple[str, bool, int]]) -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(points: str, undo: bool, count: int) -> None:
        async with limit:
            await play(engine, folder, effect, points, undo=undo, count=count)

    await asyncio.gather(*(one(*place) for place in places))


@pytest.mark.timeout(120)
async def test_a_child_is_one_run_and_undone_once_although_workers_die(engine: Engine, tmp_path: Path) -> None:
    places = [("K4 committed, no answer;F2 child ended", False, 1), ("F5 its undoing written", True, 1)]
    await campaign(engine, tmp_path, Effect.KEYED, places)


@pytest.mark.crash
@pytest.mark.timeout(900)
@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.RECONCILED])
async def test_families_under_kills_at_every_point(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    made = [(point, False, 1) for point in (*BEGUN, *TWICE)]
    made += [(point, False, 2 if point in PASSED_BEFORE else 1) for point in OWN]
    undone = [(point, True, count) for point in UNDOING for count in ((1,) if point.startswith("F") else (1, 2))]
    await campaign(engine, tmp_path, effect, made + undone)
    print(
        f"\n{effect}: {len(made)} families made and {len(undone)} undone under kills: one child each, every charge once"
    )


@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.RECONCILED])
async def test_families_of_any_shape_under_random_kills(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    """What stands in the charging service's log is what the jobs say, each charge once and taken back once, in order."""
    queue, url = f"family-campaign-{effect}", f"sqlite:///{tmp_path / 'ledger.db'}"
    settings = Settings(home=tmp_path, task_queue=queue, ledger_url=url)
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.close()
    chance = random.Random(SEED)
    jobs = [grown(chance, f"tree{number}") for number in range(RUNS)]
    async with downstream(tmp_path) as address, await Client.connect(engine.address, settings=settings) as client:
        crash = {
            "CRASH_EFFECT": effect.value, "CRASH_TREE": "1", "CRASH_POINT": "slow", "CRASH_ATTEMPTS": "1000",
            "HANDFAST_MAX_CONCURRENT_CALLS": "10",
        }  # fmt: skip
        env = worker_env(engine.address, settings.ledger, queue, {"downstream": address}, **crash)
        async with killing("tests.crash.worker", env, tmp_path / "worker.log") as killer:
            runs = [await client.start("firm0", job.model_dump_json(), id=f"{queue}-{n}") for n, job in enumerate(jobs)]
            ended = asyncio.gather(*(run.result() for run in runs), return_exceptions=True)
            await killer.kill_until(ended.done)
            results = await asyncio.wait_for(ended, 1200)
        assert [isinstance(one, RunFailed) for one in results] == [job.fails for job in jobs]
        async with httpx.AsyncClient() as http:
            log = [str(row["ref"]) for row in (await http.get(f"{address}/charges")).json()]
        assert len(set(log)) == len(log)
        for run, job in zip(runs, jobs, strict=True):
            await require_whole(client, run.id, job, log)
        back = sum(ref.startswith("undo-") for ref in log)
        print(
            f"\n{effect}: {len(jobs)} families of {sum(len(job.jobs) for job in jobs)} runs, {len(killer.killed_at)} kills, "
            f"{len(log) - back} charges, {back} paid back, violations 0   seed {SEED}"
        )
        assert len(killer.killed_at) >= 5


async def require_whole(client: Client, run_id: str, job: Job, log: list[str]) -> None:
    things = set(job.things)
    told = [("cancel", ref.removeprefix("undo-")) if ref.startswith("undo-") else ("book", ref) for ref in log]
    own = [(did, thing) for did, thing in told if thing in things]
    stands = {thing for did, thing in own if did == "book"} - {thing for did, thing in own if did == "cancel"}
    assert {thing for did, thing in own if did == "book"} == things
    assert stands == expected(job, set())
    require_order(job, own)
    family_ids = [run_id, *await below(client, run_id)]
    assert len(family_ids) == len(job.jobs)
    rows = [await client.ledger.read_run(one) for one in family_ids]
    assert rows[0].calls_below == sum(row.calls for row in rows[1:])
    for one in family_ids:
        assert (await client.ledger.verify(one)).faults == ()
