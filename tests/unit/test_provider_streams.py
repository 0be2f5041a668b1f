"""Streams of a provider, read event by event: whatever comes, what is not whole is never a call that may be executed."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast import ModelError
from handfast.contracts.messages import (
    Message,
    ModelRequest,
    ModelResponse,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from handfast.contracts.stop_reasons import STOP_RULES, stop_rule
from handfast.llm.answer import normalize
from handfast.llm.anthropic.events import read_event
from handfast.llm.anthropic.request import to_api
from handfast.llm.sse import EventTooLarge, ServerSentEvent, server_sent_events
from handfast.llm.stream import AnswerStream
from handfast.llm.usage import MAX_TOKENS, usage_of
from tests.messages_api import sse
from tests.provider_streams import Event, examples, may_be_executed, streams
from tests.valid_requests import request_faults

HI = Message(role="user", parts=(Text(text="Hi"),))
REQUEST = ModelRequest(model="claude-sonnet-5", instructions="Be kind.", messages=(HI,))


def read(events: list[Event]) -> ModelResponse:
    """The answer that a stream becomes."""
    found = AnswerStream()
    for event in events:
        kind = event.get("type")
        read_event(ServerSentEvent(kind if isinstance(kind, str) else "", json.dumps(event)), found, "claude")
        if found.ended or found.too_large:
            break
    return normalize(found.response(REQUEST), REQUEST)


@examples(600)
@given(streams())
def test_only_whole_calls_of_a_complete_answer_may_be_executed(events: list[Event]) -> None:
    try:
        response = read(events)
    except ModelError:
        return
    if stop_rule(response.stop_reason).completes:
        may = may_be_executed(events)
        for call in response.message.calls:
            assert call.fault or not call.arguments or call.arguments in may
    # Whatever was read can be stored, read back, and sent to the model again.
    assert ModelResponse.model_validate_json(response.model_dump_json()) == response
    results = tuple(ToolResult(id=call.id, text="ok") for call in response.message.calls)
    messages = (HI, response.message, Message(role="user", parts=(*results, Text(text="Go on."))))
    assert request_faults(to_api(REQUEST.model_copy(update={"messages": messages}))) == []


@examples(200)
@given(streams(), st.lists(st.integers(1, 40), min_size=1))
def test_a_stream_is_the_same_in_whatever_pieces_it_arrives(events: list[Event], sizes: list[int]) -> None:
    body = b"".join(sse(event) for event in events)
    assert pieces(body, sizes) == pieces(body, [max(len(body), 1)])


def pieces(body: bytes, sizes: list[int], max_bytes: int = 10**9) -> list[ServerSentEvent]:
    """The events of a body that arrives in pieces of these sizes, over and over."""

    async def chunks() -> AsyncIterator[bytes]:
        at, number = 0, 0
        while at < len(body):
            size = sizes[number % len(sizes)]
            yield body[at : at + size]
            at, number = at + size, number + 1

    async def collect() -> list[ServerSentEvent]:
        return [event async for event in server_sent_events(chunks(), max_bytes=max_bytes)]

    return asyncio.run(collect())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_events_are_read_as_the_standard_says(end: str, size: int) -> None:
    lines = [
        "\ufeffevent: a",
        "data: 1",
        ": a comment",
        "data:2",
        "id: 7",
        "",
        "",
        "data: \u2028 3",
        "",
        "event: b",
        "",
    ]
    body = end.join([*lines, "data: cut off"]).encode()
    assert pieces(body, [size]) == [ServerSentEvent("a", "1\n2"), ServerSentEvent("", "\u2028 3")]


def test_a_stream_is_not_read_beyond_its_limit() -> None:
    with pytest.raises(EventTooLarge):
        pieces(b"data: " + b"x" * 10_000, [100], max_bytes=5000)


@pytest.mark.parametrize("reason", [*STOP_RULES, "new_reason", "", None])
def test_each_stop_reason_says_what_becomes_of_the_answer(reason: str | None) -> None:
    rule = stop_rule(reason)
    assert rule.completes == (reason in {"end_turn", "stop_sequence", "tool_use"})
    assert rule.completes != bool(rule.denial)
    assert rule.refused == (reason == "refusal")
    assert rule.full == (reason == "model_context_window_exceeded")
    # What neither completes the answer nor ends the run has something to say to the model.
    assert bool(rule.note) == (not rule.completes and not rule.refused and not rule.full)
    assert bool(rule.failure) == (reason not in {*list(STOP_RULES)[:7]})


ESTIMATED = Usage(input_tokens=3, output_tokens=2)


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({}, ESTIMATED),
        ({"input_tokens": 5, "output_tokens": 6}, Usage(input_tokens=5, output_tokens=6)),
        ({"input_tokens": 5, "output_tokens": None}, Usage(input_tokens=5, output_tokens=2)),
        ({"input_tokens": None, "output_tokens": 6}, Usage(input_tokens=3, output_tokens=6)),
        ({"input_tokens": -5, "output_tokens": 6}, Usage(input_tokens=3, output_tokens=6)),
        ({"input_tokens": "5", "output_tokens": True}, ESTIMATED),
        ({"input_tokens": float("nan"), "output_tokens": float("inf")}, ESTIMATED),
        ({"input_tokens": MAX_TOKENS + 1, "output_tokens": 0}, Usage(input_tokens=3)),
        ({"input_tokens": 4.2, "output_tokens": 6.0}, Usage(input_tokens=5, output_tokens=6)),
        ({"input_tokens": 1, "output_tokens": 1, "cache_read_tokens": None, "cache_write_tokens": 4},
         Usage(input_tokens=1, output_tokens=1, cache_write_tokens=4)),
    ],
)  # fmt: skip
def test_what_is_no_count_of_tokens_is_estimated(counts: dict[str, Any], usage: Usage) -> None:
    assert usage_of(counts, REQUEST, Message(role="assistant", parts=(Text(text="Hello"),))) == usage


def own(*parts: Any, reason: str = "end_turn", model: str = "m", request_id: str | None = None) -> ModelResponse:
    """An answer of a model of one's own, with whatever parts."""
    message = Message.model_construct(role="assistant", parts=parts)
    return ModelResponse.model_construct(
        message=message, stop_reason=reason, usage=None, model=model, request_id=request_id
    )


def test_an_answer_is_made_storable() -> None:
    parts = (
        Text(text="hi \ud83d"),
        Thinking(raw={"thinking": "\ud83d"}),
        ToolCall(id="a\x00" + "b" * 200, tool="\x1b[31mpay\n", arguments={"a": ("\ud83d\ude00", 1)}),
        ToolCall(id="a\x00" + "b" * 200, tool="x" * 300, arguments={}),
        ToolResult(id="a", text="made up"),
    )
    found = normalize(own(*parts, reason="so\x00" + "o" * 100, model="m\ud83d", request_id="r" * 500), REQUEST)
    text, one, two = found.message.parts
    assert isinstance(one, ToolCall)
    assert isinstance(two, ToolCall)
    assert text == Text(text="hi \ufffd")
    assert (one.tool, one.arguments) == ("\ufffd[31mpay\ufffd", {"a": ["😀", 1]})
    assert (len(one.id), len(two.id), len(two.tool), len(found.request_id or "")) == (128, 128, 128, 128)
    assert one.id != two.id
    assert len(found.stop_reason or "") == 64
    assert found.model == "m\ufffd"
    assert "\x00" not in found.model_dump_json()


def test_ids_of_thousands_of_calls_are_made_unique_at_once() -> None:
    found = normalize(own(*[ToolCall(id="t", tool="pay", arguments={})] * 20_000), REQUEST)
    assert len({call.id for call in found.message.calls}) == 20_000
