"""Whole runs with Claude, against a loopback server that speaks the Messages API: waits, refusals, broken streams."""

import itertools
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from handfast import Agent, Effect, Limits, Outcome, RunFailed, RunStatus, Tier, tool
from tests.conftest import OpenShop, outcomes
from tests.loopback import Answer
from tests.messages_api import Api, cut_off, status, tool_use, words


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.stop()


def claude(*tools: Any, **options: Any) -> Agent:
    return Agent(name="claude", model="claude-sonnet-5", instructions="Be kind.", tools=tools, **options)


def gaps(api: Api) -> list[float]:
    """Seconds between the requests."""
    return [after - before for before, after in itertools.pairwise(api.seen_at)]


async def test_a_run_waits_as_long_as_the_provider_asks_and_then_goes_on(shop: OpenShop, api: Api) -> None:
    booked: list[int] = []

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def book(seats: int) -> str:
        """Book."""
        booked.append(seats)
        return f"{seats} booked"

    api.answers = [
        status(429, retry_after="2"),
        tool_use("toolu_1", "book", seats=2),
        status(529),
        words("Both are yours."),
    ]
    desk = await shop(claude(book), anthropic_api_key="key", anthropic_base_url=api.url)
    result = await desk.client.execute("claude", "Two seats, please", id="waits")
    assert (result.status, result.text, booked) == (RunStatus.COMPLETED, "Both are yours.", [2])
    assert gaps(api)[0] >= 2
    assert api.seen[0] == api.seen[1]
    asked, told = api.seen[3]["messages"][1:]
    assert asked["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "s"}
    assert told["content"][0]["content"] == "2 booked"
    assert result.cost_usd > 0
    turns = [event for event in await desk.ledger.read_events("waits") if event.kind == "turn"]
    assert [turn.data["request_id"] for turn in turns] == ["req_42"] * 2


async def test_a_stream_that_breaks_off_is_asked_for_again_and_nothing_of_it_is_done(shop: OpenShop, api: Api) -> None:
    paid: list[int] = []

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def pay(amount: int = 1) -> str:
        """Pay."""
        paid.append(amount)
        return "paid"

    api.answers = [cut_off("toolu_1", "pay", '{"amount": 10'), tool_use("toolu_2", "pay", amount=100), words("Paid.")]
    desk = await shop(claude(pay), anthropic_api_key="key", anthropic_base_url=api.url)
    result = await desk.client.execute("claude", "Pay 100", id="cut")
    assert (paid, outcomes(result.operations)) == ([100], [("pay", Outcome.SUCCEEDED)])
    repeats = [event for event in await desk.ledger.read_events("cut") if event.kind == "repeated"]
    assert len(repeats) == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (status(401), r"answered 401 \(request req_42\): .*check ANTHROPIC_API_KEY of the worker"),
        (status(404), r"answered 404 \(request req_42\): .*check the agent's model id"),
        (status(400), r"answered 400 \(request req_42\): "),
    ],
)
async def test_what_no_retry_heals_fails_the_run_at_once_and_says_what_to_do(
    shop: OpenShop, api: Api, answer: Answer, told: str
) -> None:
    api.reply = answer
    desk = await shop(claude(), anthropic_api_key="wrong", anthropic_base_url=api.url)
    run = await desk.client.start("claude", "Hi", id=f"refused-{uuid.uuid4().hex[:6]}")
    with pytest.raises(RunFailed, match=told):
        await run.result()
    assert len(api.seen) == 1
    assert (await run.summary()).status is RunStatus.FAILED


async def test_a_provider_that_asks_to_wait_longer_than_the_run_may_work_ends_it(shop: OpenShop, api: Api) -> None:
    api.reply = status(429, retry_after="3000")
    limits = Limits(wall_time=timedelta(seconds=20))
    desk = await shop(claude(limits=limits), anthropic_api_key="key", anthropic_base_url=api.url)
    result = await desk.client.execute("claude", "Hi", id="too-long")
    assert (result.status, result.limit) == (RunStatus.LIMIT_REACHED, "wall_time")
    assert len(api.seen) == 1
