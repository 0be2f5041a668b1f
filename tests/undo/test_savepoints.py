"""A model takes back what it did since a savepoint, and goes on from there."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from handfast import DecisionRefused, Outcome, Run, RunStatus, ask
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step
from tests.conftest import OpenShop, Shop, outcomes, until
from tests.undo.travel import TOOLS, TRIP, Travel, booking, traveller


@pytest.fixture
def travel() -> Iterator[Travel]:
    with Travel() as service:
        yield service


FLIGHT, HOTEL, CAR = TRIP
MARK = ask("savepoint", name="before")
BACK = ask("roll_back", to="before")


class Heard:
    """The last result that the model was told in each turn."""

    def __init__(self, *steps: Step) -> None:
        self.results: list[str] = []
        self.requests: list[ModelRequest] = []
        self._steps = steps

    def __call__(self, request: ModelRequest) -> Step:
        turn = sum(message.role == "assistant" for message in request.messages)
        self.requests.append(request)
        self.results = [part.text for message in request.messages for part in message.results]
        return self._steps[turn]


async def start(desk: Shop, **options: Any) -> Run:
    return await desk.client.start("traveller", "Go", id=f"savepoint-{uuid.uuid4()}", **options)


async def test_what_was_done_since_a_savepoint_is_undone_and_the_run_goes_on(shop: OpenShop, travel: Travel) -> None:
    heard = Heard(FLIGHT, MARK, [HOTEL, CAR], BACK, ask("hotel", number="inn"), "Booked.")
    desk = await shop(traveller(heard, savepoints=True), upstreams=travel.upstreams)
    run = await start(desk)
    result = await asyncio.wait_for(run.result(), 30)
    assert (result.status, travel.standing) == (RunStatus.COMPLETED, {"flight oslo", "hotel inn"})
    assert travel.log[-1] == "book hotel inn"
    assert {name.name for name in heard.requests[0].tools} >= {"savepoint", "roll_back"}
    flight, _, hotel, car, back, _ = heard.results
    assert "undone" not in flight
    assert all("This call was undone since" in told for told in (hotel, car))
    operations = {one.tool: one for one in result.operations[:4]}
    told = json.loads(back)
    assert {(one["tool"], one["operation"]) for one in told.pop("undone")} == {
        (name, operations[name].operation_id) for name in ("car", "hotel")
    }
    assert told == {}
    assert {one.tool for one in result.undone} == {"car", "hotel"}
    assert result.not_undone == ()
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_everything_is_undone_from_the_start_and_what_can_not_be_is_named(shop: OpenShop, travel: Travel) -> None:
    tools = [*TOOLS[:2], booking("mail", pivot=True)]
    heard = Heard(FLIGHT, ask("mail", number="m"), HOTEL, ask("roll_back", to="start"), "Stopped.")
    desk = await shop(traveller(heard, tools, savepoints=True), upstreams=travel.upstreams)
    result = await asyncio.wait_for((await start(desk)).result(), 30)
    assert travel.standing == {"flight oslo", "mail m"}
    told = json.loads(heard.results[-1])
    assert [one["tool"] for one in told["undone"]] == ["hotel"]
    assert [(one["tool"], one["reason"]) for one in told["not_undone"]] == [
        ("mail", "it commits the job"),
        ("flight", "mail has committed the job"),
    ]
    assert result.status is RunStatus.COMPLETED


async def test_calls_of_the_same_turn_are_settled_before_they_are_undone(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book hotel"] = 0.5
    heard = Heard([MARK, FLIGHT], [HOTEL, BACK, CAR], "Done.")
    desk = await shop(traveller(heard, savepoints=True), upstreams=travel.upstreams)
    result = await asyncio.wait_for((await start(desk)).result(), 30)
    assert travel.log == ["book flight oslo", "book hotel grand", *travel.log[2:4], "book car red"]
    assert travel.standing == {"car red"}
    assert outcomes(result.operations)[2:] == [
        ("hotel", Outcome.COMPENSATED), ("roll_back", Outcome.SUCCEEDED), ("car", Outcome.SUCCEEDED),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "hint"), [("nowhere", "name one that savepoint has set"), ("", None)])
async def test_a_savepoint_that_was_not_set_undoes_nothing(
    shop: OpenShop, travel: Travel, name: str, hint: str | None
) -> None:
    heard = Heard(FLIGHT, ask("roll_back", to=name), "Done.")
    desk = await shop(traveller(heard, savepoints=True), upstreams=travel.upstreams)
    await asyncio.wait_for((await start(desk)).result(), 30)
    told = json.loads(heard.results[-1])
    if hint is None:
        assert travel.standing == set()
        return
    assert (told["code"], hint in told["hint"], travel.standing) == ("invalid_arguments", True, {"flight oslo"})


async def test_a_roll_back_that_is_stuck_waits_for_a_person_and_the_run_goes_on_after(
    shop: OpenShop, travel: Travel
) -> None:
    travel.planned["cancel hotel"] = [404]
    heard = Heard(MARK, HOTEL, BACK, "Done.")
    desk = await shop(traveller(heard, savepoints=True), upstreams=travel.upstreams)
    run = await start(desk)

    async def blocked() -> list[str]:
        return [one.operation for one in (await run.state()).blocked]

    [hotel] = await until(blocked)
    with pytest.raises(DecisionRefused):
        await run.unblock("none", "retry")
    await run.unblock(hotel, "skip", by="ada", reason="it may stay")
    result = await asyncio.wait_for(run.result(), 30)
    assert (result.status, travel.standing) == (RunStatus.COMPLETED, {"hotel grand"})
    assert json.loads(heard.results[-1])["not_undone"][0]["reason"] == "left as it is by ada: it may stay"

    async def status() -> bool:
        query = f"HandfastStatus = 'completed' and WorkflowId = '{run.id}'"
        return [one.id async for one in desk.client.temporal.list_workflows(query)] == [run.id]

    await until(status)


async def test_a_run_that_rolled_back_and_then_fails_is_undone_as_a_whole_and_nothing_twice(
    shop: OpenShop, travel: Travel
) -> None:
    """With a new workflow history for every turn."""
    heard = Heard(FLIGHT, MARK, HOTEL, BACK, CAR)
    desk = await shop(traveller(heard, savepoints=True), upstreams=travel.upstreams)
    failing = await start(desk, continue_after_turns=1)
    with pytest.raises(Exception, match="index out of range"):
        await asyncio.wait_for(failing.result(), 40)
    assert travel.standing == set()
    assert travel.log.count("cancel hotel grand") == 1
    assert {one.tool: one.undone for one in await failing.undo()} == {"flight": True, "hotel": True, "car": True}
    assert (await desk.ledger.verify(failing.id)).faults == ()
