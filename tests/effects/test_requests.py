"""Calls that act over HTTP: the key, refusals, and what is known once a part of a call has happened."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from handfast import Backoff, BackoffKind, Effect, Outcome, Tier, ToolContext, ToolError, ask, tool
from handfast.contracts.tool import Tool
from tests.conftest import OpenShop
from tests.effects.agents import agent, ended
from tests.effects.bank import DROP, Bank


def paying(effect: Effect, *requests: str, then: ToolError | None = None) -> Tool:
    """A tool that sends these requests, one after the other."""

    async def look(args: Any, ctx: ToolContext) -> str | None:
        return "paid"

    @tool(
        version="1.0.0",
        effect=effect,
        tier=Tier.REVERSIBLE,
        scope="x:y",
        attempts=3,
        settles_within=timedelta(seconds=0.2),
        reconcile=look if effect is Effect.RECONCILED else None,
    )
    async def pay(ctx: ToolContext) -> str:
        """Pay."""
        for method, path in (request.split() for request in requests):
            await ctx.http("bank").request(method, path)
        if then is not None:
            raise then
        return "paid"

    return pay


async def test_a_service_that_asks_to_wait_is_asked_again_then_under_the_same_key(shop: OpenShop) -> None:
    with Bank(503, headers={"retry-after": "2"}) as bank:
        desk = await shop(agent(ask("pay"), "done", tools=[paying(Effect.KEYED, "POST /")]), upstreams=bank.upstreams)
        operation = await ended(await desk.client.start("tester", "Go", id="retry-after"))
    assert (operation.outcome, operation.attempts) == (Outcome.SUCCEEDED, 2)
    assert bank.posted == [operation.operation_id] * 2
    first, second = bank.asked
    assert second.at - first.at >= 2


async def test_the_contract_says_how_long_to_wait_between_attempts(shop: OpenShop) -> None:
    pay = replace(
        paying(Effect.KEYED, "POST /"), backoff=Backoff(kind=BackoffKind.EXPONENTIAL, base=timedelta(seconds=1))
    )
    with Bank(500, 500) as bank:
        desk = await shop(agent(ask("pay"), "done", tools=[pay]), upstreams=bank.upstreams)
        operation = await ended(await desk.client.start("tester", "Go", id="backoff"))
    assert (operation.outcome, operation.attempts) == (Outcome.SUCCEEDED, 3)
    gaps = [after.at - before.at for before, after in pairwise(bank.asked)]
    assert (gaps[0] >= 1, gaps[1] >= 2) == (True, True)


@pytest.mark.parametrize(
    ("plan", "replayed", "outcome", "posted"),
    [
        ([DROP, 409], "false", Outcome.FAILED, 2),
        ([DROP, 402], "true", Outcome.FAILED, 2),
        ([DROP, 422], "true", Outcome.FAILED, 2),
        ([DROP, 422], "false", Outcome.UNKNOWN, 2),
        ([DROP, 402], "", Outcome.UNKNOWN, 2),
        ([DROP, 401], "", Outcome.UNKNOWN, 2),
        ([DROP, 409, 200], "", Outcome.SUCCEEDED, 3),
        ([DROP, *[409] * 6], "", Outcome.SUCCEEDED, 8),
        ([409], "", Outcome.FAILED, 1),
        ([500, 500, 200], "", Outcome.SUCCEEDED, 3),
        ([500], "true", Outcome.UNKNOWN, 1),
    ],
    ids=str,
)
async def test_after_a_lost_answer_only_what_was_said_of_the_key_ends_the_doubt(
    shop: OpenShop, plan: list[int], replayed: str, outcome: Outcome, posted: int
) -> None:
    """A conflict may be the first request, still under way: it is asked again. An answer repeated is final."""
    with Bank(*plan, headers={"idempotent-replayed": replayed} if replayed else {}) as bank:
        desk = await shop(agent(ask("pay"), "done", tools=[paying(Effect.KEYED, "POST /")]), upstreams=bank.upstreams)
        run_id = f"doubt-{'-'.join(map(str, plan))}-{replayed}"
        operation = await ended(await desk.client.start("tester", "Go", id=run_id))
    assert (operation.outcome, bank.posted) == (outcome, [operation.operation_id] * posted)


async def test_a_request_that_stays_under_way_is_waited_for_as_long_as_the_attempts_last(shop: OpenShop) -> None:
    pay = replace(paying(Effect.KEYED, "POST /"), timeout=timedelta(seconds=1.5))
    with Bank(DROP, *[409] * 100) as bank:
        desk = await shop(agent(ask("pay"), "done", tools=[pay]), upstreams=bank.upstreams)
        operation = await ended(await desk.client.start("tester", "Go", id="stays-under-way"))
    assert (operation.outcome, operation.attempts) == (Outcome.UNKNOWN, 3)
    assert 3 <= len(bank.posted) < 20
    assert set(bank.posted) == {operation.operation_id}


@pytest.mark.parametrize(
    ("effect", "plan", "outcome", "posted"),
    [
        (Effect.ONCE, [200, 503], Outcome.UNKNOWN, 1),
        (Effect.ONCE, [200, 404], Outcome.UNKNOWN, 1),
        (Effect.RECONCILED, [200, 503], Outcome.SUCCEEDED, 1),
        (Effect.KEYED, [200, 404], Outcome.UNKNOWN, 1),
        (Effect.KEYED, [200, 503], Outcome.SUCCEEDED, 2),
    ],
    ids=lambda value: str(value),
)
async def test_a_failure_behind_a_request_that_acted_is_no_proof_that_nothing_happened(
    shop: OpenShop, effect: Effect, plan: list[int], outcome: Outcome, posted: int
) -> None:
    with Bank(*plan) as bank:
        tools = [paying(effect, "POST /payments", "GET /receipt")]
        desk = await shop(agent(ask("pay"), "done", tools=tools), upstreams=bank.upstreams)
        operation = await ended(await desk.client.start("tester", "Go", id=f"behind-{effect}-{plan[1]}"))
    assert (operation.outcome, bank.posted) == (outcome, [operation.operation_id] * posted)


@pytest.mark.parametrize(
    ("said", "outcome"), [("", Outcome.UNKNOWN), ("no", Outcome.FAILED), ("unknown", Outcome.UNKNOWN)]
)
async def test_an_author_who_looked_at_the_answer_may_say_that_nothing_happened(
    shop: OpenShop, said: str, outcome: Outcome
) -> None:
    declined = ToolError("the bank declined", happened=said)
    with Bank() as bank:
        tools = [paying(Effect.KEYED, "POST /payments", then=declined)]
        desk = await shop(agent(ask("pay"), "done", tools=tools), upstreams=bank.upstreams)
        operation = await ended(await desk.client.start("tester", "Go", id=f"author-{said}"))
    assert (operation.outcome, len(bank.posted)) == (outcome, 1)


async def test_a_second_request_of_one_call_has_a_key_of_its_own_in_every_attempt(shop: OpenShop) -> None:
    with Bank(200, 500, 200, DROP) as bank:
        tools = [paying(Effect.KEYED, "POST /debit", "POST /credit")]
        desk = await shop(agent(ask("pay"), "done", tools=tools), upstreams=bank.upstreams)
        operation = await ended(await desk.client.start("tester", "Go", id="two-requests"))
    debit, credit = operation.operation_id, f"{operation.operation_id}-2"
    assert (operation.outcome, bank.posted) == (Outcome.SUCCEEDED, [debit, credit] * 3)


async def test_a_call_that_goes_on_from_a_checkpoint_goes_on_with_its_keys(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y")
    async def move(ctx: ToolContext) -> str:
        """Move."""
        if ctx.last_checkpoint is None:
            await ctx.http("bank").post("/debit")
            await ctx.checkpoint("debited")
        await ctx.http("bank").post("/credit")
        return "moved"

    with Bank(200, DROP) as bank:
        desk = await shop(agent(ask("move"), "done", tools=[move]), upstreams=bank.upstreams)
        operation = await ended(await desk.client.start("tester", "Go", id="keys-go-on"))
    debit, credit = operation.operation_id, f"{operation.operation_id}-2"
    assert (operation.outcome, bank.posted) == (Outcome.SUCCEEDED, [debit, credit, credit])
