"""The model of a run: pinned when it starts, refused when it can't be paid for, failing with a reason."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from handfast import Agent, ContractError, Effect, Lane, RunFailed, Script, Tier, ask, tool
from handfast.contracts.messages import ModelRequest, ModelResponse
from handfast.contracts.price import FREE, Price
from handfast.llm.resolve import Models
from tests.conftest import OpenShop
from tests.replay.test_replay import replayer


async def test_a_run_without_a_key_fails_and_says_what_to_set(shop: OpenShop) -> None:
    desk = await shop(Agent(name="claude", model="claude-sonnet-5", instructions="Be kind."))
    run = await desk.client.start("claude", "Hi", id="keyless")
    with pytest.raises(RunFailed, match="ANTHROPIC_API_KEY"):
        await run.result()


async def test_a_model_that_no_price_list_knows_stops_the_worker_at_start(shop: OpenShop) -> None:
    with pytest.raises(ContractError, match=r"claude-sonet-5.* is in no price list"):
        await shop(Agent(name="typo", model="claude-sonet-5", instructions="Be kind."))


async def test_more_calls_than_a_payload_can_carry_fail_the_run_with_the_number(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def look() -> str:
        """Look."""
        return "seen"

    desk = await shop(Agent(name="many", model=Script([[ask("look")] * 1001]), instructions="x", tools=[look]))
    run = await desk.client.start("many", "Go", id="many")
    with pytest.raises(RunFailed, match="asked for 1001 tool calls in one turn; allowed are 1000"):
        await run.result()


class Named:
    """A model with a name, which remembers that it was asked."""

    def __init__(self, name: str, asked: list[str]) -> None:
        self._script = Script([ask("wait"), "done"])
        self._name = name
        self._asked = asked

    @property
    def id(self) -> str:
        return self._name

    @property
    def price(self) -> Price:
        return FREE

    async def respond(self, request: ModelRequest) -> ModelResponse:
        self._asked.append(f"{self._name} as {request.model}")
        return await self._script.respond(request)


async def test_a_run_keeps_the_model_it_was_started_with(shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def wait() -> str:
        """Wait."""
        begun.set()
        await go_on.wait()
        return "waited"

    def model_of(_: Any, agent: Agent) -> Named:
        return Named(agent.model_id, asked)

    monkeypatch.setattr(Models, "of", model_of)
    desk = await shop(Agent(name="a", model="claude-sonnet-5", instructions="x", tools=[wait]))
    run = await desk.client.start("a", "Go", id="pinned")
    await begun.wait()
    newer = Agent(name="a", model="claude-opus-5", instructions="x", tools=[wait])
    desk.boundary.registry.agents["a"] = newer
    go_on.set()
    await run.result()
    assert asked == ["claude-sonnet-5 as claude-sonnet-5"] * 2
    assert (await run.summary()).model == "claude-sonnet-5"


async def test_a_script_on_the_fast_lane_needs_no_activity_of_its_own_and_its_run_replays(shop: OpenShop) -> None:
    @tool(
        version="1.0.0",
        effect=Effect.KEYED,
        tier=Tier.REVERSIBLE,
        scope="x:y",
        lane="fast",
        timeout=timedelta(seconds=1),
    )
    async def act() -> str:
        """Act."""
        return "acted"

    quick = Agent(name="quick", instructions="Test.", model=Script([ask("act"), "done"], lane=Lane.FAST), tools=[act])
    desk = await shop(quick)
    run = await desk.client.start("quick", "Go", id="quick")
    assert (await run.result()).text == "done"
    history = await run.handle.fetch_history()
    assert not any(event.HasField("activity_task_scheduled_event_attributes") for event in history.events)
    await replayer().replay_workflow(history)
