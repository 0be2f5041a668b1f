"""The clauses of a contract at work: keys, rates, concurrency, kept results, fallbacks, secrets, pinned versions."""

import asyncio
import time
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleSpec
from temporalio.common import RetryPolicy

from handfast import (
    Agent,
    Cache,
    Effect,
    Lane,
    Outcome,
    Rate,
    Script,
    Tier,
    ToolContext,
    ToolError,
    ask,
    tool,
)
from handfast.contracts.messages import ModelRequest
from handfast.contracts.results import Operation
from handfast.contracts.tool import Tool
from handfast.engine.connect import connect
from handfast.workers.worker import make_worker
from tests.conftest import OpenShop, Shop, until
from tests.effects.agents import ROOMY, agent, ended
from tests.effects.bank import DROP, Bank


def new_id() -> str:
    return f"clauses-{uuid.uuid4()}"


async def done(desk: Shop, **options: Any) -> list[Operation]:
    """The operations of a new run, once it is over."""
    run = await desk.client.start("tester", "Go", id=new_id(), **options)
    await run.result()
    return list(await run.operations())


def paying(**clauses: Any) -> Tool:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y", **clauses)
    async def pay(invoice: str, note: str, ctx: ToolContext) -> str:
        """Pay."""
        await ctx.http("bank").post("/payments", json={"invoice": invoice})
        return ctx.idempotency_key

    return pay


async def test_calls_that_agree_on_their_own_key_have_one_effect_in_whatever_run(shop: OpenShop) -> None:
    with Bank() as bank:
        pay = paying(key=("invoice",))
        steps = [
            ask("pay", invoice="17", note="first"),
            ask("pay", invoice="17", note="again"),
            ask("pay", invoice="18", note="x"),
        ]
        desk = await shop(agent(*steps, "done", tools=[pay]), upstreams=bank.upstreams)
        first = [operation.result for operation in await done(desk)]
        second = [operation.result for operation in await done(desk)]
        other = [operation.result for operation in await done(desk, tenant="another")]
    assert (first, first[0] == first[1], first[0] != first[2]) == (second, True, True)
    assert set(first).isdisjoint(other)
    assert bank.posted == [*first, *second, *other]


async def found(args: Any, ctx: ToolContext) -> str:
    return "found"


async def absent(args: Any, ctx: ToolContext) -> None:
    return None


@pytest.mark.parametrize(
    ("look", "lifetime", "plan", "outcome", "posted"),
    [
        (None, timedelta(seconds=0.1), [DROP], Outcome.UNKNOWN, 1),
        (found, timedelta(seconds=0.1), [DROP], Outcome.SUCCEEDED, 1),
        (absent, timedelta(seconds=0.1), [DROP], Outcome.SUCCEEDED, 2),
        (found, timedelta(hours=24), [DROP], Outcome.SUCCEEDED, 2),
        (found, timedelta(hours=24), [500], Outcome.SUCCEEDED, 1),
        (absent, timedelta(hours=24), [500], Outcome.UNKNOWN, 1),
    ],
    ids=[
        "forgotten",
        "forgotten, found",
        "forgotten, absent",
        "remembered",
        "error replayed, found",
        "error replayed, absent",
    ],
)
async def test_a_key_that_no_longer_helps_is_not_relied_on(
    shop: OpenShop, look: Any, lifetime: timedelta, plan: list[int], outcome: Outcome, posted: int
) -> None:
    """Stripe forgets keys after 24 h, and repeats an answer of 500 for ever."""
    with Bank(*plan, headers={"idempotent-replayed": "true"} if plan == [500] else {}) as bank:
        pay = paying(
            reconcile=look, key_lifetime=lifetime, settles_within=timedelta(seconds=0.1), timeout=timedelta(seconds=2)
        )
        desk = await shop(agent(ask("pay", invoice="1", note="x"), "done", tools=[pay]), upstreams=bank.upstreams)
        run = await desk.client.start("tester", "Go", id=new_id())
        operation = await ended(run)
    assert (operation.outcome, len(bank.posted), len(set(bank.posted))) == (outcome, posted, 1)


async def test_a_secret_that_the_contract_does_not_name_is_not_given(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDFAST_SECRET_MINE", "1")
    monkeypatch.setenv("HANDFAST_SECRET_THEIRS", "1")

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y", secrets=("mine",))
    async def peek(name: str, ctx: ToolContext) -> str:
        """Peek."""
        return ctx.secret(name)

    desk = await shop(agent([ask("peek", name="mine"), ask("peek", name="theirs")], "done", tools=[peek]))
    own, other = await done(desk)
    assert (own.result, other.outcome) == ("1", Outcome.FAILED)
    assert other.result["message"] == "peek asks for secret 'theirs'; its contract names mine"


def timed(began: list[tuple[float, float]], seconds: float = 0.0, **clauses: Any) -> Tool:
    @tool(version="1.0.0", scope="x:y", timeout=timedelta(seconds=2), **clauses)
    async def act(n: int) -> int:
        """Act."""
        at = time.monotonic()
        await asyncio.sleep(seconds)
        began.append((at, time.monotonic()))
        return n

    return act


CALLS = [ask("act", n=n) for n in range(6)]


@pytest.mark.parametrize(
    ("effect", "lane"), [(Effect.READ, Lane.STANDARD), (Effect.KEYED, Lane.STANDARD), (Effect.KEYED, Lane.FAST)]
)
async def test_a_rate_holds_over_all_workers_and_calls_beyond_it_wait_without_using_up_attempts(
    shop: OpenShop, effect: Effect, lane: Lane
) -> None:
    began: list[tuple[float, float]] = []
    tier = Tier.READ_ONLY if effect is Effect.READ else Tier.REVERSIBLE
    rates = (Rate(count=2, per=timedelta(seconds=1), each="tenant"),)
    limited = agent(CALLS, "done", tools=[timed(began, effect=effect, tier=tier, attempts=1, rates=rates, lane=lane)])
    desk = await shop(limited)
    async with desk.another_worker(limited):
        operations = await done(desk)
    assert [operation.outcome for operation in operations] == [Outcome.SUCCEEDED] * 6
    starts = sorted(at for at, _ in began)
    # Counted when it was reserved, begun a moment later.
    assert all(later - earlier > 0.9 for earlier, later in zip(starts, starts[2:], strict=False)), starts


async def test_the_calls_of_a_tool_with_a_queue_of_its_own_are_given_out_at_its_rate(shop: OpenShop) -> None:
    began: list[tuple[float, float]] = []
    queue = f"own-{uuid.uuid4().hex[:8]}"
    rates = (Rate(count=4, per=timedelta(seconds=2)), Rate(count=1, per=timedelta(seconds=0.1), each="user"))
    act = timed(began, effect=Effect.KEYED, tier=Tier.REVERSIBLE, rates=rates, queue=queue)
    desk = await shop(agent(CALLS, "done", tools=[act]))
    temporal, _ = await connect(desk.settings, desk.client.engine.address)
    own = make_worker(temporal, desk.boundary, desk.settings, task_queue=queue)
    assert own.config().get("max_task_queue_activities_per_second") == 2
    async with own:
        operations = await done(desk)
    assert [operation.outcome for operation in operations] == [Outcome.SUCCEEDED] * 6
    starts = sorted(at for at, _ in began)
    assert all(later - earlier > 1.8 for earlier, later in zip(starts, starts[4:], strict=False)), starts


async def test_rates_of_one_tenant_do_not_hold_another_back(shop: OpenShop) -> None:
    began: list[tuple[float, float]] = []
    rates = (Rate(count=1, per=timedelta(hours=1), each="tenant"),)
    desk = await shop(
        agent(ask("act", n=1), "done", tools=[timed(began, effect=Effect.KEYED, tier=Tier.REVERSIBLE, rates=rates)])
    )
    await done(desk)
    await done(desk, tenant="another")
    held = await desk.client.start("tester", "Go", id=new_id())

    async def waits() -> bool:
        description = await held.handle.describe()
        return any(
            "1 in 3600 s for each tenant" in str(one.last_failure)
            for one in description.raw_description.pending_activities
        )

    await until(waits)
    assert len(began) == 2
    await held.cancel()


async def test_concurrency_holds_over_all_workers(shop: OpenShop) -> None:
    began: list[tuple[float, float]] = []
    held = agent(
        CALLS, "done", tools=[timed(began, 0.2, effect=Effect.KEYED, tier=Tier.REVERSIBLE, concurrency=2, attempts=1)]
    )
    desk = await shop(held)
    async with desk.another_worker(held):
        await done(desk)
    most = max(sum(start < end and end > at >= start for start, end in began) for at, _ in began)
    assert (len(began), most <= 2) == (6, True)


def stock(asked: list[str], *, ttl: float = 60.0, fails: bool = False) -> list[Tool]:
    @tool(
        version="1.0.0",
        effect=Effect.READ,
        tier=Tier.READ_ONLY,
        scope="x:r",
        cache=Cache(ttl=timedelta(seconds=ttl)),
        attempts=1,
    )
    async def look(item: str) -> dict[str, int]:
        """Look."""
        asked.append(item)
        if fails:
            raise ToolError("no such item")
        return {"left": 10 - len(asked)}

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:w", invalidates=("look",))
    async def take(item: str) -> str:
        """Take."""
        return "taken"

    return [look, take]


async def test_a_kept_result_is_given_again_to_the_same_tenant_only(shop: OpenShop) -> None:
    asked: list[str] = []
    desk = await shop(
        agent(ask("look", item="a"), ask("look", item="a"), ask("look", item="b"), "done", tools=stock(asked))
    )
    first = [operation.result for operation in await done(desk)]
    async with desk.another_worker(agent("done", tools=stock(asked))):
        second = [operation.result for operation in await done(desk)]
    assert (first, second, asked) == ([{"left": 9}, {"left": 9}, {"left": 8}], first, ["a", "b"])
    await done(desk, tenant="another")
    assert asked == ["a", "b", "a", "b"]


async def test_what_a_tool_writes_makes_kept_results_untrue_at_once(shop: OpenShop) -> None:
    asked: list[str] = []
    steps = [ask("look", item="a"), ask("take", item="a"), ask("look", item="a"), "done"]
    desk = await shop(agent(*steps, tools=stock(asked)))
    results = [operation.result for operation in await done(desk)]
    assert (results, asked) == ([{"left": 9}, "taken", {"left": 8}], ["a", "a"])


async def test_failures_and_old_results_are_not_given_again(shop: OpenShop) -> None:
    asked: list[str] = []
    desk = await shop(agent(ask("look", item="a"), ask("look", item="a"), "done", tools=stock(asked, fails=True)))
    await done(desk)
    assert asked == ["a", "a"]
    asked = []
    desk = await shop(agent(ask("look", item="c"), "done", tools=stock(asked, ttl=0.5)))
    await done(desk)
    await asyncio.sleep(0.6)
    await done(desk)
    assert asked == ["c", "c"]


def prices(name: str, error: ToolError | None = None, **clauses: Any) -> Tool:
    @tool(name=name, version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r", attempts=1, **clauses)
    async def price(item: str) -> str:
        """Price."""
        if error is not None:
            raise error
        return f"{name} of {item}"

    return price


async def test_a_read_that_is_broken_is_answered_by_its_fallback_and_says_so(shop: OpenShop) -> None:
    old = prices("old_price")
    down = prices("price", ToolError("down", retryable=True), fallback=old)
    desk = await shop(agent(ask("price", item="mug"), "done", tools=[down]))
    [operation] = await done(desk)
    note = "price is not available (tool_failed); this is from old_price"
    assert operation.result == {"note": note, "result": "old_price of mug"}


async def test_an_answer_that_refuses_the_call_is_no_reason_to_fall_back(shop: OpenShop) -> None:
    refused = prices("price", ToolError("there is no such item"), fallback=prices("old_price"))
    desk = await shop(agent(ask("price", item="mug"), "done", tools=[refused]))
    [operation] = await done(desk)
    assert (operation.outcome, operation.result["message"]) == (Outcome.FAILED, "there is no such item")


async def test_the_model_is_told_what_to_use_instead_of_a_tool_that_acts_and_is_broken(shop: OpenShop) -> None:
    with Bank(503, headers={"retry-after": "0"}) as bank:
        cheque = prices("write_a_cheque")
        pay = paying(attempts=1, fallback=cheque)
        desk = await shop(
            agent(ask("pay", invoice="1", note="x"), "done", tools=[pay, cheque]), upstreams=bank.upstreams
        )
        [operation] = await done(desk)
    assert (operation.outcome, operation.result["hint"]) == (Outcome.FAILED, "use write_a_cheque instead")


async def test_a_run_goes_on_with_the_major_version_it_began_with(shop: OpenShop) -> None:
    offered: list[str] = []

    def step(request: ModelRequest) -> Any:
        [schema] = [schema for schema in request.tools if schema.name == "price"]
        offered.append(schema.description)
        return ask("price", item="mug") if len(request.messages) < 5 else "done"

    def serving(**more: Any) -> Agent:
        return Agent(name="tester", instructions="Test.", model=Script(step), limits=ROOMY, **more)

    first = replace(prices("price"), description="The first.")
    second = replace(prices("price"), description="The second.", version="2.0.0")
    before, after = serving(tools=[first]), serving(tools=[second], retired=[first])
    desk = await shop(before, serve=False)
    run = await desk.client.start("tester", "Go", id=new_id())
    async with desk.another_worker(before):
        await until(lambda: run.operations())
        await run.pause()
    async with desk.another_worker(after):
        await run.resume()
        await run.result()
        assert {text.splitlines()[0] for text in offered} == {"The first."}
        assert {operation.version for operation in await run.operations()} == {"1.0.0"}
        assert [operation.version for operation in await done(desk)][-1] == "2.0.0"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"cron_schedule": "@every 1s"}, "use a Temporal Schedule"),
        ({"retry_policy": RetryPolicy()}, "it recovers by itself"),
    ],
    ids=["cron", "retries"],
)
async def test_what_would_restart_a_run_under_its_own_id_is_refused_with_a_reason(
    shop: OpenShop, options: dict[str, Any], reason: str
) -> None:
    desk = await shop(agent("done", tools=[]))
    handle = await desk.client.temporal.start_workflow(
        "AgentRun", {"agent": "tester", "text": "Go"}, id=new_id(), task_queue=desk.settings.task_queue, **options
    )
    first = desk.client.temporal.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)

    async def failure() -> str:
        """A cron schedule has a failed workflow continue as new, to fail again at its next time."""
        last = [event async for event in first.fetch_history_events()][-1]
        failed = last.workflow_execution_failed_event_attributes.failure.message
        return str(failed or last.workflow_execution_continued_as_new_event_attributes.failure.message)

    assert reason in await until(failure)
    assert await desk.client.runs() == []
    if "cron_schedule" in options:
        await handle.terminate()


async def test_a_temporal_schedule_starts_runs_with_ids_of_their_own(shop: OpenShop) -> None:
    desk = await shop(agent("done", tools=[]))
    name = new_id()
    action = ScheduleActionStartWorkflow(
        "AgentRun", {"agent": "tester", "text": "Go"}, id=name, task_queue=desk.settings.task_queue
    )
    schedule = await desk.client.temporal.create_schedule(name, Schedule(action=action, spec=ScheduleSpec()))
    try:
        await schedule.trigger()

        async def runs() -> list[str]:
            return [one.run_id for one in await desk.client.runs() if one.status.closed]

        [run_id] = await until(runs)
        assert run_id.startswith(f"{name}-")
    finally:
        await schedule.delete()
