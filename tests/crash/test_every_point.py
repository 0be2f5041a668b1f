"""kill -9 at every crash point of every call and every compensation of a plan, one plan for each of them; and at two in a row.

Plans of two to eight steps, serial and side by side, that fail at one of their steps or at none. A few workers serve them, each one
plan after the other. The other side's own log says what became of it.
"""

import asyncio
import contextlib
import itertools
import json
import random
import signal
import statistics
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from handfast import Client, Effect
from handfast.engine.connect import Engine
from handfast.ledger import Ledger
from handfast.settings import Settings
from tests.crash.harness import Process, downstream, worker_env
from tests.crash.sagas import Saga, faults_of, log_of, look_as_a_person_would, seconds_to_consistent
from tests.crash.test_campaign import SEED
from tests.crash.test_sagas import FROZEN_SECONDS

SENT = ("2 reserved", "3 before sending", "3 sending", "4 committed, no answer", "5 answered, unwritten")
OF_CALLS = ("K1 started", *(f"K{point}" for point in SENT), "K6 settled, unreported")
OF_UNDOING = ("U1 started", *(f"U{point}" for point in SENT), "U6 settled, unreported")
OPENING = ("M0 before opening", "M1 opened")
ENDING_BADLY = ("U0 before undoing", "U0 begun", "M4 before closing", "M5 closed")
"""One that ends well is closed with its last call."""
FREEZES = tuple(
    point
    for point in (*OPENING, *OF_CALLS, *ENDING_BADLY, *OF_UNDOING)
    if not point.endswith("3 sending") and "no answer" not in point
)
"""Where a worker may be frozen and find out, once it wakes up, that its lease is over. Inside the very write nothing can stop it."""
AWAKE_SECONDS = 2
"""How long one that was frozen goes on beside the other one."""
WITHIN = 60
"""Seconds within which a plan must be consistent."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A plan, and where its workers are killed, one after the other: each at that passing of that point."""

    saga: Saga
    strikes: tuple[tuple[str, int], ...]


def struck(saga: Saga, point: str, passing: int = 1) -> Cell:
    """A plan whose worker is killed once."""
    return Cell(saga=saga, strikes=((point, passing),))


def cells_of(saga: Saga) -> Iterator[Cell]:
    """Every point of every call and of all that undoes them."""
    charges = saga.steps - 1 if saga.fails else saga.steps
    before = saga.fails - 1 if saga.fails and saga.serial else charges
    for point in (*OPENING, *(ENDING_BADLY if saga.fails else ())):
        yield struck(saga, point)
    for point, passing in itertools.product(OF_CALLS, range(1, before + 1)):
        yield struck(saga, point, passing)
    if saga.fails:
        yield struck(saga, "K6 settled, unreported", before + 1)
        for point, passing in itertools.product(OF_UNDOING, range(1, before + 1)):
            yield struck(saga, point, passing)


def every_cell(lengths: Sequence[int]) -> list[Cell]:
    """Serial plans fail at their last step: one that fails earlier is a shorter one. Others fail at each in turn, but the first."""
    cells: list[Cell] = []
    for steps in lengths:
        cells += cells_of(Saga(steps=steps, serial=True, fails=steps))
        cells += cells_of(Saga(steps=steps, serial=True, fails=0))
        aside = list(cells_of(Saga(steps=steps, serial=False, fails=steps)))
        cells += [
            replace(cell, saga=replace(cell.saga, fails=2 + number % (steps - 1))) for number, cell in enumerate(aside)
        ]
        cells += cells_of(Saga(steps=steps, serial=False, fails=0))
    return cells


def twice(chance: random.Random, how_many: int) -> list[Cell]:
    """Plans whose next worker is killed as well, at a point that comes later, if it comes to that."""
    cells: list[Cell] = []
    for first in chance.sample(every_cell(range(2, 9)), how_many):
        [(point, passing)] = first.strikes
        order = (*OPENING, *OF_CALLS, *ENDING_BADLY[:2], *OF_UNDOING, *ENDING_BADLY[2:])
        # What the first one was killed at is passed once more, or was passed for the last time.
        later = order[order.index(point) :] if first.saga.fails else OF_CALLS
        cells.append(replace(first, strikes=((point, passing), (chance.choice(later), chance.randint(1, 2)))))
    return cells


@dataclass(frozen=True, kw_only=True)
class Played:
    """What became of a plan."""

    cell: Cell
    faults: Sequence[str]
    killed: int
    doubts: int
    """So often a person was asked."""
    seconds: float | None
    """From the moment at which undoing began, or from the kill if that was later, to the end; None if nothing was undone."""


def is_frozen(worker: Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
    return False


class Workers:
    """One at a time serves a line of plans. Where it is killed or frozen another one takes over; a frozen one wakes up beside it."""

    def __init__(self, env: Mapping[str, str], output: Path) -> None:
        self._env = env
        self._output = output
        self._frozen: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until it is cancelled."""
        while True:
            worker = Process("tests.crash.worker", env=self._env, output=self._output)
            try:
                # No thread waits for it: of those there are fewer than lines.
                while worker.code is None and not is_frozen(worker):
                    await asyncio.sleep(0.05)
                assert worker.code in {None, -signal.SIGKILL}, worker.output.read_text()[-3000:]
            except BaseException:
                await worker.stop()
                raise
            if worker.code is None:
                self._frozen.add(asyncio.create_task(self._wake(worker)))
            else:
                await worker.stop()

    async def _wake(self, worker: Process) -> None:
        try:
            await asyncio.sleep(FROZEN_SECONDS)
            worker.signal(signal.SIGCONT)
            await asyncio.sleep(AWAKE_SECONDS)
        finally:
            await worker.stop()

    async def all_awake(self) -> None:
        """Wait until each that was frozen has had its time to do what it was about to do."""
        await asyncio.gather(*self._frozen)


@asynccontextmanager
async def served(env: Mapping[str, str], folder: Path) -> AsyncGenerator[Workers]:
    """By one worker at a time."""
    workers = Workers(env, folder / "worker.log")
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(workers.serve())
        yield workers
        serving.cancel()


async def play(
    engine: Engine, folder: Path, effect: Effect, cells: Sequence[Cell], address: str, blow: str
) -> list[Played]:
    """Plans that are served one after the other, by one worker at a time."""
    marks, targets = folder / "marks", folder / "targets.json"
    queue = f"{effect}-{folder.parent.name}-{folder.name}"
    settings = Settings(home=folder, task_queue=queue, ledger_url=f"sqlite:///{folder / 'ledger.db'}")
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.close()
    ids = [f"{queue}-{number}" for number in range(len(cells))]
    targets.write_text(json.dumps({run_id: cell.strikes for run_id, cell in zip(ids, cells, strict=True)}))
    crash = {
        "CRASH_EFFECT": effect.value, "CRASH_REFS": "own", "CRASH_UNDO": "1", "CRASH_TARGETS": str(targets), "CRASH_MARK": str(marks),
        "CRASH_SIGNAL": blow,
    }  # fmt: skip
    env = worker_env(engine.address, settings.ledger, queue, {"downstream": address}, **crash)
    played: list[Played] = []
    async with await Client.connect(engine.address, settings=settings) as client, served(env, folder) as workers:
        for run_id, cell in zip(ids, cells, strict=True):
            run = await client.start_plan(cell.saga.plan, id=run_id)
            doubts = 0
            async with asyncio.timeout(WITHIN):
                if effect is Effect.ONCE:
                    doubts = await look_as_a_person_would(run, address)
                await asyncio.gather(run.result(), return_exceptions=True)
            await workers.all_awake()
            mark = marks / run_id
            killed_at = [float(at) for at in mark.read_text().splitlines()] if mark.exists() else []
            faults = [
                *await faults_of(cell.saga, effect, run, await log_of(address)),
                *(await client.ledger.verify(run_id)).faults,
            ]
            seconds = await seconds_to_consistent(client.ledger, run, killed_at)
            played.append(Played(cell=cell, faults=faults, killed=len(killed_at), doubts=doubts, seconds=seconds))
    return played


async def campaign(
    engine: Engine, folder: Path, effect: Effect, cells: Sequence[Cell], *, lines: int = 20, blow: str = "KILL"
) -> list[Played]:
    """So many plans at once, each with a worker of its own."""
    for line in range(lines):
        (folder / str(line) / "marks").mkdir(parents=True)
    async with downstream(folder) as address:
        played = await asyncio.gather(
            *(play(engine, folder / str(line), effect, cells[line::lines], address, blow) for line in range(lines))
        )
    return [one for line in played for one in line]


def require_whole(effect: Effect, played: Sequence[Played]) -> None:
    """No fault, and every plan was struck where it was to be first."""
    took = sorted(one.seconds for one in played if one.seconds is not None)
    kills, doubts = sum(one.killed for one in played), sum(one.doubts for one in played)
    print(
        f"\n{effect:<11} {len(played)} plans, {kills} kills, {doubts} doubts shown to a person   "
        f"violations {sum(len(one.faults) for one in played)}   from undoing, or the last kill, to consistent: "
        f"median {statistics.median(took):.1f} s, p99 {took[int(len(took) * 0.99)]:.1f} s"
    )
    assert [(one.cell, one.faults) for one in played if one.faults] == []
    assert [one.cell for one in played if not one.killed] == []


@pytest.mark.timeout(240)
async def test_a_plan_is_whole_or_undone_wherever_its_worker_dies(engine: Engine, tmp_path: Path) -> None:
    require_whole(Effect.KEYED, await campaign(engine, tmp_path, Effect.KEYED, every_cell([2])))


EFFECTS = pytest.mark.parametrize("effect", [Effect.KEYED, Effect.RECONCILED, Effect.ONCE])


@pytest.mark.crash
@pytest.mark.timeout(3600)
@EFFECTS
async def test_every_point_of_every_call_and_compensation(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    require_whole(effect, await campaign(engine, tmp_path, effect, every_cell(range(2, 9))))


@pytest.mark.crash
@pytest.mark.timeout(1800)
@EFFECTS
async def test_two_points_in_a_row(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    print(f"\nseed {SEED}")
    require_whole(effect, await campaign(engine, tmp_path, effect, twice(random.Random(SEED), 200)))


@pytest.mark.crash
@pytest.mark.timeout(3600)
@EFFECTS
async def test_frozen_at_every_point(engine: Engine, tmp_path: Path, effect: Effect) -> None:
    cells = [cell for cell in every_cell(range(2, 7)) if cell.strikes[0][0] in FREEZES]
    require_whole(effect, await campaign(engine, tmp_path, effect, cells, lines=40, blow="STOP"))
