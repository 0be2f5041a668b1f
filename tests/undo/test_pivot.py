"""A pivot commits the job: what was done before it is undone as long as it has not happened, and never after."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from handfast import Agent, ContractError, Effect, Limits, Outcome, Run, RunFailed, RunStatus, Script, Tier, ask, tool
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step
from tests.conftest import OpenShop, Shop, outcomes, until
from tests.undo.travel import TOOLS, TRIP, Booking, Travel, booking, cancelling, traveller


@pytest.fixture
def travel() -> Iterator[Travel]:
    with Travel() as service:
        yield service


def paying(**clauses: Any) -> Any:
    """The trip's payment."""
    return booking("pay", pivot=True, **clauses)


PAY = ask("pay", number="card")


async def start(desk: Shop) -> Run:
    return await desk.client.start("traveller", "Go", id=f"pivot-{uuid.uuid4()}")


async def waiting(run: Run) -> list[str]:
    return [one.operation for one in (await run.state()).waiting]


async def test_what_was_done_before_a_pivot_stands_once_it_has_happened(shop: OpenShop, travel: Travel) -> None:
    desk = await shop(traveller([*TRIP[:2], PAY, TRIP[2]], [*TOOLS, paying()]), upstreams=travel.upstreams)
    run = await start(desk)
    with pytest.raises(RunFailed):
        await asyncio.wait_for(run.result(), 30)
    assert travel.standing == {"flight oslo", "hotel grand", "pay card", "car red"}
    assert [(one.tool, one.undone, one.reason) for one in await run.undo()] == [
        ("car", False, "pay has committed the job"),
        ("pay", False, "it commits the job"),
        ("hotel", False, "pay has committed the job"),
        ("flight", False, "pay has committed the job"),
    ]
    await run.rollback(by="ada")
    await asyncio.wait_for(desk.client.temporal.get_workflow_handle(f"rollback:{run.id}").result(), 30)
    assert travel.standing == {"flight oslo", "hotel grand", "pay card"}
    assert [one.tool for one in await run.undo() if one.undone] == ["car"]
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_a_pivot_that_did_not_happen_commits_nothing(shop: OpenShop, travel: Travel) -> None:
    travel.planned["book pay"] = [400]
    desk = await shop(traveller([*TRIP[:2], PAY], [*TOOLS, paying()]), upstreams=travel.upstreams)
    run = await start(desk)
    with pytest.raises(RunFailed):
        await asyncio.wait_for(run.result(), 30)
    assert travel.standing == set()
    assert [(one.tool, one.undone) for one in await run.undo()] == [("hotel", True), ("flight", True)]


async def test_a_pivot_that_a_person_refuses_undoes_the_run_and_the_model_is_told(
    shop: OpenShop, travel: Travel
) -> None:
    heard: list[tuple[str, bool]] = []

    def script(request: ModelRequest) -> Step:
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn == 3:
            heard.extend((part.text, part.failed) for message in request.messages for part in message.results)
        steps: list[Step] = [*TRIP[:2], PAY, "Nothing was booked."]
        return steps[turn]

    desk = await shop(traveller(script, [*TOOLS, paying(tier=Tier.IRREVERSIBLE)]), upstreams=travel.upstreams)
    run = await start(desk)
    [pay] = await until(lambda: waiting(run))
    assert travel.standing == {"flight oslo", "hotel grand"}
    await run.decide(pay, approve=False, by="ada", reason="too dear")
    result = await asyncio.wait_for(run.result(), 30)
    assert (result.status, result.text, travel.standing) == (RunStatus.COMPLETED, "Nothing was booked.", set())
    assert [one.tool for one in result.undone] == ["hotel", "flight"]
    assert [("This call was undone since" in text, failed) for text, failed in heard] == [
        (True, True), (True, True), (False, True),
    ]  # fmt: skip
    assert "too dear" in heard[-1][0]
    assert outcomes(result.operations) == [
        ("flight", Outcome.COMPENSATED), ("hotel", Outcome.COMPENSATED), ("pay", Outcome.DENIED),
    ]  # fmt: skip
    assert (await desk.ledger.verify(run.id)).faults == ()


@pytest.mark.parametrize("fails", [True, False])
async def test_in_one_turn_a_pivot_waits_for_the_calls_before_it(shop: OpenShop, travel: Travel, fails: bool) -> None:
    """And is held back if one of them has not succeeded, with what was asked for after it."""
    travel.slow["book flight"] = 0.3
    if fails:
        travel.planned["book hotel"] = [400]
    turn = [TRIP[0], TRIP[1], PAY, TRIP[2]]
    desk = await shop(traveller([turn, "Done."], [*TOOLS, paying()]), upstreams=travel.upstreams)
    result = await asyncio.wait_for((await start(desk)).result(), 30)
    if not fails:
        assert set(travel.log[:2]) == {"book flight oslo", "book hotel grand"}
        assert travel.log[2:] == ["book pay card", "book car red"]
        return
    assert travel.log == ["book flight oslo"]
    [_, hotel, pay, car] = result.operations
    assert [hotel.outcome, pay.outcome, car.outcome] == [Outcome.FAILED] * 3
    assert "it commits the job, and not every call before it in the turn has succeeded" in pay.result["message"]
    assert "it comes after what commits the job" in car.result["message"]


@pytest.mark.parametrize("happened", [True, False])
async def test_a_pivot_in_doubt_holds_the_undoing_of_what_was_before_it(
    shop: OpenShop, travel: Travel, happened: bool
) -> None:
    travel.planned["book pay"] = [0]
    tools = [*TOOLS, paying(effect=Effect.ONCE)]
    desk = await shop(traveller([[*TRIP[:2], PAY]], tools), upstreams=travel.upstreams)
    run = await start(desk)
    [pay] = await until(lambda: waiting(run))
    await run.cancel(undo=True)

    async def blocked() -> list[str]:
        return [one.reason for one in (await run.state()).blocked]

    [reason] = await until(blocked)
    assert reason == "nobody knows whether pay has happened, which commits the job: resolve it, then retry"
    assert travel.standing == {"flight oslo", "hotel grand", "pay card"}
    await run.resolve(pay, happened=happened, by="ada")
    result = await asyncio.wait_for(run.result(), 30)
    assert travel.standing == ({"flight oslo", "hotel grand", "pay card"} if happened else {"pay card"})
    assert {one.tool for one in result.undone} == (set() if happened else {"flight", "hotel"})
    assert (await desk.ledger.verify(run.id)).faults == ()


@pytest.mark.parametrize("happened", [True, False])
async def test_a_pivot_in_doubt_is_looked_up_where_that_can_be_done(
    shop: OpenShop, travel: Travel, happened: bool
) -> None:
    async def find(args: Any, ctx: Any) -> Any:
        return Booking(number=args.number) if f"book pay {args.number}" in travel.log else None

    travel.slow["book pay"] = 1.0
    if not happened:
        travel.planned["book pay"] = [500]
    pay = paying(effect=Effect.RECONCILED, reconcile=find, settles_within=0 * Limits().wall_time)
    desk = await shop(traveller([TRIP[0], PAY], [*TOOLS, pay]), upstreams=travel.upstreams)
    run = await start(desk)

    async def under_way() -> bool:
        return "book pay card" in travel.asked

    await until(under_way)
    await run.cancel(undo=True)
    result = await asyncio.wait_for(run.result(), 40)
    assert travel.standing == ({"flight oslo", "pay card"} if happened else set())
    assert [one.tool for one in result.undone] == ([] if happened else ["flight"])


async def test_a_limit_after_the_pivot_undoes_nothing(shop: OpenShop, travel: Travel) -> None:
    steps = [TRIP[0], PAY, *(ask("car", number=f"c{n}") for n in range(9))]
    limited = traveller(steps, [*TOOLS, paying()], limits=Limits(turns=4, tokens=10**7))
    desk = await shop(limited, upstreams=travel.upstreams)
    result = await asyncio.wait_for((await start(desk)).result(), 30)
    assert (result.status, result.undone) == (RunStatus.LIMIT_REACHED, ())
    assert {one.reason for one in result.not_undone} == {"it commits the job", "pay has committed the job"}


def test_a_pivot_that_could_be_undone_or_changes_nothing_is_no_contract() -> None:
    with pytest.raises(ContractError) as caught:

        @tool(
            version="1.0.0",
            effect=Effect.READ,
            tier=Tier.READ_ONLY,
            scope="x:y",
            pivot=True,
            compensate=cancelling("x"),
        )
        async def look() -> str:
            """Look."""
            return ""

    faults = "\n".join(caught.value.faults)
    assert "pivot= with compensate=" in faults
    assert "pivot= with effect READ" in faults


def test_savepoints_without_anything_to_undo_are_no_agent() -> None:
    with pytest.raises(ContractError, match="there is nothing that could be undone"):
        Agent(name="x", model=Script(["x"]), instructions="Go.", tools=[paying()], savepoints=True)
