"""A run that ends badly is undone: the last call first, each once, whatever happens meanwhile."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal

import pytest
from sqlalchemy import text
from temporalio.client import WorkflowFailureError

from handfast import DecisionRefused, Effect, Limits, Outcome, Run, RunFailed, RunStatus, Tier, ToolContext, ask, tool
from handfast.contracts.circuit import CircuitPolicy
from handfast.contracts.errors import RunError
from handfast.contracts.messages import ModelRequest
from handfast.contracts.tool import Tool
from handfast.contracts.upstream import Upstream
from handfast.contracts.wire_words import Resolution, UndoWord
from handfast.engine.connect import connect
from handfast.ledger import Settlement
from handfast.ledger.undoing import Undoing
from handfast.llm.script import Step
from handfast.workers.worker import make_worker
from tests.conftest import OpenShop, Postgres, Shop, new_database, outcomes, until
from tests.undo.travel import SAFE, TOOLS, TRIP, Booking, Travel, book, booking, cancelling, traveller


def new_id() -> str:
    return f"undo-{uuid.uuid4()}"


@pytest.fixture
def travel() -> Iterator[Travel]:
    with Travel() as service:
        yield service


async def failed(desk: Shop, **options: Any) -> Run:
    """A run that has failed and was undone."""
    run = await desk.client.start("traveller", "Go", id=new_id(), **options)
    with pytest.raises(RunFailed):
        await asyncio.wait_for(run.result(), 30)
    assert (await desk.ledger.verify(run.id)).faults == ()
    return run


async def blocked(run: Run) -> list[tuple[str, str]]:
    """(tool, reason) of what waits for a person, as the workflow knows it."""
    return [(one.tool, one.reason) for one in (await run.state()).blocked]


async def test_a_run_that_fails_is_undone_the_last_call_first(shop: OpenShop, travel: Travel) -> None:
    desk = await shop(traveller(TRIP), upstreams=travel.upstreams)
    run = await failed(desk)
    assert travel.log == [
        "book flight oslo", "book hotel grand", "book car red", "cancel car red", "cancel hotel grand", "cancel flight oslo",
    ]  # fmt: skip
    assert len(set(travel.keys)) == 6
    assert outcomes(await run.operations()) == [(kind, Outcome.COMPENSATED) for kind in ("flight", "hotel", "car")]
    assert [(one.tool, one.undone, one.reason, one.attempts) for one in await run.undo()] == [
        ("car", True, "", 1), ("hotel", True, "", 1), ("flight", True, "", 1),
    ]  # fmt: skip
    kinds = [event.kind for event in await desk.ledger.read_events(run.id)]
    assert (kinds.count("undo"), kinds.count("undone"), kinds[-1]) == (1, 3, "closed")


async def test_a_run_that_ends_well_pays_nothing_for_it(shop: OpenShop, travel: Travel) -> None:
    desk = await shop(traveller([*TRIP, "Booked."]), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())
    result = await run.result()
    assert (result.status, result.undone, result.not_undone) == (RunStatus.COMPLETED, (), ())
    assert travel.standing == {"flight oslo", "hotel grand", "car red"}
    scheduled = [
        event.activity_task_scheduled_event_attributes.activity_type.name
        async for event in run.handle.fetch_history_events()
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert sorted(scheduled) == ["car", "flight", "hotel", *["model_turn"] * 4]


async def test_what_undoes_a_call_costs_under_a_hundred_bytes_of_its_history(shop: OpenShop, travel: Travel) -> None:
    """Beside the same tools with nothing to undo them: that it may be stopped halfway is all the workflow has to know."""

    def plain(kind: str) -> Tool:
        @tool(name=kind, version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="travel:w")
        async def act(number: str, ctx: ToolContext) -> Booking:
            """Book."""
            return await book(kind, number, ctx)

        return act

    sizes: list[int] = []
    for tools in ([plain(kind) for kind in ("flight", "hotel", "car")], SAFE):
        desk = await shop(traveller([*TRIP, "Booked."], tools), upstreams=travel.upstreams)
        run = await desk.client.start("traveller", "Go", id=new_id())
        await run.handle.result()
        sizes.append(sum([event.ByteSize() async for event in run.handle.fetch_history_events()]))
    assert 0 < sizes[1] - sizes[0] <= 3 * 100


async def test_an_error_that_the_model_can_act_on_undoes_nothing(shop: OpenShop, travel: Travel) -> None:
    travel.planned["book hotel"] = [400]
    desk = await shop(traveller([*TRIP, "No hotel."]), upstreams=travel.upstreams)
    result = await desk.client.execute("traveller", "Go", id=new_id())
    assert (result.status, travel.standing) == (RunStatus.COMPLETED, {"flight oslo", "car red"})


async def test_an_exhausted_limit_undoes_and_the_result_says_what_stands(shop: OpenShop, travel: Travel) -> None:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="mail:w")
    async def send(to: str, ctx: ToolContext) -> str:
        """Send a mail, which nothing takes back."""
        return "sent"

    steps = [ask("flight", number="oslo"), ask("send", to="ada"), *(ask("car", number=f"c{n}") for n in range(9))]
    limited = traveller(steps, [*TOOLS, send], limits=Limits(turns=4, tokens=10**7))
    desk = await shop(limited, upstreams=travel.upstreams)
    result = await desk.client.execute("traveller", "Go", id=new_id())
    assert (result.status, result.limit, travel.standing) == (RunStatus.LIMIT_REACHED, "turns", set())
    assert [one.tool for one in result.undone] == ["car", "flight"]
    [mail] = result.not_undone
    assert (mail.tool, mail.blocked) == ("send", False)
    assert "names no compensate=" in mail.reason


@pytest.mark.parametrize(
    ("undo", "on_cancel", "stands"),
    [(None, False, True), (None, True, False), (True, False, False), (False, True, True)],
)
async def test_a_cancellation_undoes_as_it_says_or_else_as_the_agent_says(
    shop: OpenShop, travel: Travel, undo: bool | None, on_cancel: bool, stands: bool
) -> None:
    travel.slow["book hotel"] = 1.0
    tools = [booking("flight"), booking("hotel", cancelling("hotel", safe_if_absent=True)), booking("car")]
    endings = {"undo_on": (RunStatus.CANCELLED,)} if on_cancel else {}
    desk = await shop(traveller([*TRIP, "Booked."], tools, **endings), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())

    async def under_way() -> bool:
        return "book hotel grand" in travel.log

    await until(under_way)
    await run.cancel(undo=undo)
    result = await asyncio.wait_for(run.result(), 30)
    assert result.status is RunStatus.CANCELLED
    # The call that was under way has ended, or is in doubt and was looked after.
    assert ("flight oslo" in travel.standing) is stands
    if not stands:
        assert travel.standing == set()


async def test_calls_of_one_turn_are_undone_side_by_side_unless_they_conflict(shop: OpenShop, travel: Travel) -> None:
    rooms = booking("room", conflict=("number",))
    cars = booking("car")
    turn = [ask("room", number="1"), ask("car", number="a"), ask("room", number="1"), ask("car", number="b")]
    travel.slow |= {"cancel car": 0.5, "cancel room": 0.5}
    desk = await shop(traveller([turn], [rooms, cars]), upstreams=travel.upstreams)
    run = await failed(desk)
    at = {
        event.data["operation"]: event.at for event in await desk.ledger.read_events(run.id) if event.kind == "undone"
    }
    room_1, car_a, room_2, car_b = (at[operation.operation_id] for operation in await run.operations())
    assert room_1 - room_2 > timedelta(seconds=0.4)
    assert abs(car_a - car_b) < timedelta(seconds=0.4)


async def test_what_can_not_be_undone_blocks_until_somebody_says_retry(shop: OpenShop, travel: Travel) -> None:
    travel.planned["cancel hotel"] = [500, 500]
    desk = await shop(traveller(TRIP), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())
    [(tool_name, reason)] = await until(lambda: blocked(run))
    assert (tool_name, "500" in reason, travel.standing) == ("hotel", True, {"flight oslo", "hotel grand"})
    [summary] = await desk.client.runs(blocked=True)
    assert (summary.run_id, summary.status, summary.blocked) == (run.id, RunStatus.RUNNING, 1)

    async def findable() -> bool:
        query = f"HandfastStatus = 'compensation_blocked' and WorkflowId = '{run.id}'"
        return [one.id async for one in desk.client.temporal.list_workflows(query)] == [run.id]

    await until(findable)
    hotel = next(one for one in await run.undo() if one.tool == "hotel")
    assert (hotel.undone, hotel.blocked, hotel.attempts) == (False, True, 2)
    with pytest.raises(DecisionRefused, match="skip needs a reason"):
        await run.unblock(hotel.operation, "skip")
    with pytest.raises(DecisionRefused, match="has no operation 'none'"):
        await run.unblock("none", "retry")
    await run.unblock(hotel.operation, "retry", by="ada")
    with pytest.raises(RunFailed):
        await asyncio.wait_for(run.result(), 30)
    assert travel.log[3:] == ["cancel car red", "cancel hotel grand", "cancel flight oslo"]
    assert [(one.tool, one.undone, one.attempts) for one in await run.undo()] == [
        ("car", True, 1), ("hotel", True, 3), ("flight", True, 1),
    ]  # fmt: skip
    assert (await desk.ledger.verify(run.id)).faults == ()
    assert await desk.client.runs(blocked=True) == []


@pytest.mark.parametrize(("action", "outcome"), [("skip", Outcome.SUCCEEDED), ("done", Outcome.COMPENSATED)])
async def test_a_person_may_leave_it_or_undo_it_by_hand(
    shop: OpenShop, travel: Travel, action: Any, outcome: Outcome
) -> None:
    travel.planned["cancel hotel"] = [404] * 9
    desk = await shop(traveller(TRIP), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())
    await until(lambda: blocked(run))
    [hotel] = [one for one in await run.undo() if one.blocked]
    await run.unblock(hotel.operation, action, by="ada", reason="the hotel has closed")
    with pytest.raises(RunFailed):
        await asyncio.wait_for(run.result(), 30)
    assert outcomes(await run.operations())[1] == ("hotel", outcome)
    [_, hotel, flight] = await run.undo()
    assert (hotel.undone, hotel.blocked, flight.undone) == (action == "done", False, True)
    assert hotel.reason == f"{'by hand, says' if action == 'done' else 'left as it is by'} ada: the hotel has closed"
    assert (await desk.ledger.verify(run.id)).faults == ()


def unsure(kind: str, **clauses: Any) -> Any:
    """A tool whose calls end in doubt, as the answer is lost and nothing protects a repeat."""
    return booking(kind, effect=Effect.ONCE, **clauses)


@pytest.mark.parametrize("happened", [True, False])
async def test_a_call_in_doubt_is_only_undone_once_somebody_knows(
    shop: OpenShop, travel: Travel, happened: bool
) -> None:
    travel.planned["book hotel"] = [0]
    tools = [booking("flight"), unsure("hotel", compensate=cancelling("hotel", effect=Effect.KEYED))]
    desk = await shop(traveller(TRIP[:2], tools), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())

    async def waits() -> bool:
        return [one.unknown for one in (await run.state()).waiting] == [True]

    await until(waits)
    await run.cancel(undo=True)
    [(_, reason)] = await until(lambda: blocked(run))
    assert "nobody knows whether the call happened" in reason
    [hotel] = [one for one in await run.undo() if one.blocked]
    await run.resolve(hotel.operation, happened=happened, by="ada")
    result = await asyncio.wait_for(run.result(), 30)
    assert result.status is RunStatus.CANCELLED
    assert ("cancel hotel grand" in travel.log) is happened
    assert [one.tool for one in result.undone] == (["hotel", "flight"] if happened else ["flight"])
    assert (result.not_undone, (await desk.ledger.verify(run.id)).faults) == ((), ())


@pytest.mark.parametrize("happened", [True, False])
async def test_what_a_person_says_while_it_is_looked_whether_a_call_can_be_undone_counts(
    shop: OpenShop, travel: Travel, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    """Nobody would say it again: what is known by then is not waited for."""
    travel.planned["book hotel"] = [0]
    tools = [booking("flight"), unsure("hotel", compensate=cancelling("hotel", effect=Effect.KEYED))]
    desk = await shop(traveller(TRIP[:2], tools), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())
    block, reasons = Undoing.block, list[str]()

    async def come_late(
        undoing: Undoing, run_id: str, operation: str, compensation: str, reason: str, **seen: Any
    ) -> bool:
        if not reasons:
            word = Resolution(operation=operation, happened=happened, by="ada")
            await desk.ledger.record_resolution(run_id, word)
        reasons.append(reason)
        return await block(undoing, run_id, operation, compensation, reason, **seen)

    async def waits() -> bool:
        return [one.unknown for one in (await run.state()).waiting] == [True]

    await until(waits)
    monkeypatch.setattr(Undoing, "block", come_late)
    await run.cancel(undo=True)
    result = await asyncio.wait_for(run.result(), 60)
    assert len(reasons) == 1
    assert "nobody knows whether the call happened" in reasons[0]
    assert ("cancel hotel grand" in travel.log) is happened
    assert [one.tool for one in result.undone] == (["hotel", "flight"] if happened else ["flight"])
    assert (result.not_undone, (await desk.ledger.verify(run.id)).faults) == ((), ())


@pytest.mark.parametrize("action", ["skip", "done"])
async def test_an_attempt_that_comes_after_a_persons_word_ends_with_it(
    shop: OpenShop, travel: Travel, monkeypatch: pytest.MonkeyPatch, action: Literal["skip", "done"]
) -> None:
    """Its own attempts to undo the call are used up, and that a person has ended it is all there is to say."""
    travel.planned["cancel hotel"] = [404] * 9
    desk = await shop(traveller(TRIP), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())
    block, blocks = Undoing.block, list[bool]()

    async def come_late(
        undoing: Undoing, run_id: str, operation: str, compensation: str, reason: str, **seen: Any
    ) -> bool:
        if not blocks:
            blocks.append(await block(undoing, run_id, operation, compensation, reason, **seen))
            await desk.ledger.undoing.unblock(run_id, UndoWord(operation=operation, action=action, by="ada"))
        blocks.append(await block(undoing, run_id, operation, compensation, reason, **seen))
        return blocks[-1]

    monkeypatch.setattr(Undoing, "block", come_late)
    with pytest.raises(RunFailed):
        await asyncio.wait_for(run.result(), 60)
    assert blocks == [True, False]
    became = Outcome.SUCCEEDED if action == "skip" else Outcome.COMPENSATED
    assert outcomes(await run.operations())[1] == ("hotel", became)
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_what_is_safe_where_there_is_nothing_runs_without_knowing(shop: OpenShop, travel: Travel) -> None:
    travel.planned["book hotel"] = [0]
    safe = cancelling("hotel", effect=Effect.IDEMPOTENT, safe_if_absent=True)
    desk = await shop(
        traveller(TRIP[:2], [booking("flight"), unsure("hotel", compensate=safe)]), upstreams=travel.upstreams
    )
    run = await desk.client.start("traveller", "Go", id=new_id())

    async def waits() -> bool:
        return bool((await run.state()).waiting)

    await until(waits)
    await run.cancel(undo=True)
    result = await asyncio.wait_for(run.result(), 30)
    assert ([one.tool for one in result.undone], travel.standing) == (["hotel", "flight"], set())


async def test_what_undoes_a_call_waits_for_a_service_that_is_down(shop: OpenShop, travel: Travel) -> None:
    travel.planned["cancel hotel"] = [503]
    policy = CircuitPolicy(failures=1, seconds=2, successes=1)
    tools = [booking("flight"), booking("hotel", cancelling("hotel", attempts=1))]
    desk = await shop(traveller(TRIP[:2], tools), upstreams={"travel": Upstream(base_url=travel.url, circuit=policy)})
    run = await desk.client.start("traveller", "Go", id=new_id())
    await until(lambda: blocked(run))
    [hotel] = [one for one in await run.undo() if one.blocked]
    await run.unblock(hotel.operation, "done", by="ada")
    with pytest.raises(RunFailed):
        await asyncio.wait_for(run.result(), 30)
    assert [(one.tool, one.undone, one.attempts) for one in await run.undo()] == [
        ("hotel", True, 1), ("flight", True, 2),
    ]  # fmt: skip


async def test_a_run_that_ended_well_is_rolled_back_on_an_operators_word_and_only_once(
    shop: OpenShop, travel: Travel
) -> None:
    desk = await shop(traveller([*TRIP, "Booked."]), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())
    assert (await run.result()).status is RunStatus.COMPLETED
    for _ in range(2):
        await run.rollback(by="ada", reason="the customer died")
        await asyncio.wait_for(desk.client.temporal.get_workflow_handle(f"rollback:{run.id}").result(), 30)
    assert travel.log[3:] == ["cancel car red", "cancel hotel grand", "cancel flight oslo"]
    result = await run.result()
    assert (result.status, len(result.undone), result.not_undone) == (RunStatus.COMPLETED, 3, ())
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_a_run_that_was_terminated_is_rolled_back_too(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book hotel"] = 1.5
    desk = await shop(traveller([*TRIP, "Booked."]), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())

    async def under_way() -> bool:
        return "book hotel grand" in travel.log

    await until(under_way)
    await run.handle.terminate()
    await run.rollback(by="ada")
    [(tool_name, reason)] = await until(lambda: blocked_in_rollback(desk, run))
    assert (tool_name, "nobody knows" in reason) == ("hotel", True)
    [hotel] = [one for one in await run.undo() if one.blocked]
    await run.resolve(hotel.operation, happened=True, by="ada")
    await asyncio.wait_for(desk.client.temporal.get_workflow_handle(f"rollback:{run.id}").result(), 30)
    assert travel.standing == set()
    result = await run.result()
    assert (result.status, [one.tool for one in result.undone]) == (RunStatus.CANCELLED, ["hotel", "flight"])


async def blocked_in_rollback(desk: Shop, run: Run) -> list[tuple[str, str]]:
    handle = desk.client.temporal.get_workflow_handle(f"rollback:{run.id}")
    state: Any = await handle.query("state")
    return [(one["tool"], one["reason"]) for one in state.get("blocked", ())]


async def test_a_cancellation_does_not_reach_what_is_being_undone(shop: OpenShop, travel: Travel) -> None:
    travel.slow |= {"cancel car": 0.6, "cancel hotel": 0.6}
    desk = await shop(traveller(TRIP), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())

    async def cancelling_the_car() -> bool:
        return "cancel car red" in travel.log

    await until(cancelling_the_car)
    for _ in range(3):
        await run.cancel()
        await asyncio.sleep(0.1)
    with pytest.raises(RunFailed):
        await asyncio.wait_for(run.result(), 30)
    assert travel.standing == set()
    assert [one.undone for one in await run.undo()] == [True] * 3


@pytest.mark.parametrize("happened", [True, False])
async def test_a_call_in_doubt_is_looked_up_before_it_is_undone(shop: OpenShop, travel: Travel, happened: bool) -> None:
    async def find(args: Any, ctx: ToolContext) -> Booking | None:
        assert ctx.operation_id
        return Booking(number=args.number) if f"book hotel {args.number}" in travel.log else None

    travel.slow["book hotel"] = 1.0
    if not happened:
        travel.planned["book hotel"] = [500]
    hotel = booking(
        "hotel",
        cancelling("hotel", effect=Effect.KEYED),
        effect=Effect.RECONCILED,
        reconcile=find,
        settles_within=timedelta(seconds=0.2),
        timeout=timedelta(seconds=2),
    )
    desk = await shop(traveller(TRIP, [booking("flight"), hotel, booking("car")]), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())

    async def under_way() -> bool:
        return "book hotel grand" in travel.asked

    await until(under_way)
    await run.cancel(undo=True)
    result = await asyncio.wait_for(run.result(), 30)
    assert (result.status, travel.standing) == (RunStatus.CANCELLED, set())
    assert [one.tool for one in result.undone] == (["hotel", "flight"] if happened else ["flight"])
    assert ((await desk.ledger.verify(run.id)).faults, result.not_undone) == ((), ())


async def test_a_tool_on_a_queue_of_its_own_is_undone_there_when_its_worker_is_back(
    shop: OpenShop, travel: Travel, postgres: Postgres
) -> None:
    queue = f"own-{uuid.uuid4().hex[:8]}"
    tools = [booking("flight"), booking("hotel", queue=queue)]
    agent = traveller(TRIP[:2], tools)
    desk = await shop(agent, upstreams=travel.upstreams, ledger_url=new_database(postgres))
    temporal, _ = await connect(desk.settings, desk.client.engine.address)
    travel.slow["book hotel"] = 0.3
    async with make_worker(temporal, desk.boundary, desk.settings, task_queue=queue):
        run = await desk.client.start("traveller", "Go", id=new_id())

        async def booked() -> bool:
            return "book hotel grand" in travel.log

        await until(booked)
    again, _ = await connect(desk.settings, desk.client.engine.address)
    async with make_worker(again, desk.boundary, desk.settings, task_queue=queue):
        with pytest.raises(RunFailed):
            await asyncio.wait_for(run.result(), 40)
    assert travel.log[2:] == ["cancel hotel grand", "cancel flight oslo"]
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_a_frozen_attempt_that_reports_late_has_its_call_undone_again(shop: OpenShop, travel: Travel) -> None:
    """The call was undone while nobody knew; a second word on it comes while the run is still undoing."""
    travel.planned["book hotel"] = [0]
    travel.slow["cancel flight"] = 1.5
    safe = cancelling("hotel", effect=Effect.ONCE, safe_if_absent=True)
    tools = [booking("flight"), unsure("hotel", compensate=safe)]
    desk = await shop(traveller(TRIP[:2], tools), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())

    async def waits() -> bool:
        return bool((await run.state()).waiting)

    await until(waits)
    await run.cancel(undo=True)

    async def hotel_undone() -> bool:
        return "cancel hotel grand" in travel.log and "cancel flight oslo" in travel.log

    await until(hotel_undone)
    hotel = (await run.operations())[1]
    late = Settlement(outcome=Outcome.SUCCEEDED, content={"number": "grand"}, meta={"attempt": 1})
    await desk.ledger.settle(run.id, hotel.operation_id, "a frozen worker", late)
    result = await asyncio.wait_for(run.result(), 30)
    assert travel.log.count("cancel hotel grand") == 2
    assert [(one.tool, one.undone, one.attempts) for one in result.undone] == [("hotel", True, 2), ("flight", True, 1)]
    assert ((await desk.ledger.verify(run.id)).faults, result.not_undone) == ((), ())


async def test_a_rollback_of_what_is_not_there_ends_with_the_reason(shop: OpenShop, travel: Travel) -> None:
    desk = await shop(traveller(["Nothing to do."]), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())
    await run.result()
    with pytest.raises(DecisionRefused, match="has no operation 'none'"):
        await run.rollback(to="none")
    for run_id, to in ((run.id, "none"), ("no-such-run", "")):
        handle: Any = await desk.client.temporal.start_workflow(
            "RollbackRun", {"to": to}, id=f"rollback:{run_id}", task_queue=desk.settings.task_queue
        )
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 20)
    with pytest.raises(RunError, match="are the engine's own"):
        await desk.client.start("traveller", "Go", id="rollback:x")


async def test_a_model_that_thinks_again_after_a_rollback_is_told_and_acts_anew(shop: OpenShop, travel: Travel) -> None:
    heard: list[str] = []

    def script(request: ModelRequest) -> Step:
        turn = sum(message.role == "assistant" for message in request.messages)
        heard.extend(result.text for message in request.messages for result in message.results if turn == 1)
        return ask("flight", number="oslo") if turn == 0 or ("undone" in heard[-1] and turn == 1) else "Booked."

    desk = await shop(traveller(script, [booking("flight")]), upstreams=travel.upstreams)
    run = await desk.client.start("traveller", "Go", id=new_id())
    assert (await run.result()).text == "Booked."
    await run.rollback(by="ada")
    await asyncio.wait_for(desk.client.temporal.get_workflow_handle(f"rollback:{run.id}").result(), 30)
    await run.reset(2, by="ada")

    async def thought_again() -> bool:
        return (await run.summary()).status.closed and len(travel.log) == 3

    await until(thought_again)
    assert travel.log == ["book flight oslo", "cancel flight oslo", "book flight oslo"]
    assert "This call was undone since" in heard[-1]
    assert outcomes(await run.operations()) == [("flight", Outcome.COMPENSATED), ("flight", Outcome.SUCCEEDED)]
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_what_is_in_the_ledgers_own_database_is_undone_there_exactly_once(shop: OpenShop, travel: Travel) -> None:
    async def take_back(args: Any, result: int | None, ctx: ToolContext) -> None:
        async with ctx.transaction() as connection:
            await connection.execute(text("INSERT INTO bookings (n) VALUES (:n)"), {"n": -args.n})

    @tool(
        version="1.0.0", effect=Effect.TRANSACTIONAL, tier=Tier.REVERSIBLE, scope="x:y", compensate=take_back,
    )  # fmt: skip
    async def keep(n: int, ctx: ToolContext) -> int:
        """Keep."""
        async with ctx.transaction() as connection:
            await connection.execute(text("INSERT INTO bookings (n) VALUES (:n)"), {"n": n})
        return n

    desk = await shop(traveller([ask("keep", n=1), ask("keep", n=2)], [keep]), upstreams=travel.upstreams)
    database = desk.ledger.database
    await database.write(lambda connection: connection.execute(text("CREATE TABLE bookings (n INTEGER)")))
    run = await failed(desk)
    booked = await database.read(lambda connection: list(connection.execute(text("SELECT n FROM bookings")).scalars()))
    assert (booked, [one.undone for one in await run.undo()]) == ([1, 2, -2, -1], [True, True])
