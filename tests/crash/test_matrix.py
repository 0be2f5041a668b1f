"""The campaign point by point, part of `make crash`: each effect class, each point of a call, each injury, each downstream.

Injuries: killed once, killed at two points in a row (from `CRASH_SEED`), frozen past lease and heartbeat while another worker
takes over. The table counts by the downstream's own log, in a process of its own. A few of the same cases are in `make test`
(`test_kill.py`, `test_freeze.py`).
"""

import asyncio
import os
import random
import signal
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from handfast import Effect, Lane, Outcome, RunStatus
from handfast.client.anchors import read_anchors
from handfast.engine.connect import Engine, connect
from handfast.settings import Settings
from tests.conftest import until
from tests.crash.case import REFS, Case, opened_case
from tests.crash.test_freeze import is_stopped, serves
from tests.replay.test_replay import replayer

SEED = int(os.environ.get("CRASH_SEED", "0")) or random.randrange(1, 10**6)
AT_ONCE = {"killed": 4, "killed twice": 4, "frozen": 8}
"""A case that is killed starts processes all the time, one that is frozen waits most of it."""
POINTS = (
    "K0 decided", "K1 started", "K2 reserved", "K3 before sending", "K3 sending", "K4 committed, no answer",
    "K5 answered, unwritten", "K6 settled, unreported", "K7 reported",
)  # fmt: skip
IN_A_TRANSACTION = (
    "K0 decided", "K1 started", "K2 reserved", "T3 written, uncommitted", "T6 committed, unreported", "K7 reported",
)  # fmt: skip
NOT_WHEN_FROZEN = {"K0 decided", "K4 committed, no answer", "T3 written, uncommitted", "K7 reported"}
"""Between activities there is nothing to freeze but the process, and the downstream can only kill. Inside a transaction the frozen
process has SQLite's write lock: everybody waits until it is woken or ended, and nothing can be settled meanwhile."""


@dataclass(frozen=True, kw_only=True)
class System:
    """What is put through the campaign."""

    effect: Effect
    manner: str
    lane: Lane = Lane.STANDARD

    @property
    def points(self) -> tuple[str, ...]:
        if self.effect is Effect.TRANSACTIONAL:
            return IN_A_TRANSACTION
        missing = {"K1 started", "K2 reserved", "K3 sending"} if self.effect is Effect.READ else set[str]()
        if self.manner in {"plain late", "plain broken"}:
            # Its callers never get an answer that is one.
            missing = {"K5 answered, unwritten"}
        return tuple(point for point in POINTS if point not in missing)

    def __str__(self) -> str:
        lane = ", fast lane" if self.lane is Lane.FAST else ""
        return f"{self.effect}{lane}, {self.manner}"


SYSTEMS = (
    System(effect=Effect.READ, manner="plain"),
    System(effect=Effect.IDEMPOTENT, manner="plain"),
    System(effect=Effect.KEYED, manner="keyed"),
    System(effect=Effect.KEYED, manner="keyed", lane=Lane.FAST),
    System(effect=Effect.KEYED, manner="late"),
    System(effect=Effect.KEYED, manner="broken"),
    System(effect=Effect.TRANSACTIONAL, manner="plain"),
    System(effect=Effect.TRANSACTIONAL, manner="plain", lane=Lane.FAST),
    System(effect=Effect.RECONCILED, manner="plain"),
    System(effect=Effect.RECONCILED, manner="plain late"),
    System(effect=Effect.RECONCILED, manner="plain broken"),
    System(effect=Effect.ONCE, manner="plain"),
    System(effect=Effect.ONCE, manner="plain", lane=Lane.FAST),
    System(effect=Effect.ONCE, manner="plain broken"),
)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one case came to, by the downstream's log, the ledger and Temporal's history."""

    points: tuple[str, ...]
    injuries: int
    duplicated: int
    lost: int
    """Called done, and not in the log."""
    doubtful: int
    """Shown to a person as not known."""
    flagged: int
    """A late effect that was found out and told to the owner."""
    false_failures: int
    """Called failed by the engine itself, and in the log."""
    keys: int
    """The most keys that were sent for one call."""
    repeated_turns: int
    faults: tuple[str, ...]
    replays: bool
    recovery: float
    """Seconds from the injury to the next entry."""


async def injure(engine: Engine, folder: Path, system: System, points: tuple[str, ...], *, freeze: bool) -> Seen:
    """One run of two charges, injured at the points."""
    more = {"CRASH_MANNER": system.manner, "CRASH_LANE": system.lane.value}
    if system.manner.endswith("late"):
        # Its first attempt always times out, and each injury costs one more.
        more["CRASH_ATTEMPTS"] = "8"
    how = "STOP" if freeze else "KILL"
    async with opened_case(engine, folder, system.effect, ";".join(points), signal=how, more=more) as case:
        ended = asyncio.create_task(case.run.result())
        injuries = await (frozen(case, ended) if freeze else killed(case, ended))
        await ended
        return await seen(engine, case, points, injuries)


async def killed(case: Case, ended: "asyncio.Task[Any]") -> int:
    """Start a worker again whenever it was killed; how often it was."""
    kills, worker = 0, case.worker("first")
    # A person's word waits for a worker, and this loop must go on to start one.
    person = asyncio.create_task(resolving(case, ended))
    try:
        async with asyncio.timeout(240):
            while not ended.done():
                if worker.code is not None:
                    assert worker.code == -signal.SIGKILL, worker.output.read_text()[-3000:]
                    kills += 1
                    worker = case.worker(f"after-{kills}")
                await asyncio.sleep(0.05)
            await person
    finally:
        person.cancel()
        await worker.stop()
    return kills


async def resolving(case: Case, ended: "asyncio.Task[Any]") -> None:
    """Look at each doubt, until the run is over."""
    while not ended.done():
        await case.resolve_as_a_person_would()
        await asyncio.sleep(0.05)


async def frozen(case: Case, ended: "asyncio.Task[Any]") -> int:
    """Another worker takes over; the frozen one wakes up when the call is settled."""
    first, other = case.worker("frozen"), None
    try:
        await until(lambda: is_stopped(first), seconds=60)
        other = case.worker("other")
        await until(lambda: serves(other), seconds=60)

        async def settled() -> bool:
            await case.resolve_as_a_person_would()
            return (await case.run.operations())[0].outcome not in {None, Outcome.UNKNOWN}

        await until(settled, seconds=120)
        first.signal(signal.SIGCONT)
        await asyncio.wait_for(resolving(case, ended), 120)
        # What it had in hand when it was frozen is sent now, if anything is.
        await asyncio.sleep(3)
    finally:
        for worker in filter(None, (first, other)):
            await worker.stop()
    return 1


async def seen(engine: Engine, case: Case, points: tuple[str, ...], injuries: int) -> Seen:
    """Look at everything that has a word on the run."""
    ledger, run, charged = case.client.ledger, case.run, await case.charged()
    operations = {o.arguments["ref"]: o for o in await run.operations()}
    temporal, _ = await connect(Settings(), engine.address)
    verification = await ledger.verify(run.id, await read_anchors(temporal, run.id))
    events = await ledger.read_events(run.id)
    assert (await run.result()).status is RunStatus.COMPLETED
    injured_at = [float(line) for line in (case.folder / "mark").read_text().splitlines()]
    after = [next((e.at.timestamp() - at for e in events if e.at.timestamp() > at), 0.0) for at in injured_at]
    async with httpx.AsyncClient() as http:
        sent = (await http.get(f"{case.address}/requests")).json()
    return Seen(
        points=points,
        injuries=injuries,
        duplicated=sum(number > 1 for number in charged.values()),
        lost=sum(
            operations[ref].outcome is Outcome.SUCCEEDED and not charged[ref]
            for ref in REFS
            if operations[ref].effect is not Effect.READ
        ),
        doubtful=len(case.resolved),
        flagged=sum(notice.kind == "late_effect" for notice in await ledger.shared.list_notices()),
        false_failures=sum(
            operations[ref].outcome is Outcome.FAILED
            and bool(charged[ref])
            and operations[ref].operation_id not in case.resolved
            for ref in REFS
        ),
        keys=max(len({request["key"] for request in sent if request["ref"] == ref}) for ref in REFS),
        repeated_turns=sum(event.kind == "repeated" for event in events),
        faults=verification.faults,
        replays=await replays(run.handle),
        recovery=max(after),
    )


async def replays(handle: Any) -> bool:
    await replayer().replay_workflow(await handle.fetch_history())
    return True


def told(system: System, injury: str, cases: Iterable[Seen]) -> str:
    """One line of the table."""
    found = list(cases)
    times = sorted(case.recovery for case in found)
    p99 = times[min(len(times) - 1, round(0.99 * len(times)))]
    calls = len(found) * len(REFS)
    return (
        f"{system!s:<30} {injury:<13} {len(found):>2} cases {calls:>3} calls   "
        f"duplicated {sum(c.duplicated for c in found)}   lost {sum(c.lost for c in found)}   "
        f"doubtful {sum(c.doubtful for c in found)}   flagged late {sum(c.flagged for c in found)}   "
        f"false failures {sum(c.false_failures for c in found)}   keys a call {max(c.keys for c in found)}   "
        f"model turns repeated {sum(c.repeated_turns for c in found)}   "
        f"chains {'valid' if not any(c.faults for c in found) else 'BROKEN'}   "
        f"replay {'clean' if all(c.replays for c in found) else 'BROKEN'}   "
        f"recovery p50 {statistics.median(times):.1f} s p99 {p99:.1f} s"
    )


def two_in_a_row(system: System, number: int) -> list[tuple[str, ...]]:
    """Pairs of points from the seed; the second is at or behind the first, so that it is reached."""
    chance = random.Random(f"{SEED} {system}")
    points = system.points
    pairs = [(first, second) for n, first in enumerate(points) for second in points[n:]]
    return chance.sample(pairs, min(number, len(pairs)))


@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("system", SYSTEMS, ids=str)
async def test_every_point_of_a_call_under_every_injury(engine: Engine, tmp_path: Path, system: System) -> None:
    limits = {injury: asyncio.Semaphore(number) for injury, number in AT_ONCE.items()}

    async def one(points: tuple[str, ...], injury: str) -> Seen:
        async with limits[injury]:
            return await injure(engine, tmp_path, system, points, freeze=injury == "frozen")

    injuries: dict[str, list[tuple[str, ...]]] = {
        "killed": [(point,) for point in system.points],
        "killed twice": two_in_a_row(system, 6),
        "frozen": [(point,) for point in system.points if point not in NOT_WHEN_FROZEN],
    }
    for injury, places in injuries.items():
        cases = await asyncio.gather(*(one(points, injury) for points in places))
        print(f"\n{told(system, injury, cases)}   seed {SEED}")
        for case in cases:
            require(system, injury, case)


def require(system: System, injury: str, case: Seen) -> None:
    """The bar."""
    at = (str(system), injury, case.points)
    assert (*at, case.injuries >= 1, case.lost, case.false_failures, case.faults) == (*at, True, 0, 0, ()), case
    assert (*at, case.repeated_turns <= case.injuries) == (*at, True), case
    # Whoever is frozen inside the send, past every look at the lease, can't be stopped: then the effect is told.
    in_the_send = injury == "frozen" and case.points == ("K3 sending",)
    if system.effect in {Effect.RECONCILED, Effect.ONCE} and in_the_send:
        assert (*at, case.duplicated <= case.flagged) == (*at, True), case
        return
    assert (*at, case.duplicated, case.flagged) == (*at, 0, 0), case
    if system.effect is not Effect.ONCE:
        assert (*at, case.doubtful) == (*at, 0), case
    if system.effect is Effect.KEYED:
        assert (*at, case.keys) == (*at, 1), case
