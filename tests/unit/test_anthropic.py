"""Claude through its SDK, against a real HTTP server on loopback that speaks the Messages API's stream."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from handfast import ModelError
from handfast.contracts.errors import ErrorCode
from handfast.contracts.messages import (
    Message,
    ModelRequest,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSchema,
    Usage,
)  # fmt: skip
from handfast.llm.anthropic import AnthropicModel
from tests.messages_api import Api, block, finish, sse, start, status, stream

WEATHER = ToolSchema(
    name="weather",
    description="Weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
    examples=({"city": "Oslo"},),
)
REQUEST = ModelRequest(
    model="claude-sonnet-5",
    instructions="Be kind.",
    messages=(Message(role="user", parts=(Text(text="Hi"),)),),
    tools=(WEATHER,),
)


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.stop()


@pytest.fixture
async def model(api: Api) -> AsyncIterator[AnthropicModel]:
    made = AnthropicModel("claude-sonnet-5", api_key="key", base_url=api.url)
    yield made
    await made.close()


async def test_a_whole_answer_with_thinking_words_and_a_call(api: Api, model: AnthropicModel) -> None:
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    call: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    api.reply = stream(
        start(cache_read_input_tokens=100, cache_creation_input_tokens=20),
        *block(
            0, thinking, {"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "s"}
        ),
        *block(
            1,
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": "Let me "},
            {"type": "text_delta", "text": "see"},
        ),
        *block(
            2,
            call,
            {"type": "input_json_delta", "partial_json": '{"city": "Os'},
            {"type": "input_json_delta", "partial_json": 'lo"}'},
        ),
        *finish("tool_use"),
    )
    response = await model.respond(REQUEST)
    assert response.message.parts == (
        Thinking(raw={"type": "thinking", "thinking": "hm", "signature": "s"}),
        Text(text="Let me see"),
        ToolCall(id="toolu_1", tool="weather", arguments={"city": "Oslo"}),
    )
    assert (response.stop_reason, response.model, response.request_id) == (
        "tool_use",
        "claude-sonnet-5-20260101",
        "req_42",
    )
    assert response.usage == Usage(input_tokens=10, output_tokens=7, cache_read_tokens=100, cache_write_tokens=20)


async def test_the_request_carries_the_transcript_intact_with_cache_breakpoints(
    api: Api, model: AnthropicModel
) -> None:
    api.reply = stream(start(), *block(0, {"type": "text", "text": "ok"}), *finish("end_turn"))
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    calling = (Thinking(raw=thinking), ToolCall(id="t1", tool="weather", arguments={"city": "Oslo"}))
    messages = (
        *REQUEST.messages,
        Message(role="assistant", parts=calling),
        Message(role="user", parts=(ToolResult(id="t1", text="rain", failed=True),)),
    )
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    await model.respond(
        REQUEST.model_copy(update={"messages": messages, "may_call_tools": False, "output_schema": schema})
    )
    cache = {"type": "ephemeral"}
    assert api.seen == [
        {
            "model": "claude-sonnet-5",
            "max_tokens": 4096,
            "stream": True,
            "system": [{"type": "text", "text": "Be kind.", "cache_control": cache}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                {
                    "role": "assistant",
                    "content": [
                        thinking,
                        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "t1",
                            "content": "rain",
                            "is_error": True,
                            "cache_control": cache,
                        }
                    ],
                },
            ],
            "tools": [
                {
                    "name": "weather",
                    "description": "Weather.",
                    "input_schema": WEATHER.parameters,
                    "input_examples": [{"city": "Oslo"}],
                    "cache_control": cache,
                }
            ],
            "tool_choice": {"type": "none"},
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        }
    ]


CALL: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
CUTS: dict[str, list[dict[str, Any]]] = {
    "in the arguments": [
        start(),
        *block(0, CALL, {"type": "input_json_delta", "partial_json": '{"city": "Os'}, end=False),
    ],
    "after the block": [start(), *block(0, CALL, {"type": "input_json_delta", "partial_json": '{"city": "Oslo"}'})],
    "before message_stop": [
        start(),
        *block(0, CALL, {"type": "input_json_delta", "partial_json": "{}"}),
        finish("tool_use")[0],
    ],
    "at once": [start()],
}


@pytest.mark.parametrize("cut", CUTS)
async def test_a_stream_that_breaks_off_is_never_acted_on(api: Api, model: AnthropicModel, cut: str) -> None:
    api.reply = stream(*CUTS[cut])
    with pytest.raises(ModelError) as error:
        await model.respond(REQUEST)
    assert (error.value.code, error.value.retryable) == (ErrorCode.MODEL_STREAM_BROKEN, True)


async def test_a_connection_that_breaks_in_the_middle_of_a_stream_may_heal(api: Api, model: AnthropicModel) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"400\r\n" + sse(start()))
        handler.close_connection = True

    api.reply = reply
    with pytest.raises(ModelError) as error:
        await model.respond(REQUEST)
    assert error.value.retryable


@pytest.mark.parametrize("kind", ["server_tool_use", "mcp_tool_use", "web_search_tool_result", "container_upload"])
async def test_a_block_of_a_tool_that_ran_at_the_provider_is_refused(
    api: Api, model: AnthropicModel, kind: str
) -> None:
    server_call: dict[str, Any] = {"type": kind, "id": "s1", "name": "web_search", "input": {}}
    api.reply = stream(start(), *block(0, server_call), *finish("end_turn"))
    with pytest.raises(ModelError, match="run at the provider") as error:
        await model.respond(REQUEST)
    assert not error.value.retryable


@pytest.mark.parametrize(
    ("code", "cause", "retryable"),
    [
        (400, ErrorCode.MODEL_REQUEST_INVALID, False),
        (401, ErrorCode.MODEL_AUTHENTICATION, False),
        (402, ErrorCode.MODEL_AUTHENTICATION, False),
        (403, ErrorCode.MODEL_AUTHENTICATION, False),
        (404, ErrorCode.MODEL_UNKNOWN, False),
        (405, ErrorCode.MODEL_REQUEST_INVALID, False),
        (408, ErrorCode.MODEL_UNAVAILABLE, True),
        (409, ErrorCode.MODEL_UNAVAILABLE, True),
        (413, ErrorCode.MODEL_REQUEST_INVALID, False),
        (422, ErrorCode.MODEL_REQUEST_INVALID, False),
        (429, ErrorCode.MODEL_UNAVAILABLE, True),
        (302, ErrorCode.MODEL_UNAVAILABLE, True),
        (500, ErrorCode.MODEL_UNAVAILABLE, True),
        (503, ErrorCode.MODEL_UNAVAILABLE, True),
        (504, ErrorCode.MODEL_UNAVAILABLE, True),
        (529, ErrorCode.MODEL_UNAVAILABLE, True),
    ],
)
async def test_every_status_is_mapped_once(
    api: Api, model: AnthropicModel, code: int, cause: ErrorCode, retryable: bool
) -> None:
    api.reply = status(code)
    with pytest.raises(ModelError, match="so it is") as error:
        await model.respond(REQUEST)
    assert (error.value.code, error.value.retryable, error.value.request_id) == (cause, retryable, "req_42")
    assert len(api.seen) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("999999999", 3600.0), ("1e9", 3600.0), ("-3", 0.0), ("soon", None), ("nan", None)],
)
async def test_retry_after_is_understood_and_clamped(
    api: Api, model: AnthropicModel, value: str, seconds: float | None
) -> None:
    api.reply = status(429, retry_after=value)
    with pytest.raises(ModelError) as error:
        await model.respond(REQUEST)
    assert error.value.retry_after == seconds


async def test_an_api_that_is_not_there_and_a_key_that_is_not_there() -> None:
    unreachable = AnthropicModel("claude-sonnet-5", api_key="key", base_url="http://127.0.0.1:9")
    with pytest.raises(ModelError) as error:
        await unreachable.respond(REQUEST)
    assert error.value.code is ErrorCode.MODEL_UNAVAILABLE
    await unreachable.close()
    keyless = AnthropicModel("claude-sonnet-5")
    with pytest.raises(ModelError, match="ANTHROPIC_API_KEY") as error:
        await keyless.respond(REQUEST)
    assert error.value.code is ErrorCode.MODEL_AUTHENTICATION
    await keyless.close()
    await asyncio.sleep(0)
