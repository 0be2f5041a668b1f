"""Strategies for what a provider may send: streams in and out of order, and transcripts of any kind.

`HANDFAST_EXAMPLES` sets how many examples each property is tried with.
"""

import json
import os
from typing import Any, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from handfast.contracts.messages import Message, ModelRequest, Part, Text, Thinking, ToolCall, ToolResult, ToolSchema
from tests.messages_api import block, finish, start

Event = dict[str, Any]


def examples(default: int) -> settings:
    """Settings of a property: so many examples, unless the environment asks for another number."""
    asked = os.environ.get("HANDFAST_EXAMPLES", "")
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=int(asked or default),
        deadline=None,
        derandomize=not asked,
        print_blob=True,
        suppress_health_check=checks,
    )


ANY_TEXT = st.text(st.characters(categories=("L", "N", "P", "Z", "Cs", "Cc", "S")), max_size=12)
"""With lone surrogates and control characters."""
STOPS = st.sampled_from(
    ["tool_use", "tool_use", "end_turn", "stop_sequence", "max_tokens", "refusal", "pause_turn", "new_reason", None]
)
NAMES = st.sampled_from(["pay", "pay", "look", "", "$pay", "pay.now", "p" * 200, "pay\ud83d", "unknown"])
IDS = st.sampled_from(["t1", "t1", "t2", "", "a:b", "t1_2", "x" * 300, "\ud83d"]) | ANY_TEXT
ARGUMENTS = st.sampled_from(
    [
        '{"amount": 1}', '{"amount": 1}', '{"amount": 10, "to": "acct_1"}', '{"amount": 10, "to": "acct', '{"amount": 1}{}',
        '{"amount": NaN}', '{"amount": 1, "amount": 2}', "", "{}", "[]", "null", '{"to": "\\ud83d"}', '{"amount": "1"}',
    ]
)  # fmt: skip


GIVEN: list[Any] = [{}, {}, {}, {"amount": 7}, None, []]
"""Arguments that come with the beginning of a call."""
OTHER_VALUES: list[Any] = [None, 7, -1, "x", [], {}, True, 1.5]


@st.composite
def blocks(draw: st.DrawFn, index: int) -> list[Event]:
    """The events of one block."""
    kind = draw(st.sampled_from(["text", "call", "call", "thinking", "redacted", "unknown"]))
    if kind == "text":
        pieces = [{"type": "text_delta", "text": piece} for piece in draw(st.lists(ANY_TEXT, max_size=3))]
        return block(index, {"type": "text", "text": ""}, *pieces)
    if kind == "call":
        raw = draw(ARGUMENTS)
        cut = draw(st.integers(0, len(raw)))
        given: Any = draw(st.sampled_from(GIVEN))
        begin = {"type": "tool_use", "id": draw(IDS), "name": draw(NAMES), "input": given}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in (raw[:cut], raw[cut:])]
        return block(index, begin, *deltas)
    if kind == "thinking":
        signature = draw(st.sampled_from(["s", "", "\ud83d"]))
        begin = {"type": "thinking", "thinking": draw(ANY_TEXT), "signature": ""}
        return block(index, begin, {"type": "signature_delta", "signature": signature})
    if kind == "redacted":
        return block(index, {"type": "redacted_thinking", "data": draw(ANY_TEXT)})
    return block(index, {"type": draw(st.sampled_from(["new_block", "", None, 7]))}, {"type": "new_delta"})


@st.composite
def ordered_streams(draw: st.DrawFn) -> list[Event]:
    """A stream as the API documents it, with any content."""
    count = draw(st.integers(0, 4))
    content = [event for index in range(count) for event in draw(blocks(index))]
    return [start(), *content, *finish(draw(STOPS))]


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """A stream that something has happened to: cut, events doubled, lost, moved, garbled, or errors among them."""
    events = draw(ordered_streams())
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(len(events) - 1, 0)))
        to = draw(st.integers(0, max(len(events) - 1, 0)))
        match draw(st.sampled_from(["cut", "double", "lose", "move", "insert", "garble", "second stop"])):
            case "cut":
                events = events[:at]
            case "double" if events:
                events = [*events[:to], events[at], *events[to:]]
            case "lose" if events:
                events = [*events[:at], *events[at + 1 :]]
            case "move" if events:
                one = events[at]
                rest = [*events[:at], *events[at + 1 :]]
                events = [*rest[:to], one, *rest[to:]]
            case "garble" if events:
                events = [*events[:at], draw(garbled(events[at])), *events[at + 1 :]]
            case "second stop":
                events = [*events[:at], finish(draw(STOPS))[0], *events[at:]]
            case _:
                events = [*events[:at], draw(st.sampled_from(STRAY)), *events[at:]]
    return events


STRAY: list[Event] = [
    {"type": "ping"},
    {"type": "new_event", "index": 0},
    {"type": "content_block_delta"},
    {"type": "content_block_stop", "index": -1},
    {"type": "content_block_start", "index": "0", "content_block": {"type": "text"}},
    {"type": "message_delta", "delta": None, "usage": None},
    {"type": "message_delta", "delta": {"stop_reason": 7}, "usage": {"output_tokens": -1}},
    {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
    {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}},
    {"type": "error", "error": None},
    {},
]


@st.composite
def garbled(draw: st.DrawFn, event: Event) -> Event:
    """An event with one of its values replaced."""
    if not event:
        return event
    name = draw(st.sampled_from(sorted(event)))
    return {**event, name: draw(st.sampled_from(OTHER_VALUES))}


def may_be_executed(events: list[Event]) -> list[dict[str, Any]]:
    """The arguments of calls that may be executed at most: whole JSON objects of an answer whose end and stop reason came.

    Written for the tests alone, and generous: what it does not hold must never be executed.
    """
    ends = [number for number, event in enumerate(events) if event.get("type") == "message_stop"]
    seen = events[: ends[0]] if ends else []
    reasons = {_dict(event.get("delta")).get("stop_reason") for event in seen if event.get("type") == "message_delta"}
    if not ends or not reasons - {None} or not reasons <= {None, "tool_use", "end_turn", "stop_sequence"}:
        return []
    found: list[dict[str, Any]] = []
    for begin in seen:
        call = _dict(begin.get("content_block"))
        if begin.get("type") == "content_block_start" and call.get("type") == "tool_use":
            deltas = [
                _dict(event.get("delta")).get("partial_json")
                for event in seen
                if event.get("type") == "content_block_delta" and event.get("index") == begin.get("index")
            ]
            written = "".join(piece for piece in deltas if isinstance(piece, str))
            found += [value for text in (written, json.dumps(call.get("input"))) if (value := _whole(text)) is not None]
    return found


def _whole(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except ValueError:
        return None
    written = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return json.loads(written) if isinstance(value, dict) else None


def _dict(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


RAW: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "thinking", "thinking": "", "signature": "s", "new": 1},
        {"type": "thinking", "thinking": "hm"},
        {"type": "thinking", "thinking": "hm \ud83d", "signature": "s"},
        {"type": "thinking", "thinking": None, "signature": "s"},
        {"type": "redacted_thinking", "data": "abc"},
        {"type": "redacted_thinking"},
        {"type": ["thinking"]},
        {"content": "of another provider"},
        {},
    ]
)
ODD_ARGUMENTS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"a": 1}, {"a": "\ud83d"}, {"a": float("nan")}, {"a": {1, 2}}, {"\ud83d": [[]]}, {"a": 10**2000}]
)
TEXTS = st.sampled_from(["", " ", "\n\n", "Hi.", "\ud83d\ude00", "x "]) | ANY_TEXT
PARTS: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, text=TEXTS),
    st.builds(Thinking, raw=RAW),
    st.builds(ToolCall, id=IDS, tool=NAMES, arguments=ODD_ARGUMENTS),
    st.builds(ToolCall, id=IDS, tool=NAMES, arguments=ODD_ARGUMENTS),
    st.builds(ToolResult, id=IDS, text=TEXTS, failed=st.booleans()),
)
MESSAGES = st.builds(Message, role=st.sampled_from(["user", "assistant"]), parts=st.lists(PARTS, max_size=5).map(tuple))
SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]},
        {"$ref": "#/$defs/T", "$defs": {"T": {"type": "object", "properties": {"t": {"$ref": "#/$defs/T"}}}}},
        {"type": "object", "properties": {}, "oneOf": [{"required": ["a"]}]},
        {"anyOf": [{"type": "object"}, {"type": "array"}]},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]}}},
        {"type": "array", "items": {"type": "integer"}},
        {"$ref": "#/$defs/gone"},
        {},
    ]
)
TOOLS = st.builds(ToolSchema, name=NAMES, description=TEXTS, parameters=SCHEMAS)
REQUESTS = st.builds(
    ModelRequest,
    model=st.just("claude-sonnet-5"),
    instructions=TEXTS,
    messages=st.lists(MESSAGES, max_size=7).map(tuple),
    tools=st.lists(TOOLS, max_size=3).map(tuple),
    may_call_tools=st.booleans(),
    output_schema=st.none() | SCHEMAS,
    max_tokens=st.integers(-1, 9999),
)
"""Requests with any transcript, tools and schema of the answer."""
