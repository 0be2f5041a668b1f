"""The last call of a plan's turn settles what follows: no local activity at a join, nor at the end, and never a word too early."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError

from handfast import Agent, Effect, Limits, Outcome, Run, RunStatus, Tier, tool
from handfast.activities import operation
from handfast.ledger import Ledger, Settlement
from tests.conftest import OpenShop, until
from tests.plans.test_plan_run import CAR, FLIGHT, HOTEL, desk_agent, ended, start, travel
from tests.undo.travel import Travel

__all__ = ["travel"]


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="sum:r")
async def number(of: int) -> int:
    """Give the number back."""
    return of


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="sum:r")
async def total(numbers: list[int]) -> int:
    """Add them up."""
    return sum(numbers)


async def local_activities(run: Run) -> Counter[str]:
    """How often each kind of local activity was run, by the run's history."""
    found: Counter[str] = Counter()
    async for event in run.handle.fetch_history_events():
        if event.HasField("marker_recorded_event_attributes"):
            data = event.marker_recorded_event_attributes.details["data"].payloads[0].data
            found[str(data).partition('"activity_type":"')[2].partition('"')[0]] += 1
    return found


NUMBERS = {name: {"tool": "number", "with": {"of": of}} for name, of in (("one", 1), ("two", 20), ("three", 300))}
ALL = [f"${{steps.{name}.result}}" for name in NUMBERS]


async def test_a_join_and_the_end_of_a_plan_cost_no_local_activity(shop: OpenShop) -> None:
    desk = await shop(Agent(name="desk", tools=[number, total]))
    steps = {
        **NUMBERS,
        "sum": {"tool": "total", "with": {"numbers": ALL}},
        "again": {"tool": "total", "with": {"numbers": ["${steps.sum.result}", "${steps.two.result}"]}},
    }
    run = await start(desk, steps, output={"sum": "${steps.sum.result}", "again": "${steps.again.result}"})
    result = await ended(run)
    assert (result.status, result.output) == (RunStatus.COMPLETED, {"sum": 321, "again": 341})
    assert await local_activities(run) == {"open_plan": 1}
    events = [event.kind for event in await desk.ledger.read_events(run.id)]
    assert events == [
        "requested",
        "opened",
        "turn",
        *3 * ["settled"],
        "turn",
        "settled",
        "turn",
        "settled",
        "turn",
        "closed",
    ]
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_a_list_is_joined_with_all_its_items_in_their_order(shop: OpenShop) -> None:
    desk = await shop(Agent(name="desk", tools=[number, total]))
    steps = {
        "each": {"tool": "number", "for_each": "${request.all}", "with": {"of": "${item}"}, "parallel": 4},
        "sum": {"tool": "total", "with": {"numbers": "${steps.each.result}"}},
    }
    run = await start(desk, steps, {"all": list(range(10))}, request={"all": "array"}, output="${steps.each.result}")
    assert (await ended(run)).output == list(range(10))
    [asked] = [one for one in await run.operations() if one.tool == "total"]
    assert (asked.arguments, asked.outcome) == ({"numbers": list(range(10))}, Outcome.SUCCEEDED)


async def test_what_follows_one_of_several_does_not_wait_for_the_last(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book flight"] = 0.5
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    run = await start(desk, {"flight": FLIGHT, "hotel": HOTEL, "car": {**CAR, "depends_on": ["hotel"]}})
    assert (await ended(run)).status is RunStatus.COMPLETED
    at = {one.tool: one for one in await run.operations()}
    settled = {event.reference: event.at for event in await desk.ledger.read_events(run.id) if event.kind == "settled"}
    assert settled[at["car"].operation_id] < settled[at["flight"].operation_id]


async def test_a_turn_that_can_not_be_made_ahead_leaves_the_call_as_it_is(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handfast.activities import plan_ahead

    async def refuse(*_: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(plan_ahead, "settlement", refuse)
    desk = await shop(Agent(name="desk", tools=[number, total]))
    run = await start(
        desk, {**NUMBERS, "sum": {"tool": "total", "with": {"numbers": ALL}}}, output="${steps.sum.result}"
    )
    assert (await ended(run)).output == 321
    assert (await local_activities(run))["plan_turn"] == 1
    assert {one.outcome for one in await run.operations()} == {Outcome.SUCCEEDED}


@pytest.mark.parametrize("undo", [True, False])
async def test_a_cancellation_that_comes_after_the_last_call_has_closed_the_run_comes_too_late(
    shop: OpenShop, travel: Travel, monkeypatch: pytest.MonkeyPatch, undo: bool
) -> None:
    """Its worker dies between the commit and the report: what the ledger says stands, in Temporal, too."""
    closed = asyncio.Event()
    settle = Ledger.settle_and_ask

    async def die_once(self: Ledger, *args: Any, **options: Any) -> Any:
        found = await settle(self, *args, **options)
        if found.next is not None and found.next.closed is not None:
            closed.set()
            raise ApplicationError("the worker is gone", next_retry_delay=operation.LEASE_MARGIN)
        return found

    monkeypatch.setattr(Ledger, "settle_and_ask", die_once)
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    run = await start(desk, {"flight": FLIGHT, "hotel": {**HOTEL, "depends_on": ["flight"]}})
    await asyncio.wait_for(closed.wait(), 20)
    await run.cancel(undo=undo)
    await asyncio.wait_for(run.handle.result(), 30)
    result = await ended(run)
    assert (result.status, travel.standing) == (RunStatus.COMPLETED, {"flight oslo", "hotel grand"})
    assert result.undone == ()
    assert (await run.handle.describe()).status is WorkflowExecutionStatus.COMPLETED
    assert (await desk.ledger.verify(run.id)).faults == ()
    assert [event.kind for event in await desk.ledger.read_events(run.id)].count("undo") == 0


async def test_a_rollback_that_comes_while_the_last_call_closes_the_run_undoes_it_all_the_same(
    shop: OpenShop, travel: Travel, monkeypatch: pytest.MonkeyPatch
) -> None:
    settling, said = asyncio.Event(), asyncio.Event()
    settle = Ledger.settle_and_ask

    async def wait_for_the_operator(self: Ledger, *args: Any, **options: Any) -> Any:
        if args[-1].close is not None:
            settling.set()
            await said.wait()
        return await settle(self, *args, **options)

    monkeypatch.setattr(Ledger, "settle_and_ask", wait_for_the_operator)
    desk = await shop(desk_agent(), upstreams=travel.upstreams)
    run = await start(desk, {"flight": FLIGHT, "hotel": {**HOTEL, "depends_on": ["flight"]}})
    await asyncio.wait_for(settling.wait(), 20)
    await run.rollback(by="ada", reason="the trip is off")

    async def asked_to_end() -> bool:
        events = run.handle.fetch_history_events()
        return any([e.HasField("workflow_execution_cancel_requested_event_attributes") async for e in events])

    await until(asked_to_end)
    said.set()
    await asyncio.wait_for(desk.client.temporal.get_workflow_handle(f"rollback:{run.id}").result(), 30)
    assert ((await run.summary()).status, travel.standing) == (RunStatus.COMPLETED, set())
    result = await run.result()
    assert ([one.tool for one in result.undone], result.not_undone) == (["hotel", "flight"], ())
    [undo] = [event for event in await desk.ledger.read_events(run.id) if event.kind == "undo" and event.data["calls"]]
    assert (undo.data["by"], undo.data["cause"]) == ("ada", "rollback")


async def test_the_history_of_two_wide_layers_grows_with_their_calls_and_not_with_their_product(shop: OpenShop) -> None:
    desk = await shop(Agent(name="desk", tools=[number, total], limits=Limits(calls=1000)))
    sizes: dict[int, int] = {}
    for width in (20, 60):
        first = {f"a{n}": {"tool": "number", "with": {"of": n}} for n in range(width)}
        second = {f"b{n}": {"tool": "number", "with": {"of": n}, "depends_on": [*first]} for n in range(width)}
        run = await start(desk, first | second)
        await asyncio.wait_for(run.handle.result(), 60)
        sizes[width] = sum([event.ByteSize() async for event in run.handle.fetch_history_events()])
    assert sizes[60] < 3.3 * sizes[20]


async def test_what_follows_is_given_the_result_that_stands_not_the_one_that_came_too_late(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_and_ask = Ledger.settle_and_ask

    async def come_too_late(
        self: Ledger, run_id: str, operation_id: str, owner: str, new: Settlement, *args: Any, **options: Any
    ) -> Any:
        if new.content == 7:
            await self.settle(run_id, operation_id, "another attempt", replace(new, content=900))
        return await settle_and_ask(self, run_id, operation_id, owner, new, *args, **options)

    monkeypatch.setattr(Ledger, "settle_and_ask", come_too_late)
    desk = await shop(Agent(name="desk", tools=[number, total]))
    steps = {
        "one": {"tool": "number", "with": {"of": 7}},
        "sum": {"tool": "total", "with": {"numbers": ["${steps.one.result}"]}},
    }
    assert (await ended(await start(desk, steps, output="${steps.sum.result}"))).output == 900
