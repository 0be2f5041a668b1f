"""Calls that failed for good: listed, and carried out again in a run of their own."""

import asyncio
import json
import uuid
from typing import Any

import pytest
from typer.testing import CliRunner

from handfast import Agent, DecisionRefused, Effect, Outcome, Script, Tier, ToolContext, ToolError, ask, tool
from handfast.client.cli.app import app
from tests.conftest import OpenShop, Shop, outcomes, until
from tests.effects.agents import ROOMY


def paying(down: list[bool], *, tier: Tier = Tier.REVERSIBLE) -> Agent:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=tier, scope="x:y", attempts=1)
    async def pay(amount: int, ctx: ToolContext) -> str:
        """Pay."""
        if down:
            raise ToolError("the bank is closed", code="closed", happened="no")
        return f"paid {amount}"

    steps = Script([[ask("pay", amount=5), ask("pay", amount=6)], "done"])
    return Agent(name="tester", instructions="Test.", model=steps, tools=[pay], limits=ROOMY)


async def failed(desk: Shop) -> tuple[str, list[str]]:
    """A run both of whose calls failed, and their operations."""
    run = await desk.client.start("tester", "Go", id=f"redrive-{uuid.uuid4()}")
    result = await run.result()
    assert outcomes(result.operations) == [("pay", Outcome.FAILED)] * 2
    return run.id, [operation.operation_id for operation in result.operations]


async def test_a_call_that_failed_for_good_is_carried_out_again_once(shop: OpenShop) -> None:
    down = [True]
    desk = await shop(paying(down))
    run_id, [first, _] = await failed(desk)
    down.clear()
    again = await desk.client.redrive(run_id, first)
    assert (await desk.client.redrive(run_id, first)).id == again.id
    result = await again.result()
    [operation] = result.operations
    assert (result.text, operation.arguments, operation.result) == ("done", {"amount": 5}, "paid 5")
    assert operation.operation_id != first
    assert (await desk.ledger.verify(again.id)).faults == ()
    assert first in {found.operation_id for _, found in await desk.ledger.list_failed()}


async def test_a_call_that_is_carried_out_again_is_gated_like_any_other(shop: OpenShop) -> None:
    desk = await shop(paying([True]))
    run_id, [first, _] = await failed(desk)
    stricter = await shop(paying([], tier=Tier.IRREVERSIBLE), ledger_url=desk.settings.ledger)
    again = await stricter.client.redrive(run_id, first)

    async def waiting() -> Any:
        return (await again.state()).waiting

    [one] = await until(waiting)
    await again.decide(one.operation, approve=False)
    assert outcomes((await again.result()).operations) == [("pay", Outcome.DENIED)]
    with pytest.raises(DecisionRefused, match="is DENIED, not FAILED"):
        await desk.client.redrive(again.id, one.operation)
    with pytest.raises(DecisionRefused, match="is no call of it"):
        await desk.client.redrive(again.id, first)


async def test_the_list_says_what_failed_why_and_what_to_type(shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = await shop(paying([True]))
    run_id, [first, second] = await failed(desk)
    monkeypatch.setenv("HANDFAST_LEDGER_URL", desk.settings.ledger)
    monkeypatch.setenv("TEMPORAL_ADDRESS", desk.client.engine.address)
    told = await in_a_thread("runs", "--failed", "--limit", "2")
    assert "closed: the bank is closed" in told
    assert f"handfast redrive {run_id} {second}" in told
    lines = [json.loads(line) for line in (await in_a_thread("runs", "--failed", "--json")).splitlines()]
    assert {line["operation_id"] for line in lines} == {first, second}
    assert {line["run_id"] for line in lines} == {run_id}


async def in_a_thread(*words: str) -> str:
    """What a command prints."""
    result = await asyncio.to_thread(CliRunner().invoke, app, list(words), env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return result.output
