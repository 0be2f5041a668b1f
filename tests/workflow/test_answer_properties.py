"""Whole runs with whatever stream a provider sends: nothing incomplete is executed, every request is valid, and the run ends."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from hypothesis import given

from handfast import Agent, Effect, RunFailed, Tier, tool
from tests.conftest import OpenShop, Shop
from tests.messages_api import Api, stream, words
from tests.provider_streams import Event, examples, may_be_executed, streams

TOGETHER = 8


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.stop()


@tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:w")
async def pay(amount: int, to: str = "default") -> str:
    """Pay."""
    return f"{amount} paid to {to}"


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
async def look() -> str:
    """Look."""
    return "seen"


async def test_any_stream_ends_its_run_and_nothing_incomplete_is_executed(shop: OpenShop, api: Api) -> None:
    found: list[list[Event]] = []

    @examples(60)
    @given(streams())
    def every(events: list[Event]) -> None:
        found.append(events)

    await asyncio.to_thread(every)
    answers: dict[str, list[Event]] = {}

    def reply(handler: BaseHTTPRequestHandler) -> None:
        name = api.seen[-1]["messages"][0]["content"][0]["text"]
        events = answers.pop(name, None)
        (words("Done.") if events is None else stream(*events))(handler)

    api.reply = reply
    agent = Agent(name="a", instructions="Test.", model="claude-sonnet-5", tools=[pay, look])
    desk = await shop(agent, anthropic_api_key="k", anthropic_base_url=api.url)
    for first in range(0, len(found), TOGETHER):
        await asyncio.gather(*(one_run(desk, answers, events) for events in found[first : first + TOGETHER]))


async def one_run(desk: Shop, answers: dict[str, list[Event]], events: list[Event]) -> None:
    name = f"r-{uuid.uuid4()}"
    answers[name] = events
    run = await desk.client.start("a", name, id=name)
    async with asyncio.timeout(60):
        with contextlib.suppress(RunFailed):
            await run.result()
    assert not [event for event in await desk.ledger.read_events(name) if event.kind == "unsettled"]
    may = [_called(arguments) for arguments in may_be_executed(events)]
    for operation in await run.operations():
        if operation.tool == "pay" and operation.attempts:
            assert _called(operation.arguments) in may, events
    assert (await desk.ledger.verify(name)).faults == ()


def _called(arguments: Any) -> str:
    return json.dumps([str(arguments.get("amount")), arguments.get("to", "default")])
