"""Errors of real requests keep their meaning through task groups, wrapped causes, timeouts and retries."""

import asyncio
import threading
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from handfast import Backoff, BackoffKind, Effect, Outcome, Pending, RunStatus, Tier, ToolContext, ToolError, ask, tool
from handfast.contracts.results import Operation
from handfast.contracts.tool import Tool
from handfast.contracts.upstream import Upstream
from tests.conftest import OpenShop, until
from tests.effects.agents import agent, ended
from tests.effects.bank import DROP, Bank
from tests.loopback import Loopback, answer_json, body_of

Act = Callable[[ToolContext], Awaitable[Any]]


class LibraryError(Exception):
    """What somebody's client library raises."""


def acting(act: Act, effect: Effect = Effect.ONCE, **clauses: Any) -> Tool:
    tier = Tier.READ_ONLY if effect is Effect.READ else Tier.REVERSIBLE

    @tool(version="1.0.0", effect=effect, tier=tier, scope="x:y", attempts=2, **clauses)
    async def pay(ctx: ToolContext) -> str:
        """Pay."""
        await act(ctx)
        return "paid"

    return pay


async def called(shop: OpenShop, bank: Bank, made: Tool) -> Operation:
    desk = await shop(agent(ask("pay"), "done", tools=[made]), upstreams=bank.upstreams)
    return await ended(await desk.client.start("tester", "Go", id=f"errors-{uuid.uuid4()}"))


async def in_a_group(ctx: ToolContext) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.http("bank").post("/pay"))


async def in_groups_in_groups(ctx: ToolContext) -> None:
    paid = asyncio.Event()

    async def pay() -> None:
        await in_a_group(ctx)
        paid.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(paid.wait())  # cancelled if the payment fails
        group.create_task(pay())


async def behind_an_error(ctx: ToolContext) -> None:
    try:
        await ctx.http("bank").post("/pay")
    except ToolError as error:
        raise LibraryError("could not pay") from error


async def behind_an_error_that_does_not_say_from(ctx: ToolContext) -> None:
    try:
        await ctx.http("bank").post("/pay")
    except ToolError:
        raise LibraryError("could not pay")  # noqa: B904 - as libraries do


async def behind_an_error_in_a_group(ctx: ToolContext) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(behind_an_error(ctx))


async def in_time(ctx: ToolContext) -> None:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(asyncio.wait_for(ctx.http("bank").post("/pay"), 30))


EACH_WAY = [
    in_a_group,
    in_groups_in_groups,
    behind_an_error,
    behind_an_error_that_does_not_say_from,
    behind_an_error_in_a_group,
    in_time,
]


@pytest.mark.parametrize("act", EACH_WAY)
async def test_a_refusal_for_now_surely_did_not_happen_and_is_tried_again_when_the_service_says(
    shop: OpenShop, act: Act
) -> None:
    with Bank(429, headers={"retry-after": "1"}) as bank:
        operation = await called(shop, bank, acting(act))
    assert (operation.outcome, operation.attempts) == (Outcome.SUCCEEDED, 2)
    first, second = bank.asked
    assert second.at - first.at >= 1
    with Bank(429, 429) as bank:
        operation = await called(shop, bank, acting(act))
    assert (operation.outcome, operation.result["code"]) == (Outcome.FAILED, "rate_limited")


@pytest.mark.parametrize("act", EACH_WAY)
async def test_a_refusal_for_good_is_not_tried_again_and_its_hint_is_told(shop: OpenShop, act: Act) -> None:
    with Bank(404) as bank:
        operation = await called(shop, bank, acting(act, Effect.KEYED))
    assert (operation.outcome, operation.result["code"], len(bank.posted)) == (Outcome.FAILED, "http_404", 1)
    assert operation.result["hint"] == "the service refused this request; change it, or tell the user"


@pytest.mark.parametrize("act", EACH_WAY)
async def test_a_lost_answer_stays_unknown(shop: OpenShop, act: Act) -> None:
    with Bank(DROP) as bank:
        operation = await called(shop, bank, acting(act))
    assert (operation.outcome, operation.result["code"], len(bank.posted)) == (Outcome.UNKNOWN, "unavailable", 1)


async def test_an_error_that_was_being_handled_is_told_but_what_the_handler_called_may_have_acted(
    shop: OpenShop,
) -> None:
    async def act(ctx: ToolContext) -> None:
        try:
            await ctx.http("bank").post("/pay")
        except ToolError:
            await pay_elsewhere()

    async def pay_elsewhere() -> None:
        raise LibraryError("the other bank does not answer, either")

    with Bank(429) as bank:
        operation = await called(shop, bank, acting(act))
    assert (operation.outcome, operation.result["code"]) == (Outcome.UNKNOWN, "rate_limited")
    with Bank(404) as bank:
        operation = await called(shop, bank, acting(act, Effect.READ))
    assert (operation.outcome, operation.result["code"], len(bank.asked)) == (Outcome.FAILED, "http_404", 1)


async def test_a_bug_beside_a_refusal_counts_where_something_may_have_happened(shop: OpenShop) -> None:
    async def act(ctx: ToolContext) -> None:
        refusals: list[ToolError] = []
        try:
            await ctx.http("bank").post("/pay")
        except ToolError as error:
            refusals.append(error)
        raise ExceptionGroup("both", [*refusals, KeyError("field")])

    with Bank(429) as bank:
        operation = await called(shop, bank, acting(act))
    assert (operation.outcome, operation.result["code"]) == (Outcome.UNKNOWN, "tool_failed")
    assert "KeyError: 'field'" in operation.result["message"]
    with Bank(404) as bank:
        operation = await called(shop, bank, acting(act, Effect.READ))
    assert (operation.outcome, operation.result["code"], len(bank.asked)) == (Outcome.FAILED, "http_404", 1)


class Slow(Loopback):
    """Refuses `/busy` once a request to `/slow` has come in; that one is answered when the test says so."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.slow_came = threading.Event()
        self.go_on = threading.Event()
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body_of(request)
        self.paths.append(request.path)
        if request.path == "/slow":
            self.slow_came.set()
            self.go_on.wait(20)
            request.connection.close()
            return
        self.slow_came.wait(20)
        answer_json(request, 429, {})


async def both_in_a_group(ctx: ToolContext) -> None:
    async with asyncio.TaskGroup() as group:
        for path in ("/slow", "/busy"):
            group.create_task(ctx.http("slow").post(path))


async def both_gathered(ctx: ToolContext) -> None:
    await asyncio.gather(*(ctx.http("slow").post(path) for path in ("/slow", "/busy")))


async def both_and_the_author_is_sure(ctx: ToolContext) -> None:
    async def sure() -> None:
        try:
            await ctx.http("slow").post("/busy")
        except ToolError:
            raise ToolError("sold out", happened="no") from None

    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.http("slow").post("/slow"))
        group.create_task(sure())


@pytest.mark.parametrize("act", [both_in_a_group, both_gathered, both_and_the_author_is_sure])
async def test_a_refusal_beside_a_request_without_an_answer_is_no_proof_that_nothing_happened(
    shop: OpenShop, act: Act
) -> None:
    with Slow() as slow:
        desk = await shop(
            agent(ask("pay"), "done", tools=[acting(act)]), upstreams={"slow": Upstream(base_url=slow.url)}
        )
        operation = await ended(await desk.client.start("tester", "Go", id=f"beside-{uuid.uuid4()}"))
        slow.go_on.set()
    assert (operation.outcome, sorted(slow.paths)) == (Outcome.UNKNOWN, ["/busy", "/slow"])


async def test_what_a_failed_attempt_has_left_running_sends_nothing_more(shop: OpenShop) -> None:
    ended_before, refused = asyncio.Event(), asyncio.Event()

    async def later(ctx: ToolContext) -> None:
        await ended_before.wait()
        with pytest.raises(ToolError, match="sends nothing more") as raised:
            await ctx.http("bank").post("/late")
        assert raised.value.happened == "no"
        refused.set()

    async def act(ctx: ToolContext) -> None:
        await asyncio.gather(ctx.http("bank").post("/pay"), later(ctx))

    with Bank(402) as bank:
        operation = await called(shop, bank, acting(act))
        assert (operation.outcome, operation.result["code"]) == (Outcome.FAILED, "http_402")
        ended_before.set()
        await asyncio.wait_for(refused.wait(), 10)
        assert len(bank.posted) == 1


async def test_a_cancellation_that_nobody_requested_is_an_error_of_the_tool(shop: OpenShop) -> None:
    tried: list[int] = []

    async def act(ctx: ToolContext) -> None:
        tried.append(ctx.attempt)
        task = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with Bank() as bank:
        operation = await called(shop, bank, acting(act))
    assert (operation.outcome, operation.result["code"], tried) == (Outcome.UNKNOWN, "tool_failed", [1])
    assert "CancelledError" in operation.result["message"]


async def test_a_run_that_is_cancelled_while_a_group_is_at_work_is_cancelled(shop: OpenShop) -> None:
    begun = asyncio.Event()

    async def act(ctx: ToolContext) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(asyncio.sleep(60))
            begun.set()

    desk = await shop(agent(ask("pay"), "done", tools=[acting(act)]))
    run = await desk.client.start("tester", "Go", id=f"cancelled-{uuid.uuid4()}")
    await asyncio.wait_for(begun.wait(), 20)
    await run.cancel()
    result = await run.result()
    assert result.status is RunStatus.CANCELLED
    assert result.operations[0].result["code"] == "cancelled"


async def test_a_look_that_fails_in_a_group_for_now_is_repeated(shop: OpenShop) -> None:
    looks: list[str] = []

    async def reconcile(args: Any, ctx: ToolContext) -> str | None:
        looks.append("looked")
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.http("bank").get("/payments"))
        return "paid"

    async def act(ctx: ToolContext) -> None:
        await ctx.http("bank").post("/pay")

    with Bank(DROP, 503) as bank:
        made = acting(act, Effect.RECONCILED, reconcile=reconcile, settles_within=timedelta(seconds=0.1))
        operation = await called(shop, bank, made)
    assert (operation.outcome, operation.result, len(looks)) == (Outcome.SUCCEEDED, "paid", 2)


async def test_a_poll_that_is_asked_to_come_back_later_does(shop: OpenShop) -> None:
    at: list[float] = []

    async def poll(args: Any, reference: str, ctx: ToolContext) -> str | None:
        at.append(asyncio.get_running_loop().time())
        if len(at) == 1:
            raise ExceptionGroup("busy", [ToolError("busy", retryable=True, retry_after=1.5)])
        return "done"

    soon = Backoff(kind=BackoffKind.FIXED, base=timedelta(seconds=0.1))

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y", poll=poll, polls=soon)
    async def pay(ctx: ToolContext) -> str | Pending:
        """Pay."""
        return Pending(reference="job", deadline=timedelta(minutes=1))

    with Bank() as bank:
        operation = await called(shop, bank, pay)
    assert operation.result == "done"
    assert at[1] - at[0] >= 1.5


async def test_a_wait_of_an_author_that_no_clock_can_count_is_bounded(shop: OpenShop) -> None:
    tried: list[int] = []

    async def act(ctx: ToolContext) -> None:
        tried.append(ctx.attempt)
        raise ToolError("later", code="busy", retryable=True, retry_after=float("inf"))

    made = acting(act, Effect.KEYED)
    desk = await shop(agent(ask("pay"), "done", tools=[made]))
    run = await desk.client.start("tester", "Go", id=f"bounded-{uuid.uuid4()}")

    async def waits() -> bool:
        described = await run.handle.describe()
        pending = described.raw_description.pending_activities
        return bool(pending) and pending[0].HasField("next_attempt_schedule_time")

    await until(waits)
    assert tried == [1]
    await run.cancel()
    assert (await run.result()).status is RunStatus.CANCELLED
