"""What each effect class does when the end of an attempt is not known."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, field_validator
from sqlalchemy import text

from handfast import (
    Effect,
    Outcome,
    Tier,
    ToolContext,
    ToolError,
    ask,
    tool,
)  # fmt: skip
from tests.conftest import OpenShop, new_database, outcomes, until
from tests.effects.agents import agent


async def test_each_effect_class_retries_as_it_may_when_the_end_is_not_known(shop: OpenShop) -> None:
    tried: dict[str, list[str]] = {}

    def failing(effect: Effect, **clauses: Any) -> Any:
        @tool(
            name=effect.lower(),
            version="1.0.0",
            effect=effect,
            tier=Tier.REVERSIBLE,
            scope="x:y",
            attempts=2,
            **clauses,
        )
        async def act(ctx: ToolContext) -> str:
            """Act."""
            tried.setdefault(effect, []).append(ctx.operation_id)
            raise ConnectionError("the line went dead")

        return act

    async def absent(args: Any, ctx: ToolContext) -> None:
        return None

    tools = [
        failing(Effect.IDEMPOTENT),
        failing(Effect.KEYED),
        failing(Effect.ONCE),
        failing(Effect.TRANSACTIONAL),
        failing(Effect.RECONCILED, reconcile=absent, settles_within=timedelta(seconds=0.2)),
    ]
    names = [t.name for t in tools]
    desk = await shop(agent([ask(name) for name in names], "done", tools=tools))
    run = await desk.client.start("tester", "Go", id="classes")
    while not (await run.summary()).status.closed:
        for waiting in (await run.state()).waiting:
            await run.resolve(waiting.operation, happened=False, by="ada", note="looked")
        await asyncio.sleep(0.05)
    operations = {o.tool: o for o in (await run.result()).operations}
    assert {name: len(set(ids)) for name, ids in tried.items()} == dict.fromkeys(tried, 1)
    assert {name.lower(): len(ids) for name, ids in tried.items()} == {
        "idempotent": 2, "keyed": 2, "once": 1, "transactional": 2, "reconciled": 2,
    }  # fmt: skip
    assert {name: o.outcome for name, o in operations.items()} == dict.fromkeys(names, Outcome.FAILED)
    assert operations["reconciled"].result["message"] == "reconciled was tried 2 times: it did not happen"
    resolved = {e.reference for e in await desk.ledger.read_events("classes") if e.kind == "resolved"}
    assert resolved == {operations[name].operation_id for name in ("idempotent", "keyed", "once")}
    assert (await desk.ledger.verify("classes")).faults == ()


@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.IDEMPOTENT])
async def test_what_an_earlier_attempt_may_have_done_is_not_forgotten_when_a_later_one_is_refused(
    shop: OpenShop, effect: Effect
) -> None:
    tried: list[int] = []

    @tool(version="1.0.0", effect=effect, tier=Tier.REVERSIBLE, scope="x:y")
    async def pay(ctx: ToolContext) -> str:
        """Pay."""
        tried.append(ctx.attempt)
        if len(tried) == 1:
            raise ToolError("the answer was lost", retryable=True, happened="unknown", retry_after=0.05)
        if len(tried) == 2:
            raise ToolError("busy", retryable=True, happened="no", retry_after=0.05)
        raise ToolError("the key was revoked", happened="no")

    desk = await shop(agent(ask("pay"), "done", tools=[pay]))
    run = await desk.client.start("tester", "Go", id=f"doubt-{effect.lower()}")

    async def waiting() -> Any:
        return (await run.state()).waiting

    [one] = await until(waiting)
    [operation] = await run.operations()
    assert (tried, operation.outcome) == ([1, 2, 3], Outcome.UNKNOWN)
    assert operation.result["message"] == "the key was revoked; it may or may not have happened"
    await run.resolve(one.operation, happened=True, by="ada")
    assert outcomes((await run.result()).operations) == [("pay", Outcome.SUCCEEDED)]


async def test_a_contract_that_tightened_during_a_call_ends_it_and_keeps_the_doubt(shop: OpenShop) -> None:
    largest, both_began = [100], asyncio.Barrier(2)

    class Amount(BaseModel):
        amount: int

        @field_validator("amount")
        @classmethod
        def _small_enough(cls, amount: int) -> int:
            if amount > largest[0]:
                raise ValueError("too much")
            return amount

    def paying(name: str, happened: Literal["no", "unknown"]) -> Any:
        @tool(name=name, version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y")
        async def pay(args: Amount) -> str:
            """Pay."""
            await both_began.wait()
            largest[0] = 10
            raise ToolError("not now", retryable=True, happened=happened, retry_after=0.05)

        return pay

    tools = [paying("not_sent", "no"), paying("maybe_sent", "unknown")]
    desk = await shop(agent([ask(t.name, amount=50) for t in tools], "done", tools=tools))
    run = await desk.client.start("tester", "Go", id="tightened-contract")

    async def waiting() -> Any:
        return (await run.state()).waiting

    [one] = await until(waiting)
    assert one.tool == "maybe_sent"
    await run.resolve(one.operation, happened=False, by="ada")
    not_sent, maybe_sent = (await run.result()).operations
    assert (not_sent.outcome, not_sent.result["code"]) == (Outcome.FAILED, "invalid_arguments")
    assert not_sent.result["fields"] == {"amount": "Value error, too much"}
    assert (maybe_sent.outcome, maybe_sent.attempts) == (Outcome.FAILED, 1)


async def test_a_once_call_that_surely_did_not_happen_is_tried_again(shop: OpenShop) -> None:
    tried: list[int] = []

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def send(ctx: ToolContext) -> str:
        """Send."""
        tried.append(ctx.attempt)
        if len(tried) == 1:
            raise ToolError("the door was closed", retryable=True, happened="no", retry_after=0.1)
        return "sent"

    desk = await shop(agent(ask("send"), "done", tools=[send]))
    result = await desk.client.execute("tester", "Go", id="closed-door")
    assert (tried, outcomes(result.operations)) == ([1, 2], [("send", Outcome.SUCCEEDED)])


async def test_a_transactional_tool_is_told_that_it_has_no_checkpoints(shop: OpenShop) -> None:
    """On SQLite a checkpoint would wait for the transaction that the call itself holds open."""

    @tool(version="1.0.0", effect=Effect.TRANSACTIONAL, tier=Tier.REVERSIBLE, scope="x:y", attempts=1)
    async def book(ctx: ToolContext) -> str:
        """Book."""
        async with ctx.transaction() as connection:
            await connection.execute(text("SELECT 1"))
            await ctx.checkpoint("half")
        return "booked"

    desk = await shop(agent(ask("book"), "done", tools=[book]))
    [operation] = (await desk.client.execute("tester", "Go", id="no-checkpoint")).operations
    assert operation.outcome is Outcome.FAILED
    assert "a TRANSACTIONAL tool has no checkpoints" in operation.result["message"]


async def test_reconcile_that_finds_the_call_settles_it_without_running_it_again(shop: OpenShop) -> None:
    class Sent(BaseModel):
        number: int

    tried: list[str] = []

    async def find(args: Any, ctx: ToolContext) -> Sent:
        return Sent(number=7)

    @tool(version="1.0.0", effect=Effect.RECONCILED, tier=Tier.REVERSIBLE, scope="x:y", reconcile=find)
    async def send(ctx: ToolContext) -> Sent:
        """Send."""
        tried.append(ctx.operation_id)
        raise ConnectionError("sent, but the answer was lost")

    desk = await shop(agent(ask("send"), "done", tools=[send]))
    [operation] = (await desk.client.execute("tester", "Go", id="found")).operations
    assert (operation.outcome, operation.result, len(tried)) == (Outcome.SUCCEEDED, {"number": 7}, 1)


async def test_reconcile_that_is_not_sure_leaves_it_to_a_person(shop: OpenShop) -> None:
    async def find(args: Any, ctx: ToolContext) -> None:
        raise ValueError("the list is truncated")

    @tool(version="1.0.0", effect=Effect.RECONCILED, tier=Tier.REVERSIBLE, scope="x:y", reconcile=find)
    async def send() -> str:
        """Send."""
        raise ConnectionError

    desk = await shop(agent(ask("send"), "done", tools=[send]))
    run = await desk.client.start("tester", "Go", id="unsure")

    async def waiting() -> Any:
        return (await run.state()).waiting

    [one] = await until(waiting)
    assert one.unknown
    await run.resolve(one.operation, happened=True, by="ada", note="it is in the outbox")
    [operation] = (await run.result()).operations
    assert (operation.outcome, operation.result["note"]) == (Outcome.SUCCEEDED, "it is in the outbox")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_transactional_effect_commits_with_its_settlement_or_not_at_all(
    shop: OpenShop, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tried: list[int] = []

    @tool(version="1.0.0", effect=Effect.TRANSACTIONAL, tier=Tier.REVERSIBLE, scope="x:y")
    async def book(amount: int, ctx: ToolContext) -> int:
        """Book."""
        async with ctx.transaction() as connection:
            await connection.execute(text("INSERT INTO bookings VALUES (:amount)"), {"amount": amount})
        tried.append(amount)
        if len(tried) == 1:
            raise ConnectionError("after the write")
        return amount

    url = (
        f"sqlite:///{tmp_path / 'ledger.db'}" if kind == "sqlite" else new_database(request.getfixturevalue("postgres"))
    )
    desk = await shop(agent(ask("book", amount=5), ask("book", amount=6), "done", tools=[book]), ledger_url=url)
    await desk.ledger.database.write(lambda c: c.execute(text("CREATE TABLE bookings (amount INTEGER)")))
    result = await desk.client.execute("tester", "Go", id=f"book-{kind}")
    rows = await desk.ledger.database.read(lambda c: [*c.execute(text("SELECT amount FROM bookings")).scalars()])
    assert (rows, tried) == ([5, 6], [5, 5, 6])
    assert outcomes(result.operations) == [("book", Outcome.SUCCEEDED)] * 2
    assert (await desk.ledger.verify(f"book-{kind}")).faults == ()
