"""Plans whose steps are agents and plans, and models that make plans and have them carried out."""

import asyncio
import json
from typing import Any

import pytest

from handfast import Agent, Effect, Outcome, RunStatus, Script, Tier, ToolContext, ask, tool
from handfast.contracts.errors import ContractError
from handfast.contracts.messages import ModelRequest, ModelResponse
from handfast.contracts.plan import Plan
from handfast.contracts.plan_check import plan_faults
from tests.conftest import OpenShop, new_database, outcomes, until
from tests.family.people import agent, child_of, ended, failed, new_id, require_sound, started, sub
from tests.undo.travel import TOOLS, Travel, booking


def plan(steps: dict[str, Any], **fields: Any) -> Plan:
    return Plan.model_validate({"name": "trip", "agent": "desk", "steps": steps, **fields})


FLIGHT = {"tool": "flight", "with": {"number": "oslo"}}
HOTEL = {"tool": "hotel", "with": {"number": "grand"}}
CAR = {"tool": "car", "with": {"number": "red"}}


async def test_steps_of_a_plan_are_agents_and_plans(shop: OpenShop, travel: Travel) -> None:
    clerk = agent("clerk", [ask("hotel", number="grand"), "grand"])
    office = Agent(name="office", tools=TOOLS)
    rental = Plan.model_validate(
        {
            "name": "rental",
            "description": "Rent a car",
            "request": {"colour": "string"},
            "steps": {"rent": {"tool": "car", "with": {"number": "${request.colour}"}}},
            "output": {"rented": "${steps.rent.result.number}"},
        }
    )
    desk_agent = Agent(name="desk", tools=[*TOOLS, sub(clerk), office.as_tool(plan=rental)])
    desk = await shop(desk_agent, upstreams=travel.upstreams)
    steps = {
        "room": {"agent": "clerk", "with": {"request": "a room"}},
        "wheels": {"plan": "rental", "with": {"colour": "red"}},
        "fly": {"tool": "flight", "with": {"number": "${steps.room.result}-${steps.wheels.result.rented}"}},
    }
    run = await desk.client.start_plan(plan(steps, output="${steps.fly.result.number}"), id=new_id())
    result = await ended(run)
    assert (result.status, result.output) == (RunStatus.COMPLETED, "grand-red")
    assert outcomes(result.operations) == [("clerk", "SUCCEEDED"), ("rental", "SUCCEEDED"), ("flight", "SUCCEEDED")]
    assert (await child_of(desk, run, "rental")).id.startswith("office-")
    await require_sound(desk)


async def test_a_plan_that_fails_undoes_the_agents_it_has_asked(shop: OpenShop, travel: Travel) -> None:
    travel.planned["book car"] = [400]
    clerk = agent("clerk", [ask("flight", number="oslo"), ask("hotel", number="grand"), "booked"])
    desk = await shop(Agent(name="desk", tools=[*TOOLS, sub(clerk)]), upstreams=travel.upstreams)
    steps = {"book": {"agent": "clerk", "with": {"request": "go"}}, "drive": {**CAR, "depends_on": ["book"]}}
    run = await desk.client.start_plan(plan(steps), id=new_id())
    assert "step 'drive'" in await failed(run)
    assert travel.log == ["book flight oslo", "book hotel grand", "cancel hotel grand", "cancel flight oslo"]


async def test_an_agent_that_loses_a_race_is_stopped_and_undone(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book hotel"] = 1.5
    slow = agent("slow", [ask("flight", number="oslo"), ask("hotel", number="grand"), "booked"], TOOLS)
    desk = await shop(Agent(name="desk", tools=[*TOOLS, sub(slow)]), upstreams=travel.upstreams)
    travel.slow["book car"] = 0.7
    steps = {"way": {"first_of": [{"agent": "slow", "with": {"request": "x"}}, CAR]}}
    run = await desk.client.start_plan(plan(steps), id=new_id())

    async def over() -> bool:
        for one in await desk.client.runs():
            for stuck in await desk.client.run(one.run_id).undo():
                if stuck.blocked and not one.parent:
                    await desk.client.run(stuck.child).resolve(stuck.operation, happened=True)
        return (await run.summary()).status.closed

    await until(over)
    assert travel.standing == {"car red"}
    await require_sound(desk)


async def test_a_step_that_fails_ends_the_agents_beside_it(shop: OpenShop, travel: Travel) -> None:
    waits = agent("waits", [ask("flight", number="oslo"), ask("wait_for_message", seconds=600)], TOOLS, peers=("x",))
    travel.planned["book car"] = [400]
    travel.slow["book car"] = 1.5
    desk = await shop(Agent(name="desk", tools=[*TOOLS, sub(waits)]), upstreams=travel.upstreams)
    run = await desk.client.start_plan(
        plan({"slow": {"agent": "waits", "with": {"request": "x"}}, "no": CAR}), id=new_id()
    )
    assert "step 'no'" in await failed(run)
    assert travel.log == ["book flight oslo", "cancel flight oslo"]


async def test_for_each_asks_an_agent_for_every_item(shop: OpenShop) -> None:
    echo = agent("echo", lambda request: request.messages[0].text.upper(), ())
    desk = await shop(Agent(name="desk", tools=[sub(echo)]))
    steps = {"each": {"agent": "echo", "with": {"request": "${item}"}, "for_each": "${request.words}", "parallel": 3}}
    asked = plan(
        steps, request={"words": {"type": "array", "items": {"type": "string"}}}, output="${steps.each.result}"
    )
    run = await desk.client.start_plan(asked, {"words": ["a", "b", "c", "d", "e"]}, id=new_id())
    assert (await ended(run)).output == ["A", "B", "C", "D", "E"]


def test_what_is_wrong_with_steps_that_name_agents_is_told_before_anything_runs() -> None:
    clerk = agent("clerk", ["x"], ())
    tools = {one.name: one for one in [*TOOLS, sub(clerk), sub(clerk, name="other")]}
    [fault] = plan_faults(plan({"a": {"agent": "nobody", "with": {"request": "x"}}}), tools)
    assert "calls agent 'nobody', which the plan's agent does not have as a tool; it has as such clerk, other" in fault
    [fault] = plan_faults(plan({"a": {"agent": "clerk", "with": {"request": "x"}}}), tools)
    assert "by more than one tool (clerk, other)" in fault
    del tools["other"]
    [fault] = plan_faults(plan({"a": {"agent": "clerk", "with": {"question": "x"}}}), tools)[:1]
    assert "clerk lacks argument 'request'" in fault
    office = Agent(name="office", tools=TOOLS)
    with pytest.raises(ContractError, match="names tool 'boat'"):
        office.as_tool(plan=Plan.model_validate({"name": "p", "description": "d", "steps": {"a": {"tool": "boat"}}}))


class Planner:
    """A model that makes one plan after the other, and keeps what it was told."""

    def __init__(self, *plans: dict[str, Any], output: Any = None) -> None:
        self.plans = plans
        self.output = output
        self.told: list[dict[str, Any]] = []

    def __call__(self, request: ModelRequest) -> Any:
        number = sum(message.role == "assistant" for message in request.messages)
        if number:
            result = request.messages[-1].results[0]
            self.told.append({"failed": result.failed, **json.loads(result.text)})
        if number == len(self.plans):
            return "Done."
        return ask("carry_out", steps=self.plans[number], output=self.output)


async def test_a_model_makes_a_plan_and_the_engine_carries_it_out(shop: OpenShop, travel: Travel) -> None:
    steps = {
        "fly": FLIGHT,
        "room": HOTEL,
        "drive": {"tool": "car", "with": {"number": "${steps.fly.result.number}-car"}},
    }
    planner = Planner(steps, output={"car": "${steps.drive.result.number}"})
    desk = await shop(agent("boss", planner, TOOLS, plans=True), upstreams=travel.upstreams)
    run = await started(desk)
    result = await ended(run)
    assert (result.text, planner.told) == ("Done.", [{"failed": False, "car": "oslo-car"}])
    assert travel.standing == {"flight oslo", "hotel grand", "car oslo-car"}
    assert outcomes(result.operations) == [("carry_out", "SUCCEEDED")]
    await require_sound(desk)


async def test_a_plan_with_faults_goes_back_to_the_model_and_nothing_was_done(shop: OpenShop, travel: Travel) -> None:
    planner = Planner(
        {"fly": {"tool": "boat", "with": {}}, "room": {"tool": "hotel", "with": {}}, "x": {**CAR, "depends_on": ["y"]}},
        {"fly": FLIGHT},
        output={"flight": "${steps.fly.result.number}"},
    )
    desk = await shop(agent("boss", planner, TOOLS, plans=True), upstreams=travel.upstreams)
    assert (await ended(await started(desk))).text == "Done."
    first, second = planner.told
    assert (first["code"], first["failed"]) == ("invalid_arguments", True)
    for fault in ("names tool 'boat'", "hotel lacks argument 'number'", "'y', which is no step"):
        assert fault in first["message"]
    assert (second["flight"], travel.log) == ("oslo", ["book flight oslo"])


async def test_a_failure_goes_back_for_a_revised_plan_that_keeps_what_is_done(shop: OpenShop, travel: Travel) -> None:
    travel.planned["book hotel grand"] = [400]
    ritz = {"tool": "hotel", "with": {"number": "ritz"}}
    drive = {"tool": "car", "with": {"number": "${steps.fly.result.number}-car"}, "depends_on": ["room"]}
    planner = Planner(
        {"fly": FLIGHT, "room": HOTEL, "drive": drive},
        {"fly": FLIGHT, "room": ritz, "drive": drive},
        output={"car": "${steps.drive.result.number}"},
    )
    desk = await shop(agent("boss", planner, TOOLS, plans=True), upstreams=travel.upstreams)
    run = await started(desk)
    assert (await ended(run)).text == "Done."
    first, second = planner.told
    assert (first["failed"], second["car"]) == (True, "oslo-car")
    assert first["steps"]["fly"] == {"outcome": "SUCCEEDED", "result": {"number": "oslo"}}
    assert first["steps"]["room"]["outcome"] == "FAILED"
    assert travel.log == ["book flight oslo", "book hotel ritz", "book car oslo-car"]
    second_run = (await run.operations())[1].child
    kept = [o for o in await desk.ledger.list_operations(second_run) if o.tool == "flight"]
    assert [(o.outcome, o.result, o.attempts) for o in kept] == [(Outcome.SUCCEEDED, {"number": "oslo"}, 0)]
    await require_sound(desk)


async def test_each_call_is_kept_once_so_that_two_equal_orders_stay_two(shop: OpenShop, travel: Travel) -> None:
    travel.planned["book hotel grand"] = [400]
    twice = {"one": FLIGHT, "two": FLIGHT}
    planner = Planner(
        {**twice, "room": {**HOTEL, "depends_on": ["one", "two"]}}, {**twice, "three": FLIGHT}, output={"ok": "yes"}
    )
    desk = await shop(agent("boss", planner, TOOLS, plans=True), upstreams=travel.upstreams)
    await ended(await started(desk))
    assert travel.log == ["book flight oslo"] * 3


async def test_a_run_whose_plans_were_kept_is_undone_as_a_whole(shop: OpenShop, travel: Travel) -> None:
    travel.planned["book hotel grand"] = [400]
    ritz = {"tool": "hotel", "with": {"number": "ritz"}}
    planner = Planner({"fly": FLIGHT, "room": HOTEL}, {"fly": FLIGHT, "room": ritz})

    def think(request: ModelRequest) -> Any:
        if sum(message.role == "assistant" for message in request.messages) == 2:
            raise RuntimeError("the model is broken")
        return planner(request)

    desk = await shop(agent("boss", think, TOOLS, plans=True), upstreams=travel.upstreams)
    run = await started(desk)
    await failed(run)
    assert travel.log == ["book flight oslo", "book hotel ritz", "cancel hotel ritz", "cancel flight oslo"]
    await require_sound(desk)


async def test_a_call_of_a_models_plan_waits_for_a_person_as_any_other(shop: OpenShop, travel: Travel) -> None:
    refund = booking("refund", tier=Tier.IRREVERSIBLE)
    planner = Planner({"pay": {"tool": "refund", "with": {"number": "one"}}}, output={"ok": "yes"})
    desk = await shop(agent("boss", planner, [refund], plans=True), upstreams=travel.upstreams)
    run = await started(desk)
    child = await child_of(desk, run, "carry_out")

    async def waiting() -> list[str]:
        return [one.operation_id for one in await child.operations() if one.state == "waiting"]

    [operation] = await until(waiting)
    assert travel.log == []
    await child.decide(operation, approve=True)
    await ended(run)
    assert travel.standing == {"refund one"}


async def test_the_same_payment_is_held_in_the_whole_family(shop: OpenShop) -> None:
    paid: list[str] = []

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="p:w", same_intent=("payment",))
    async def pay(payment: str) -> str:
        """Pay."""
        paid.append(payment)
        return "paid"

    payer = agent("payer", [ask("pay", payment="p1"), "paid"], [pay])
    desk = await shop(agent("boss", [ask("payer", request="a"), ask("payer", request="b"), "Done."], [sub(payer)]))
    run = await started(desk)

    async def held() -> list[str]:
        return [one.run_id for one in await desk.client.runs(waiting=True)]

    [second] = await until(held)
    [operation] = await desk.client.run(second).operations()
    assert "duplicate_suspected" in operation.reason
    await desk.client.run(second).decide(operation.operation_id, approve=False)
    await ended(run)
    assert paid == ["p1"]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_of_two_agents_that_pay_the_same_in_one_moment_one_is_held(
    shop: OpenShop, database: str, request: pytest.FixtureRequest
) -> None:
    """Both turns are settled before either acts, so the gate has let both pass: the reservation decides."""
    url = "" if database == "sqlite" else new_database(request.getfixturevalue("postgres"))
    paid: list[str] = []
    asked: list[str] = []
    ready = asyncio.Event()

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="p:w", same_intent=("payment",))
    async def pay(payment: str, ctx: ToolContext) -> str:
        """Pay."""
        paid.append(ctx.run_id)
        await asyncio.sleep(0.2)
        return "paid"

    class Together(Script):
        """Answers once all have been asked, and so have looked what was asked for before."""

        async def respond(self, request: ModelRequest) -> ModelResponse:
            asked.append("")
            if len(asked) == len(payers):
                ready.set()
            await asyncio.wait_for(ready.wait(), 20)
            return await super().respond(request)

    payers = [
        Agent(name=f"payer{n}", instructions="Pay.", model=Together([ask("pay", payment="p1"), "paid"]), tools=[pay])
        for n in range(5)
    ]
    steps = [[ask(one.name, request="go") for one in payers], "Done."]
    boss = agent("boss", steps, [sub(one) for one in payers])
    desk = await shop(boss, ledger_url=url)
    run = await started(desk)

    async def held() -> bool:
        return len(await desk.client.runs(waiting=True)) == len(payers) - 1

    await until(held)
    for one in await desk.client.runs(waiting=True):
        [operation] = await desk.client.run(one.run_id).operations()
        assert operation.reason == "duplicate_suspected: a call of another agent of this run has the same payment"
        await desk.client.run(one.run_id).decide(operation.operation_id, approve=False)
    await ended(run)
    assert len(paid) == 1
    await require_sound(desk)
