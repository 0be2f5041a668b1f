"""kill -9 at every point of a call that is a run of its own, and of undoing it: one child, each charge once, and taken back once."""

import asyncio
import signal
from pathlib import Path

import pytest

from holdfast import Effect, Outcome, RunStatus
from holdfast.engine.connect import Engine
from tests.conftest import outcomes
from tests.crash.case import REFS, opened_case
from tests.crash.harness import charges

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
        kills, worker = 0, case.worker("first")
        try:
            async with asyncio.timeout(150):
                while not (await case.run.summary()).status.closed:
                    if worker.code is not None:
                        assert worker.code == -signal.SIGKILL, worker.output.read_text()[-3000:]
                        kills += 1
                        worker = case.worker(f"after-{kills}")
                    await asyncio.sleep(0.05)
        finally:
            await worker.stop()
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
