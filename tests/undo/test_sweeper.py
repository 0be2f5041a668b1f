"""Runs that were ended from outside are found and brought to an end: undone if their agent wants that, closed in any case."""

import asyncio
import uuid
from collections.abc import Iterator

import pytest

from handfast import Outcome, Run, RunStatus, Tier
from handfast.workers.sweeper import Sweeper
from tests.conftest import OpenShop, Shop, outcomes, until
from tests.undo.travel import SAFE, TOOLS, TRIP, Travel, booking, traveller


@pytest.fixture
def travel() -> Iterator[Travel]:
    with Travel() as service:
        yield service


def sweeper(desk: Shop) -> Sweeper:
    temporal, registry = desk.client.temporal, desk.boundary.registry
    return Sweeper(temporal, desk.ledger, registry, task_queue=desk.settings.task_queue)


async def terminated(desk: Shop, travel: Travel, *, while_: str = "book hotel grand") -> Run:
    """A run whose workflow was terminated in the middle of something."""
    run = await desk.client.start("traveller", "Go", id=f"swept-{uuid.uuid4()}")

    async def under_way() -> bool:
        return while_ in travel.log

    await until(under_way)
    await run.handle.terminate()
    return run


async def given_up(desk: Shop, run: Run) -> None:
    """Wait until the attempt that was under way has stopped, without knowing what it did: no late word of it comes any more."""

    async def released() -> bool:
        return any(event.kind == "released" for event in await desk.ledger.read_events(run.id))

    await until(released)


async def swept(desk: Shop, run: Run, by: Sweeper | None = None) -> None:
    """Sweep until the run is found: what Temporal can search lags behind."""
    by = by or sweeper(desk)

    async def found() -> bool:
        return run.id in await by.sweep()

    await until(found)


async def rolled_back(desk: Shop, run: Run) -> None:
    await asyncio.wait_for(desk.client.temporal.get_workflow_handle(f"rollback:{run.id}").result(), 30)


async def test_a_terminated_run_is_undone_without_anybodys_word(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book hotel"] = 4.0
    desk = await shop(traveller([*TRIP, "Booked."], SAFE), upstreams=travel.upstreams)
    run = await terminated(desk, travel)
    await given_up(desk, run)
    await swept(desk, run)
    await rolled_back(desk, run)
    assert travel.standing == set()
    result = await run.result()
    assert (result.status, result.reason) == (
        RunStatus.CANCELLED,
        "its workflow was ended from outside, and it was rolled back",
    )
    assert ([one.tool for one in result.undone], result.not_undone) == (["hotel", "flight"], ())
    begun = [event for event in await desk.ledger.read_events(run.id) if event.kind == "undo"]
    assert {event.data["cause"] for event in begun} == {"terminated"}
    assert (await desk.ledger.verify(run.id)).faults == ()
    assert run.id not in await sweeper(desk).sweep()


async def test_a_terminated_run_whose_agent_wants_nothing_undone_is_closed(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book hotel"] = 4.0
    desk = await shop(traveller([*TRIP, "Booked."], SAFE, undo_on=()), upstreams=travel.upstreams)
    run = await terminated(desk, travel)
    await given_up(desk, run)
    await swept(desk, run)
    result = await run.result()
    assert (result.status, result.reason) == (RunStatus.CANCELLED, "its workflow was ended from outside")
    assert outcomes(result.operations) == [("flight", Outcome.SUCCEEDED), ("hotel", Outcome.UNKNOWN)]
    assert travel.standing == {"flight oslo", "hotel grand"}
    assert run.id not in await sweeper(desk).sweep()


async def test_a_run_that_was_terminated_while_it_was_undone_is_undone_to_the_end(
    shop: OpenShop, travel: Travel
) -> None:
    """The first time its own workflow is ended, then that of its rollback."""
    travel.slow |= {"cancel car": 0.5, "cancel hotel": 0.5}
    desk = await shop(traveller(TRIP, TOOLS), upstreams=travel.upstreams)
    run = await terminated(desk, travel, while_="cancel car red")
    by = sweeper(desk)
    await swept(desk, run, by)

    async def hotel() -> bool:
        return "cancel hotel grand" in travel.log

    await until(hotel)
    await desk.client.temporal.get_workflow_handle(f"rollback:{run.id}").terminate()
    await swept(desk, run, by)
    await rolled_back(desk, run)
    assert travel.log[3:] == ["cancel car red", "cancel hotel grand", "cancel flight oslo"]
    assert [one.undone for one in await run.undo()] == [True] * 3
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_a_rollback_that_was_asked_for_goes_on_as_far_as_it_was_asked_for(shop: OpenShop, travel: Travel) -> None:
    """Of a run that ended well, only what came after its first call; its agent wants nothing undone by itself."""
    travel.slow["cancel car"] = 0.5
    desk = await shop(traveller([*TRIP, "Booked."], undo_on=()), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=f"swept-{uuid.uuid4()}")
    [flight, _, _] = (await run.result()).operations
    await run.rollback(to=flight.operation_id, by="ada")

    async def car() -> bool:
        return "cancel car red" in travel.log

    await until(car)
    await desk.client.temporal.get_workflow_handle(f"rollback:{run.id}").terminate()
    await swept(desk, run)
    await rolled_back(desk, run)
    assert travel.standing == {"flight oslo"}
    assert run.id not in await sweeper(desk).sweep()


async def test_a_run_that_was_reset_goes_on_and_is_left_alone(shop: OpenShop, travel: Travel) -> None:
    tools = [*TOOLS[:2], booking("car", tier=Tier.IRREVERSIBLE)]
    desk = await shop(traveller([*TRIP, "Booked."], tools), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=f"swept-{uuid.uuid4()}")

    async def waiting() -> str:
        return "".join(one.operation for one in (await run.state()).waiting)

    await until(waiting)
    await run.reset(2)

    async def seen() -> bool:
        query = f"WorkflowId = '{run.id}' AND ExecutionStatus = 'Terminated'"
        return bool([one async for one in desk.client.temporal.list_workflows(query)])

    await until(seen)
    assert run.id not in await sweeper(desk).sweep()
    await run.decide(await until(waiting), approve=True)
    assert (await run.result()).status is RunStatus.COMPLETED
    assert run.id not in await sweeper(desk).sweep()
