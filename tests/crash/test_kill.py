"""kill -9 at every point of a call and of a run, for every effect class; the downstream's own log says what happened."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from temporalio.service import RPCError

from handfast import Effect, Outcome, RunResult, RunStatus, Tier
from handfast.client import Run
from handfast.contracts.results import Operation
from handfast.engine.connect import Engine
from tests.conftest import new_database, outcomes, until
from tests.crash.case import Case, once_over, opened_case

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
    "K0 decided",
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


async def play(engine: Engine, folder: Path, effect: Effect, point: str, ledger_url: str) -> Played:
    """One run of two charges; its worker is killed once at the point and started again."""
    async with opened_case(engine, folder, effect, point, ledger_url=ledger_url) as case:
        ended = asyncio.create_task(case.run.result())
        kills = 0
        worker = case.worker("killed")
        try:
            async with asyncio.timeout(200):
                while not ended.done():
                    if worker.code is not None:
                        assert worker.code == -signal.SIGKILL, worker.output.read_text()[-3000:]
                        kills += 1
                        worker = case.worker("second")
                    await case.resolve_as_a_person_would()
                    await asyncio.sleep(0.05)
        finally:
            await worker.stop()
        ledger, run = case.client.ledger, case.run
        return Played(
            point=point,
            result=await ended,
            kills=kills,
            resolved=len(case.resolved),
            faults=(await ledger.verify(run.id)).faults,
            kinds=[event.kind for event in await ledger.read_events(run.id)],
            charged=await case.charged(),
        )


def sqlite_of_its_own() -> str:
    return ""


async def campaign(
    engine: Engine,
    folder: Path,
    effect: Effect,
    points: Sequence[str],
    new_ledger: Callable[[], str] = sqlite_of_its_own,
) -> list[Played]:
    """All points, a few side by side, each with a ledger of its own."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(point: str) -> Played:
        async with limit:
            return await play(engine, folder, effect, point, new_ledger())

    return await asyncio.gather(*(one(point) for point in points))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("effect", [Effect.KEYED, pytest.param(Effect.RECONCILED, marks=pytest.mark.crash)])
async def test_a_call_that_can_be_repeated_or_looked_up_happens_exactly_once(
    engine: Engine, tmp_path: Path, effect: Effect
) -> None:
    for played in await campaign(engine, tmp_path, effect, CALL_POINTS):
        assert (played.point, played.kills, played.faults) == (played.point, 1, ())
        assert (played.point, played.charged) == (played.point, {"one": 1, "two": 1})
        assert (played.result.status, played.resolved) == (RunStatus.COMPLETED, 0)
        assert outcomes(played.result.operations) == [("charge", Outcome.SUCCEEDED)] * 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.crash)])
async def test_an_effect_in_the_ledgers_database_commits_with_its_record_or_not_at_all(
    engine: Engine, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    points = ("K1 started", "K2 reserved", "T3 written, uncommitted", "T6 committed, unreported")
    new_ledger = sqlite_of_its_own
    if kind == "postgresql":
        server = request.getfixturevalue("postgres")

        def new_ledger() -> str:
            return new_database(server)

    for played in await campaign(engine, tmp_path, Effect.TRANSACTIONAL, points, new_ledger):
        assert (played.point, played.kills, played.faults) == (played.point, 1, ())
        assert (played.point, played.charged) == (played.point, {"one": 1, "two": 1})
        assert (played.result.status, played.resolved) == (RunStatus.COMPLETED, 0)
        # At least: a machine that is busy may lose a heartbeat, and with it an attempt.
        least = 2 if played.point in points[1:3] else 1
        assert (played.point, played.result.operations[0].attempts >= least) == (played.point, True)


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
async def test_a_decision_on_a_call_that_only_the_ledger_knows_of_yet_counts(engine: Engine, tmp_path: Path) -> None:
    """The worker dies between writing a turn down and telling Temporal; whoever looks at the ledger can answer already."""
    async with opened_case(engine, tmp_path, Effect.KEYED, "K0 decided", tier=Tier.IRREVERSIBLE) as case:
        killed = case.worker("killed")
        assert await killed.wait() == -signal.SIGKILL
        [first] = await case.run.operations()
        assert (first.state, (await case.client.runs(waiting=True))[0].run_id) == ("waiting", case.run.id)
        deciding = asyncio.create_task(case.run.decide(first.operation_id, approve=True, by="a person"))
        second = case.worker("second")
        try:
            await asyncio.wait_for(deciding, 60)
            [other] = await until(lambda: waiting(case.run, beside=first.operation_id), seconds=60)
            await case.run.decide(other.operation_id, approve=False)
            result = await asyncio.wait_for(case.run.result(), 30)
        finally:
            await second.stop()
        assert outcomes(result.operations) == [("charge", Outcome.SUCCEEDED), ("charge", Outcome.DENIED)]
        assert await case.charged() == {"one": 1, "two": 0}


@pytest.mark.timeout(180)
async def test_a_word_that_was_written_down_is_acted_on_though_nobody_says_it_again(
    engine: Engine, tmp_path: Path
) -> None:
    """The worker dies right after the ledger has the word, and who said it has gone; for a decision and a resolution."""
    await asyncio.gather(*(say_and_go(engine, tmp_path, unknown=unknown) for unknown in (False, True)))


async def say_and_go(engine: Engine, tmp_path: Path, *, unknown: bool) -> None:
    effect, tier = (Effect.ONCE, Tier.REVERSIBLE) if unknown else (Effect.KEYED, Tier.IRREVERSIBLE)
    point = "K2 reserved;P1 word written" if unknown else "P1 word written"
    async with opened_case(engine, tmp_path, effect, point, tier=tier) as case:
        worker = case.worker("first")
        if unknown:
            assert await worker.wait() == -signal.SIGKILL
            worker = case.worker("second")
        [first] = await until(lambda: waits_for_a_person(case.run), seconds=60)
        if unknown:
            word = partial(case.run.resolve, first, happened=False, by="a person")
            saying = asyncio.create_task(once_over(word))
        else:
            saying = asyncio.create_task(case.run.decide(first, approve=True, by="a person"))
        assert await worker.wait() == -signal.SIGKILL
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)
        await forget_updates(case)
        worker = case.worker("last")
        try:
            if not unknown:
                [other] = await until(lambda: waiting(case.run, beside=first), seconds=60)
                await case.run.decide(other.operation_id, approve=False)
            result = await asyncio.wait_for(case.run.result(), 60)
        finally:
            await worker.stop()
        kinds = [event.kind for event in await case.client.ledger.read_events(case.run.id)]
        assert kinds.count("resolved" if unknown else "decided") == (1 if unknown else 2)
        happened, other_way = (Outcome.FAILED, Outcome.SUCCEEDED) if unknown else (Outcome.SUCCEEDED, Outcome.DENIED)
        assert outcomes(result.operations) == [("charge", happened), ("charge", other_way)]
        assert await case.charged() == ({"one": 0, "two": 1} if unknown else {"one": 1, "two": 0})


async def forget_updates(case: Case) -> None:
    """Let Temporal drop what it has only in memory, as it does after any request on a run that fails."""
    no_such = case.client.temporal.get_async_activity_handle(workflow_id=case.run.id, run_id=None, activity_id="none")
    with pytest.raises(RPCError, match="cannot find pending activity"):
        await no_such.complete()


async def waits_for_a_person(run: Run) -> list[str]:
    """The calls of which the workflow knows that they wait."""
    return [waiting.operation for waiting in (await run.state()).waiting]


async def waiting(run: Run, *, beside: str) -> list[Operation]:
    """The calls that wait for a person, but for one."""
    operations = await run.operations()
    return [o for o in operations if o.state == "waiting" and o.operation_id != beside]
