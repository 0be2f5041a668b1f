"""Agents that ask other agents: each such call is a run of its own, begun once, and part of its parent."""

import asyncio
import json
from datetime import timedelta
from decimal import Decimal

import pytest
from temporalio.client import WorkflowExecutionStatus

from handfast import Effect, Limits, Outcome, Price, RunStatus, Tier, ask, tool
from handfast.contracts.errors import ContractError
from handfast.contracts.messages import ModelRequest
from handfast.contracts.timing import TASK_TIME
from tests.conftest import OpenShop, Shop, outcomes, until
from tests.family.people import agent, child_of, ended, failed, require_sound, started, sub
from tests.undo.travel import SAFE, TOOLS, Travel, booking


def last_result(request: ModelRequest) -> str:
    """What the model was told last of its calls."""
    return request.messages[-1].results[0].text


async def task_time(desk: Shop, workflow_id: str) -> timedelta:
    """Within which Temporal expects an answer to each of a workflow's tasks."""
    described = await desk.client.temporal.get_workflow_handle(workflow_id).describe()
    return described.raw_description.execution_config.default_workflow_task_timeout.ToTimedelta()


async def test_a_call_of_an_agent_is_a_run_of_its_own_and_its_answer_the_result(shop: OpenShop) -> None:
    researcher = agent("researcher", lambda request: f"found: {request.messages[0].text}", ())
    boss = agent("boss", [ask("researcher", request="the moon"), "Done."], [sub(researcher)])
    desk = await shop(boss)
    run = await started(desk, user="ada", tenant="t1")
    result = await ended(run)
    [operation] = result.operations
    assert (operation.outcome, operation.result) == (Outcome.SUCCEEDED, "found: the moon")
    assert operation.child == f"researcher-{operation.operation_id}"
    child = await desk.client.run(operation.child).summary()
    assert (child.parent, child.user, child.tenant, child.status) == (run.id, "ada", "t1", RunStatus.COMPLETED)
    described = await desk.client.temporal.get_workflow_handle(operation.child).describe()
    assert (described.parent_id, described.status) == (run.id, WorkflowExecutionStatus.COMPLETED)
    await require_sound(desk)


async def test_history_holds_nothing_of_what_was_asked_and_answered(shop: OpenShop) -> None:
    researcher = agent("researcher", ["the secret answer"], ())
    boss = agent("boss", [ask("researcher", request="the secret question"), "Done."], [sub(researcher)])
    desk = await shop(boss)
    run = await started(desk)
    await ended(run)
    child = await child_of(desk, run, "researcher")
    for one in (run, child):
        history = json.dumps((await one.handle.fetch_history()).to_json_dict())
        assert "secret" not in history
        assert "secret" not in json.dumps(
            (await one.handle.describe()).raw_description.SerializeToString().decode("latin1")
        )


async def test_workers_that_are_asked_at_once_work_at_once(shop: OpenShop) -> None:
    at_once: set[str] = set()
    together = asyncio.Event()

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
    async def meet(name: str) -> str:
        """Wait until everybody is there."""
        at_once.add(name)
        if len(at_once) == 3:
            together.set()
        await asyncio.wait_for(together.wait(), 20)
        return name

    def met(request: ModelRequest) -> object:
        done = any(message.results for message in request.messages)
        return f"{request.messages[0].text} was there" if done else ask("meet", name=request.messages[0].text)

    worker = agent("worker", met, [meet])
    names = ("a", "b", "c")
    boss = agent("boss", [[ask("worker", request=name) for name in names], "Done."], [sub(worker)])
    result = await ended(await started(await shop(boss)))
    assert [one.result for one in result.operations] == [f"{name} was there" for name in names]


async def test_teams_go_three_levels_deep_and_the_result_counts_all_of_them(shop: OpenShop) -> None:
    priced = {"price": Price(input=Decimal(1), output=Decimal(2))}
    clerk = agent("clerk", ["written"], (), **priced)
    lead = agent(
        "lead", [ask("clerk", request="write"), ask("clerk", request="write"), "lead done"], [sub(clerk)], **priced
    )
    boss = agent("boss", [[ask("lead", request="x"), ask("lead", request="y")], "Done."], [sub(lead)], **priced)
    desk = await shop(boss)
    run = await started(desk)
    result = await ended(run)
    assert result.text == "Done."
    everybody = await desk.client.runs()
    assert sorted(one.agent for one in everybody) == ["boss", *["clerk"] * 4, *["lead"] * 2]
    own = {one.run_id: await desk.ledger.read_run(one.run_id) for one in everybody}
    turns = [e.data["result"] for one in own for e in await desk.ledger.read_events(one) if e.kind == "turn"]
    assert result.tokens == sum(one.get("tokens", 0) for one in turns)
    assert result.cost_usd == pytest.approx(sum(one.get("cost_usd", 0) for one in turns))
    top = own[run.id]
    assert (top.turns, top.turns_below, top.calls, top.calls_below) == (2, 2 * 3 + 4, 2, 4)
    closed = await run.handle.result()
    assert (closed["tokens"], (await run.state()).used.turns) == (result.tokens, 12)
    await require_sound(desk)


async def test_typed_questions_and_answers_are_checked_on_both_sides(shop: OpenShop) -> None:
    from pydantic import BaseModel, Field

    class Question(BaseModel):
        city: str = Field(min_length=2)
        nights: int = Field(ge=1)

    class Quote(BaseModel):
        total: int

    def quote(request: ModelRequest) -> str:
        asked = json.loads(request.messages[0].text)
        return Quote(total=asked["nights"] * 100).model_dump_json()

    pricer = agent("pricer", quote, (), output=Quote)
    steps = [ask("pricer", city="Oslo", nights=0), ask("pricer", city="Oslo", nights=3), "Done."]
    boss = agent("boss", steps, [sub(pricer, input=Question)])
    result = await ended(await started(await shop(boss)))
    assert outcomes(result.operations) == [("pricer", "DENIED"), ("pricer", "SUCCEEDED")]
    assert result.operations[1].result == {"total": 300}


async def test_a_child_that_fails_is_undone_and_its_parent_is_told_and_goes_on(shop: OpenShop, travel: Travel) -> None:
    told: list[str] = []

    def think(request: ModelRequest) -> object:
        if len(request.messages) == 1:
            return [ask("car", number="red"), ask("clerk", request="go")]
        told.append(request.messages[-1].results[1].text)
        return "Only the car."

    clerk = agent("clerk", [ask("flight", number="oslo"), ask("hotel", number="grand")])
    desk = await shop(agent("boss", think, [*TOOLS, sub(clerk)]), upstreams=travel.upstreams)
    result = await ended(await started(desk))
    assert (result.status, travel.standing) == (RunStatus.COMPLETED, {"car red"})
    error = json.loads(told[0])
    assert (error["code"], error["hint"]) == ("tool_failed", "what it did was undone")
    assert "clerk ended as failed: the script has 2 steps" in error["message"]
    await require_sound(desk)


async def test_what_a_failed_child_leaves_is_said_and_undone_with_its_parent(shop: OpenShop, travel: Travel) -> None:
    clerk = agent("clerk", [ask("flight", number="oslo")], undo_on=())
    boss = agent("boss", [ask("clerk", request="go")], [sub(clerk), *TOOLS])
    desk = await shop(boss, upstreams=travel.upstreams)
    run = await started(desk)
    await failed(run)
    assert travel.log == ["book flight oslo", "cancel flight oslo"]
    [operation] = await run.operations()
    assert (operation.outcome, operation.result["stands"][0]["tool"]) == (Outcome.FAILED, "flight")
    [undone] = await run.undo()
    assert (undone.tool, undone.undone, undone.child) == ("flight", True, operation.child)


async def test_a_parent_that_fails_undoes_what_its_children_did_the_last_first(shop: OpenShop, travel: Travel) -> None:
    flights = agent("flights", [ask("flight", number="oslo"), ask("flight", number="rome"), "booked"])
    hotels = agent("hotels", [ask("hotel", number="grand"), "booked"])
    steps = [ask("car", number="red"), ask("flights", request="go"), ask("hotels", request="go")]
    desk = await shop(agent("boss", steps, [*TOOLS, sub(flights), sub(hotels)]), upstreams=travel.upstreams)
    run = await started(desk)
    await failed(run)
    assert travel.log == [
        "book car red", "book flight oslo", "book flight rome", "book hotel grand",
        "cancel hotel grand", "cancel flight rome", "cancel flight oslo", "cancel car red",
    ]  # fmt: skip
    assert outcomes(await run.operations()) == [(name, "COMPENSATED") for name in ("car", "flights", "hotels")]
    assert [(one.tool, one.undone) for one in await run.undo()] == [
        ("hotel", True), ("flight", True), ("flight", True), ("car", True),
    ]  # fmt: skip
    await require_sound(desk)


async def test_undoing_reaches_three_levels_down(shop: OpenShop, travel: Travel) -> None:
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    lead = agent("lead", [ask("clerk", request="go"), ask("hotel", number="grand"), "booked"], [*TOOLS, sub(clerk)])
    boss = agent("boss", [ask("lead", request="go")], [sub(lead)])
    desk = await shop(boss, upstreams=travel.upstreams)
    run = await started(desk)
    await failed(run)
    assert travel.log == ["book flight oslo", "book hotel grand", "cancel hotel grand", "cancel flight oslo"]
    assert [(one.tool, one.undone) for one in await run.undo()] == [("hotel", True), ("flight", True)]
    await require_sound(desk)


async def test_a_job_that_a_child_has_committed_stands(shop: OpenShop, travel: Travel) -> None:
    pay = booking("payment", pivot=True)
    payer = agent("payer", [ask("payment", number="all"), "paid"], [pay])
    steps = [ask("flight", number="oslo"), ask("payer", request="go"), ask("car", number="red")]
    desk = await shop(agent("boss", steps, [*TOOLS, sub(payer)]), upstreams=travel.upstreams)
    run = await started(desk)
    await failed(run)
    assert travel.standing == {"flight oslo", "payment all", "car red"}
    assert {one.reason for one in await run.undo()} == {"payer has committed the job"}


async def test_a_rollback_afterwards_undoes_children_too_and_its_dry_run_names_their_calls(
    shop: OpenShop, travel: Travel
) -> None:
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    desk = await shop(agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)
    await ended(run)
    assert [tool for _, tool, _ in await desk.ledger.undoing.owed(run.id)] == ["flight"]
    await run.rollback(by="ada")
    await asyncio.wait_for(desk.client.temporal.get_workflow_handle(f"rollback:{run.id}").result(), 30)
    child = await child_of(desk, run, "clerk")
    workflows = [run.id, child.id, f"rollback:{run.id}", f"rollback:{child.id}"]
    assert [await task_time(desk, one) for one in workflows] == [TASK_TIME] * 4
    assert travel.standing == set()
    assert (await ended(run)).undone[0].tool == "flight"


async def test_a_child_that_was_rolled_back_alone_is_not_undone_again(shop: OpenShop, travel: Travel) -> None:
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    steps = [ask("clerk", request="go"), ask("car", number="red")]
    desk = await shop(agent("boss", steps, [*TOOLS, sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)
    travel.slow["book car"] = 1.5
    child = await child_of(desk, run, "clerk")
    await ended(child)
    await child.rollback(by="ada")
    await failed(run)
    assert sorted(travel.log) == ["book car red", "book flight oslo", "cancel car red", "cancel flight oslo"]
    await require_sound(desk)


async def test_what_a_child_could_not_undo_blocks_and_a_persons_word_ends_it(shop: OpenShop, travel: Travel) -> None:
    travel.planned["cancel flight"] = [400]
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    desk = await shop(agent("boss", [ask("clerk", request="go")], [sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)

    async def blocked() -> list[str]:
        return [one.run_id for one in await desk.client.runs(blocked=True)]

    child = await child_of(desk, run, "clerk")
    assert await until(blocked) == [child.id]
    [stuck] = [one for one in await run.undo() if one.blocked]
    assert stuck.child == child.id
    await run.unblock(stuck.operation, "retry", by="ada")
    await failed(run)
    assert travel.standing == set()


async def test_a_savepoint_takes_back_what_a_child_did_since(shop: OpenShop, travel: Travel) -> None:
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    steps = [ask("savepoint", name="s"), ask("clerk", request="go"), ask("roll_back", to="s"), "Done."]
    desk = await shop(agent("boss", steps, [sub(clerk)], savepoints=True), upstreams=travel.upstreams)
    result = await ended(await started(desk))
    assert (result.status, travel.log) == (RunStatus.COMPLETED, ["book flight oslo", "cancel flight oslo"])
    assert result.operations[1].outcome is Outcome.COMPENSATED


async def test_a_call_of_a_child_waits_for_a_person_in_the_child(shop: OpenShop, travel: Travel) -> None:
    refund = booking("refund", tier=Tier.IRREVERSIBLE)
    clerk = agent("clerk", [ask("refund", number="one"), "refunded"], [refund])
    desk = await shop(agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)
    child = await child_of(desk, run, "clerk")

    async def waiting() -> list[str]:
        return [one.operation for one in (await child.state()).waiting]

    [operation] = await until(waiting)
    assert [one.run_id for one in await desk.client.runs(waiting=True)] == [child.id]
    await child.decide(operation, approve=True, by="ada")
    assert (await ended(run)).status is RunStatus.COMPLETED
    assert travel.standing == {"refund one"}


async def test_asking_an_agent_can_itself_need_an_approval(shop: OpenShop, travel: Travel) -> None:
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    desk = await shop(
        agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk, tier=Tier.IRREVERSIBLE)]),
        upstreams=travel.upstreams,
    )
    run = await started(desk)

    async def waiting() -> list[str]:
        return [one.operation for one in (await run.state()).waiting]

    [operation] = await until(waiting)
    assert len(await desk.client.runs()) == 1
    await run.decide(operation, approve=False, by="ada")
    assert outcomes((await ended(run)).operations) == [("clerk", "DENIED")]
    assert (travel.log, len(await desk.client.runs())) == ([], 1)


@pytest.mark.parametrize(("undo", "stands"), [(None, True), (True, False), (False, True)])
async def test_a_cancelled_parent_cancels_its_children_and_undoes_as_it_is_told(
    shop: OpenShop, travel: Travel, undo: bool | None, stands: bool
) -> None:
    travel.slow["book hotel"] = 1.0
    steps = [ask("flight", number="oslo"), ask("hotel", number="grand"), ask("car", number="red"), "x"]
    clerk = agent("clerk", steps, SAFE)
    desk = await shop(agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)

    async def under_way() -> bool:
        return "book hotel grand" in travel.log

    await until(under_way)
    await run.cancel(undo=undo)
    result = await ended(run)
    child = await (await child_of(desk, run, "clerk")).summary()
    assert (result.status, child.status) == (RunStatus.CANCELLED, RunStatus.CANCELLED)
    assert (travel.standing == {"flight oslo", "hotel grand"}) is stands
    assert stands or travel.standing == set()
    await require_sound(desk)


async def test_children_get_a_part_of_what_is_left_and_give_back_what_they_leave(shop: OpenShop) -> None:
    worker = agent("worker", lambda request: "done", (), limits=Limits(turns=10, calls=40, tokens=50_000))
    steps = [[ask("worker", request="a"), ask("worker", request="b")], ask("worker", request="c"), "Done."]
    boss = agent("boss", steps, [sub(worker)], limits=Limits(turns=12, calls=100, tokens=40_000))
    desk = await shop(boss)
    run = await started(desk)
    result = await ended(run)
    assert result.status is RunStatus.COMPLETED
    begun = [e.data["limits"] for e in await desk.ledger.read_events(run.id) if e.kind == "child"]
    # 12 turns, one of them used and one kept for the answer: five for each of two; then 12 - 2 - 2 - 1 for the third.
    assert [one["turns"] for one in begun] == [5, 5, 7]
    assert all(one["calls"] == 40 for one in begun)
    left = int(40_000 * 0.9)
    assert abs(begun[0]["tokens"] - begun[1]["tokens"]) <= 1
    assert left * 0.49 < begun[0]["tokens"] <= left / 2 < begun[2]["tokens"] <= left


async def test_a_child_stops_at_its_part_and_the_family_at_the_whole(shop: OpenShop, travel: Travel) -> None:
    endless = agent("endless", lambda request: ask("flight", number=f"f{len(request.messages)}"))
    steps = [ask("endless", request="go"), ask("endless", request="go"), ask("endless", request="go"), "Done."]
    boss = agent(
        "boss", steps, [sub(endless, limits=Limits(turns=4, tokens=10**6))], limits=Limits(turns=9, tokens=10**7)
    )
    desk = await shop(boss, upstreams=travel.upstreams)
    run = await started(desk)
    result = await ended(run)
    children = [one for one in await desk.client.runs() if one.parent]
    assert {one.status for one in children} == {RunStatus.LIMIT_REACHED}
    row = await desk.ledger.read_run(run.id)
    assert row.turns + row.turns_below <= 9
    assert result.status is RunStatus.LIMIT_REACHED
    assert travel.standing == set()


async def test_where_nothing_is_left_no_child_is_begun(shop: OpenShop) -> None:
    told: list[str] = []

    def think(request: ModelRequest) -> object:
        if len(request.messages) == 1:
            return ask("worker", request="a")
        told.append(last_result(request))
        return "Alone then."

    boss = agent("boss", think, [sub(agent("worker", ["x"], ()))], limits=Limits(turns=2))
    desk = await shop(boss)
    result = await ended(await started(desk))
    assert (len(await desk.client.runs()), outcomes(result.operations)) == (1, [("worker", "FAILED")])
    assert json.loads(told[0])["code"] == "limit_reached"
    assert "limit of turns" in told[0]


async def test_one_run_calls_an_agent_no_more_often_than_its_tool_says(shop: OpenShop) -> None:
    critic = agent("critic", ["again"], ())
    steps = [*[ask("critic", request=f"draft {n}") for n in range(4)], "Done."]
    result = await ended(await started(await shop(agent("boss", steps, [sub(critic, most=2)]))))
    assert [o for _, o in outcomes(result.operations)] == ["SUCCEEDED", "SUCCEEDED", "DENIED", "DENIED"]
    assert "critic 2 times" in result.operations[2].result["message"]


async def test_a_hand_off_ends_the_run_with_the_other_ones_answer(shop: OpenShop) -> None:
    heard: list[str] = []

    def act(request: ModelRequest) -> str:
        heard.append(request.messages[0].text)
        return "solved by the expert"

    expert = agent("expert", act, ())
    boss = agent("front", [[ask("expert", request="it is about billing"), ask("note", text="never")]], [
        sub(expert, hand_off=True), note,
    ])  # fmt: skip
    desk = await shop(boss)
    run = await started(desk, "front", "My invoice is wrong")
    result = await ended(run)
    assert (result.status, result.text, result.turns) == (RunStatus.COMPLETED, "solved by the expert", 1)
    assert heard == ["My invoice is wrong\n\n(handed over by front) it is about billing"]
    assert outcomes(result.operations) == [("expert", "SUCCEEDED"), ("note", "FAILED")]


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
async def note(text: str) -> str:
    """Note something."""
    return text


async def test_a_hand_off_that_fails_leaves_the_run_with_the_one_who_wanted_it(shop: OpenShop) -> None:
    expert = agent("expert", [], ())
    desk = await shop(agent("boss", [ask("expert", request="x"), "I did it myself."], [sub(expert, hand_off=True)]))
    assert (await ended(await started(desk))).text == "I did it myself."


async def test_a_hand_off_goes_on_over_several_agents_to_the_last_answer(shop: OpenShop) -> None:
    third = agent("third", ["the end"], ())
    second = agent("second", [ask("third", request="you")], [sub(third, hand_off=True)])
    first = agent("first", [ask("second", request="you")], [sub(second, hand_off=True)])
    assert (await ended(await started(await shop(first), "first"))).text == "the end"


async def test_runs_with_children_go_on_in_new_histories(shop: OpenShop, travel: Travel) -> None:
    clerk = agent(
        "clerk", lambda r: "booked" if any(m.results for m in r.messages) else ask("flight", number=r.messages[0].text)
    )
    boss = agent("boss", [*[ask("clerk", request=f"f{n}") for n in range(3)], "Done."], [sub(clerk)])
    desk = await shop(boss, upstreams=travel.upstreams)
    run = await started(desk, continue_after_turns=1)
    result = await ended(run)
    assert (result.status, travel.standing) == (RunStatus.COMPLETED, {"flight f0", "flight f1", "flight f2"})
    assert (await desk.ledger.read_run(run.id)).turns_below == 6


def test_a_family_that_does_not_fit_is_told_when_it_is_declared() -> None:
    from pydantic import BaseModel

    class Typed(BaseModel):
        x: int

    mute = agent("mute", ["x"], ())
    with pytest.raises(ContractError, match="no description"):
        mute.as_tool()
    from handfast import Agent

    with pytest.raises(ContractError, match="no model, so it can only carry out plans"):
        Agent(name="office", tools=TOOLS).as_tool(description="x")
    with pytest.raises(ContractError, match="answer is of another type"):
        agent("boss", ["x"], [sub(mute, hand_off=True)], output=Typed)
    with pytest.raises(ContractError, match="most 0"):
        sub(mute, most=0)
    with pytest.raises(ContractError, match="effect READ with tier REVERSIBLE"):
        sub(mute, tier=Tier.REVERSIBLE)


async def test_a_childs_time_counts_once_where_several_work_at_once(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
    async def work() -> str:
        """Take a while."""
        await asyncio.sleep(1.0)
        return "done"

    worker = agent("worker", [ask("work"), "done"], [work])
    boss = agent("boss", [[ask("worker", request=n) for n in "abc"], "Done."], [sub(worker)])
    desk = await shop(boss)
    run = await started(desk)
    await ended(run)
    closed = [e for e in await desk.ledger.read_events(run.id) if e.kind == "closed"]
    assert 1.0 <= closed[-1].data["work_seconds"] < 2.5


async def test_erasing_a_run_erases_what_its_children_have_said(shop: OpenShop) -> None:
    clerk = agent("clerk", ["a secret"], ())
    desk = await shop(agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk)]))
    run = await started(desk)
    await ended(run)
    child = await child_of(desk, run, "clerk")
    await desk.ledger.erase(run.id)
    contents = [e.content for one in (run, child) for e in await desk.ledger.read_events(one.id)]
    assert set(contents) == {None}
    await require_sound(desk)
