"""Requests to the Messages API are valid whatever the transcript holds, and lose nothing that can be kept."""

from typing import Any

from hypothesis import given

from handfast.contracts.messages import Message, ModelRequest, Part, Text, Thinking, ToolCall, ToolResult, ToolSchema
from handfast.llm.anthropic.request import to_api
from tests.provider_streams import REQUESTS, examples
from tests.valid_requests import request_faults

LOOK = ToolSchema(name="look", description="Look.", parameters={"type": "object", "properties": {}})


def user(*parts: Part) -> Message:
    return Message(role="user", parts=parts)


def assistant(*parts: Part) -> Message:
    return Message(role="assistant", parts=parts)


def call(identity: str, name: str = "look") -> ToolCall:
    return ToolCall(id=identity, tool=name, arguments={})


def built(*messages: Message, tools: tuple[ToolSchema, ...] = (LOOK,), **options: Any) -> list[dict[str, Any]]:
    """The messages of the request, after it was checked, without the marks of the prompt cache."""
    request = ModelRequest(model="claude-sonnet-5", instructions="x", messages=messages, tools=tools, **options)
    body = to_api(request)
    assert request_faults(body) == []
    found: list[dict[str, Any]] = body["messages"]
    for block in found[-1]["content"]:
        block.pop("cache_control", None)
    return found


@examples(400)
@given(REQUESTS)
def test_any_transcript_makes_a_valid_request(request: ModelRequest) -> None:
    assert request_faults(to_api(request)) == []
    assert to_api(request) == to_api(request)


def test_results_go_to_their_calls_in_the_order_of_the_calls() -> None:
    asked = assistant(call("a"), call("a"), call("b:1"))
    heard = user(
        ToolResult(id="b:1", text="third"), Text(text="and"), ToolResult(id="a", text="1"), ToolResult(id="a", text="2")
    )
    messages = built(user(Text(text="Hi")), asked, heard)
    assert [block["id"] for block in messages[1]["content"]] == ["a", "a_2", "b_1"]
    results = [
        (block.get("tool_use_id"), block.get("content") or block.get("text")) for block in messages[2]["content"]
    ]
    assert results == [("a", "1"), ("a_2", "2"), ("b_1", "third"), (None, "and")]


def test_an_id_of_an_earlier_turn_is_given_anew_and_the_earlier_messages_stay_the_same() -> None:
    first = (user(Text(text="Hi")), assistant(call("a")), user(ToolResult(id="a", text="1")))
    longer = built(*first, assistant(call("a")), user(ToolResult(id="a", text="2")))
    assert longer[:3] == built(*first)
    assert longer[4]["content"][0]["tool_use_id"] == longer[3]["content"][0]["id"] == "a_2"


def test_a_call_without_a_result_gets_one_and_a_result_without_a_call_becomes_words() -> None:
    messages = built(user(Text(text="Hi")), assistant(call("a")), user(ToolResult(id="z", text="late")))
    result, words = messages[2]["content"]
    assert (result["tool_use_id"], result["is_error"]) == ("a", True)
    assert words == {"type": "text", "text": "(result of a call) late"}


def test_neighbours_of_one_role_are_one_message_and_the_user_speaks_first_and_last() -> None:
    messages = built(assistant(Text(text="a")), assistant(Text(text="b")))
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert [block["text"] for block in messages[1]["content"]] == ["a", "b"]


def test_reasoning_stays_as_it_came_or_is_left_out() -> None:
    whole = {"type": "thinking", "thinking": "hm", "signature": "s"}
    messages = built(
        user(Text(text="Hi")),
        assistant(Text(text="So"), Thinking(raw={"type": "thinking", "thinking": "x"}), Thinking(raw=whole), call("a")),
        user(ToolResult(id="a", text="1")),
    )
    assert [block["type"] for block in messages[1]["content"]] == ["thinking", "text", "tool_use"]
    assert messages[1]["content"][0] == whole


def test_a_schema_that_refers_to_itself_is_an_object_at_its_root() -> None:
    schema = {"$ref": "#/$defs/T", "$defs": {"T": {"type": "object", "properties": {"t": {"$ref": "#/$defs/T"}}}}}
    tools = (ToolSchema(name="look", description="Look.", parameters=schema),)
    request = ModelRequest(model="m", instructions="x", messages=(user(Text(text="Hi")),), tools=tools)
    assert to_api(request)["tools"][0]["input_schema"] == {
        "type": "object",
        "properties": {"t": {"$ref": "#/$defs/T"}},
        "$defs": schema["$defs"],
    }
