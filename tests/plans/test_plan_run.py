"""A plan is carried out: serial where it must be, side by side where it can be, and undone if it fails."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from handfast import Agent, Effect, Limits, Outcome, Run, RunFailed, RunStatus, Tier, tool
from handfast.contracts.plan import Plan
from tests.conftest import OpenShop, Shop, outcomes, until
from tests.undo.travel import TOOLS, Travel, booking, cancelling
from tests.workflow.agents import reset


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="travel:r")
async def look(city: str) -> dict[str, Any]:
    """Look what is there."""
    return {"city": city, "rooms": [f"{city}-{number}" for number in range(3)], "stars": len(city)}


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="travel:r", attempts=1)
async def broken(city: str) -> str:
    """Look, in vain."""
    raise ValueError(city)


@pytest.fixture
def travel() -> Iterator[Travel]:
    with Travel() as service:
        yield service


def desk_agent(*more: Any, **options: Any) -> Agent:
    return Agent(name="desk", tools=[*TOOLS, look, broken, *more], **options)


def plan(steps: dict[str, Any], **fields: Any) -> Plan:
    return Plan.model_validate({"name": "trip", "agent": "desk", "steps": steps, **fields})


async def start(desk: Shop, steps: dict[str, Any], given: dict[str, Any] | None = None, **fields: Any) -> Run:
    options = {name: fields.pop(name) for name in ("continue_after_turns",) if name in fields}
    return await desk.client.start_plan(plan(steps, **fields), given, id=f"plan-{uuid.uuid4()}", **options)


async def ended(run: Run) -> Any:
    return await asyncio.wait_for(run.result(), 30)


async def failed(run: Run) -> str:
    with pytest.raises(RunFailed) as caught:
        await ended(run)
    return str(caught.value)


FLIGHT = {"tool": "flight", "with": {"number": "oslo"}}
HOTEL = {"tool": "hotel", "with": {"number": "grand"}}
CAR = {"tool": "car", "with": {"number": "red"}}


async def test_results_feed_the_steps_that_refer_to_them_and_the_output(shop: OpenShop, travel: Travel) -> None:
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    run = await start(
        desk,
        {
            "look": {"tool": "look", "with": {"city": "${request.city}"}},
            "hotel": {"tool": "hotel", "with": {"number": "${steps.look.result.rooms[1]}"}},
            "car": {"tool": "car", "with": {"number": "for ${steps.hotel.result.number} in ${request.city}"}},
        },
        {"city": "oslo"},
        request={"city": "string"},
        output={
            "hotel": "${steps.hotel.result.number}",
            "car": "${steps.car.result}",
            "stars": "${steps.look.result.stars}",
        },
    )
    result = await ended(run)
    assert result.status is RunStatus.COMPLETED
    assert travel.log == ["book hotel oslo-1", "book car for oslo-1 in oslo"]
    assert result.output == {"hotel": "oslo-1", "car": {"number": "for oslo-1 in oslo"}, "stars": 4}
    assert (await desk.ledger.verify(run.id)).faults == ()
    assert outcomes(result.operations) == [(name, Outcome.SUCCEEDED) for name in ("look", "hotel", "car")]


async def test_steps_that_wait_for_nothing_run_side_by_side(shop: OpenShop, travel: Travel) -> None:
    travel.slow |= {"book flight": 0.6, "book hotel": 0.6, "book car": 0.1}
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    steps = {
        "flight": FLIGHT,
        "hotel": HOTEL,
        "car": CAR,
        "second": {**CAR, "with": {"number": "two"}, "depends_on": ["car"]},
    }
    run = await start(desk, steps)
    await ended(run)
    # What waits only for the car does not wait for the others.
    at = {event.reference: event.at for event in await desk.ledger.read_events(run.id) if event.kind == "settled"}
    operations = {one.tool + str(one.turn): one.operation_id for one in await run.operations()}
    assert at[operations["car2"]] < at[operations["hotel1"]]


async def test_a_plan_that_fails_is_undone_the_last_step_first(shop: OpenShop, travel: Travel) -> None:
    travel.planned["book car"] = [400]
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    run = await start(
        desk, {"flight": FLIGHT, "hotel": {**HOTEL, "depends_on": ["flight"]}, "car": {**CAR, "depends_on": ["hotel"]}}
    )
    assert "step 'car': its call" in await failed(run)
    assert travel.log == ["book flight oslo", "book hotel grand", "cancel hotel grand", "cancel flight oslo"]
    assert [(one.tool, one.undone) for one in await run.undo()] == [("hotel", True), ("flight", True)]
    assert (await desk.ledger.verify(run.id)).faults == ()


@pytest.mark.parametrize(("stars", "booked"), [(3, {"hotel grand", "car red"}), (5, {"car red"})])
async def test_a_step_whose_condition_does_not_hold_is_skipped_with_what_needs_its_result(
    shop: OpenShop, travel: Travel, stars: int, booked: set[str]
) -> None:
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    run = await start(
        desk,
        {
            "look": {"tool": "look", "with": {"city": "oslo"}},
            "hotel": {**HOTEL, "when": "steps.look.result.stars >= request.stars"},
            "flight": {
                "tool": "flight",
                "with": {"number": "${steps.hotel.result.number}!"},
                "when": "request.stars == 4",
            },
            "car": {**CAR, "depends_on": ["hotel"]},
            "last": {**CAR, "with": {"number": "l"}, "when": "steps.hotel.status == 'skipped' && request.stars > 5"},
        },
        {"stars": stars},
        request={"stars": "integer"},
    )
    assert (await ended(run)).status is RunStatus.COMPLETED
    assert travel.standing == booked


async def test_a_list_is_gone_through_with_as_many_at_once_as_it_says(shop: OpenShop, travel: Travel) -> None:
    under_way, most = 0, 0

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
    async def count(name: str, number: int) -> str:
        """Count."""
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.05)
        under_way -= 1
        return f"{name}{number}"

    desk = await shop(desk_agent(count))
    names = [{"name": chr(97 + n)} for n in range(20)]
    each = {
        "tool": "count",
        "for_each": "${request.names}",
        "with": {"name": "${item.name}", "number": "${index}"},
        "parallel": 4,
    }
    of_names = {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}}
    run = await start(
        desk,
        {"each": each, "none": {**each, "for_each": "${request.nobody}"}},
        {"names": names, "nobody": []},
        request={"names": of_names, "nobody": of_names},
        output="${steps.each.result}",
    )
    result = await ended(run)
    assert result.output == [f"{chr(97 + n)}{n}" for n in range(20)]
    assert most == 4


@pytest.mark.parametrize("moves", [0, 1])
async def test_items_that_fail_leave_a_gap_where_the_step_goes_on(shop: OpenShop, travel: Travel, moves: int) -> None:
    """Also with a new history after every turn."""
    travel.planned["book car c3"] = [400]
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    cars = {
        "tool": "car",
        "for_each": "${request.cars}",
        "with": {"number": "${item}"},
        "parallel": 2,
        "on_failure": "continue",
    }
    run = await start(
        desk,
        {"cars": cars, "hotel": {**HOTEL, "depends_on": ["cars"]}},
        {"cars": [f"c{n}" for n in range(6)]},
        request={"cars": "array"},
        output="${steps.cars.result}",
        continue_after_turns=moves,
    )
    result = await ended(run)
    assert [None if one is None else one["number"] for one in result.output] == ["c0", "c1", "c2", None, "c4", "c5"]
    assert "hotel grand" in travel.standing
    assert len([one for one in travel.log if one.startswith("book")]) == 6
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_another_step_is_taken_instead_of_one_that_fails_and_its_result_stands_for_both(
    shop: OpenShop, travel: Travel
) -> None:
    travel.planned["book hotel"] = [400]
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    steps = {
        "hotel": {**HOTEL, "on_failure": "hostel"},
        "hostel": {"tool": "hotel", "with": {"number": "hostel"}},
        "flight": {"tool": "flight", "with": {"number": "near ${steps.hotel.result.number}"}, "on_failure": "bus"},
        "bus": CAR,
    }
    result = await ended(await start(desk, steps, output="${steps.hotel.result.number}"))
    assert (travel.log, result.output) == (["book hotel hostel", "book flight near hostel"], "hostel")


async def test_one_of_several_is_enough_where_a_step_joins_any(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book hotel"] = 1.0
    travel.planned["book flight"] = [400]
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    steps = {
        "flight": {**FLIGHT, "on_failure": "continue"},
        "look": {"tool": "look", "with": {"city": "a"}},
        "hotel": HOTEL,
        "car": {**CAR, "depends_on": ["flight", "look", "hotel"], "join": "any"},
        "never": {**CAR, "with": {"number": "n"}, "depends_on": ["flight", "gone"], "join": "any"},
        "gone": {"tool": "broken", "with": {"city": "a"}, "on_failure": "continue"},
    }
    await ended(await start(desk, steps))
    assert travel.asked.index("book car red") < len(travel.asked)
    assert travel.standing == {"hotel grand", "car red"}


async def test_of_several_ways_the_first_wins_and_the_others_are_undone(shop: OpenShop, travel: Travel) -> None:
    travel.slow |= {"book flight": 0.8, "book hotel": 0.2}
    travel.planned["book car"] = [400]
    tools = [booking(kind, cancelling(kind, safe_if_absent=True)) for kind in ("flight", "hotel", "car")]
    desk = await shop(Agent(name="desk", tools=tools), upstreams=travel.upstreams)
    steps = {
        "any": {"first_of": [FLIGHT, HOTEL, CAR]},
        "after": {"tool": "hotel", "with": {"number": "${steps.any.result.number}2"}},
    }
    run = await start(desk, steps, output="${steps.any.result.number}")
    result = await ended(run)
    assert (result.output, travel.standing) == ("grand", {"hotel grand", "hotel grand2"})
    assert {one.tool for one in result.undone} <= {"flight"}
    assert result.not_undone == ()
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_a_call_that_did_not_happen_is_asked_for_again_as_its_step_says(shop: OpenShop, travel: Travel) -> None:
    travel.planned["book hotel"] = [400]
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    run = await start(desk, {"hotel": {**HOTEL, "retries": 1}}, output="${steps.hotel.result.number}")
    assert (await ended(run)).output == "grand"
    assert [one.outcome for one in await run.operations()] == [Outcome.FAILED, Outcome.SUCCEEDED]


async def test_behind_the_pivot_there_is_only_forward(shop: OpenShop, travel: Travel) -> None:
    travel.planned |= {"book car": [400, 400]}
    desk = await shop(desk_agent(booking("pay", pivot=True)), upstreams=travel.upstreams)
    steps = {
        "flight": FLIGHT,
        "pay": {"tool": "pay", "with": {"number": "card"}, "depends_on": ["flight"]},
        "car": {**CAR, "depends_on": ["pay"]},
    }
    await ended(await start(desk, steps))
    assert travel.standing == {"flight oslo", "pay card", "car red"}


@pytest.mark.parametrize("approve", [True, False])
async def test_a_step_that_needs_a_person_waits_for_one(shop: OpenShop, travel: Travel, approve: bool) -> None:
    desk = await shop(desk_agent(booking("suite", tier=Tier.IRREVERSIBLE)), upstreams=travel.upstreams)
    run = await start(
        desk, {"flight": FLIGHT, "suite": {"tool": "suite", "with": {"number": "s"}, "depends_on": ["flight"]}}
    )

    async def waiting() -> str:
        return "".join(one.operation for one in (await run.state()).waiting)

    await run.decide(await until(waiting), approve=approve, by="ada")
    if approve:
        await ended(run)
        assert travel.standing == {"flight oslo", "suite s"}
        return
    assert "ended as DENIED" in await failed(run)
    assert travel.standing == set()


async def test_a_cancelled_plan_is_undone_if_that_is_said(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book hotel"] = 0.5
    tools = [booking(kind, cancelling(kind, safe_if_absent=True)) for kind in ("flight", "hotel")]
    desk = await shop(Agent(name="desk", tools=tools), upstreams=travel.upstreams)
    run = await start(desk, {"flight": FLIGHT, "hotel": {**HOTEL, "depends_on": ["flight"]}})

    async def under_way() -> bool:
        return "book hotel grand" in travel.log

    await until(under_way)
    await run.cancel(undo=True)
    assert ((await ended(run)).status, travel.standing) == (RunStatus.CANCELLED, set())


async def test_a_plan_that_can_not_work_does_nothing_and_says_why(shop: OpenShop, travel: Travel) -> None:
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    steps = {
        "flight": FLIGHT,
        "hotel": {"tool": "palace"},
        "car": {"tool": "car", "with": {"number": "${steps.look.result}"}},
    }
    told = await failed(await start(desk, steps))
    assert "'palace', which the agent does not have" in told
    assert "waits for 'look', which is no step" in told
    assert travel.log == []


async def test_the_work_time_ends_a_plan_and_undoes_it(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book flight"] = 1.2
    limits = Limits(wall_time=Limits().wall_time / 300)
    desk = await shop(desk_agent(limits=limits), upstreams=travel.upstreams)
    result = await ended(await start(desk, {"flight": FLIGHT, "hotel": {**HOTEL, "depends_on": ["flight"]}}))
    assert (result.status, result.limit, travel.standing) == (RunStatus.LIMIT_REACHED, "wall_time", set())
    # The hotel was asked for on the way, and is not carried out any more.
    assert outcomes(result.operations) == [("flight", Outcome.COMPENSATED), ("hotel", Outcome.FAILED)]


async def test_a_call_that_the_gate_refuses_fails_its_step(shop: OpenShop, travel: Travel) -> None:
    """Its arguments are known only when it runs, and the limit on calls is the agent's."""
    desk = await shop(desk_agent(limits=Limits(calls=2)), upstreams=travel.upstreams)
    steps = {"flight": FLIGHT, "hotel": {**HOTEL, "depends_on": ["flight"]}, "car": {**CAR, "depends_on": ["hotel"]}}
    assert "step 'car'" in await failed(await start(desk, steps))
    assert travel.standing == set()
    look = {"tool": "look", "with": {"city": "a"}}
    wrong = {"tool": "car", "with": {"number": "${steps.look.result.stars}"}}
    told = await failed(await start(desk, {"look": look, "car": wrong}))
    assert "ended as DENIED" in told


@pytest.mark.parametrize("activities", [0, 4, 6])
async def test_a_plan_that_temporal_resets_repeats_nothing_although_it_goes_on_in_another_order(
    shop: OpenShop, travel: Travel, activities: int
) -> None:
    """What was asked for in which turn stands in the ledger; the second time the steps before it end in no such order."""
    travel.slow["book hotel"] = 0.3
    travel.planned["book car"] = [400]
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    steps = {
        "a": FLIGHT,
        "b": HOTEL,
        "after_a": {"tool": "car", "with": {"number": "a"}, "depends_on": ["a"], "retries": 1},
        "after_b": {"tool": "car", "with": {"number": "b"}, "depends_on": ["b"]},
        "each": {"tool": "look", "for_each": "${request.all}", "with": {"city": "${item}"}, "parallel": 2},
        "both": {
            "tool": "car",
            "with": {"number": "${steps.after_a.result.number}b"},
            "depends_on": ["after_b", "each"],
        },
    }
    request = {"all": ["x", "y", "z"]}
    run = await start(desk, steps, request, request={"all": "array"}, output="${steps.both.result.number}")
    assert (await ended(run)).output == "ab"
    before = (travel.log.copy(), outcomes(await run.operations()))
    travel.slow = {"book flight": 0.5}
    again = await reset(desk.client, run.id, activities)
    closed = await asyncio.wait_for(again.result(), 30)
    assert closed["status"] == "completed"
    assert (travel.log, outcomes(await run.operations())) == before
    assert (await run.result()).output == "ab"
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_an_agent_without_a_model_says_so(shop: OpenShop) -> None:
    desk = await shop(desk_agent())
    run = await desk.client.start("desk", "Book me a trip", id=f"plan-{uuid.uuid4()}")
    assert "this agent has no model: it carries out plans" in await failed(run)
