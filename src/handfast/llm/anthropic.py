"""Claude, through Anthropic's SDK: streaming, prompt caching, thinking blocks kept intact, every error mapped once."""

from collections.abc import Iterable
from typing import Any, cast

import anthropic

from handfast.contracts.errors import ErrorCode, ModelError
from handfast.contracts.messages import (
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSchema,
    Usage,
)  # fmt: skip
from handfast.contracts.price import Price
from handfast.contracts.waits import retry_after_seconds

CACHE = {"type": "ephemeral"}
STATUS_CODES: dict[int, ErrorCode] = {
    400: ErrorCode.MODEL_REQUEST_INVALID,
    401: ErrorCode.MODEL_AUTHENTICATION,
    402: ErrorCode.MODEL_AUTHENTICATION,
    403: ErrorCode.MODEL_AUTHENTICATION,
    404: ErrorCode.MODEL_UNKNOWN,
    413: ErrorCode.MODEL_REQUEST_INVALID,
    422: ErrorCode.MODEL_REQUEST_INVALID,
}
"""Everything else (408, 409, 429, 500, 503, 504, 529, connections) may heal: `model_unavailable`."""
HINTS = {
    ErrorCode.MODEL_AUTHENTICATION: "check ANTHROPIC_API_KEY of the worker, and the account's credit and permissions",
    ErrorCode.MODEL_UNKNOWN: "check the agent's model id",
}


class AnthropicModel:
    """One Claude model.

    Args:
        model: The model id, such as `claude-sonnet-5`.
        api_key: The key; without one every call fails with `model_authentication`.
        base_url: Where the API is, if not at its usual place.
    """

    def __init__(self, model: str, *, api_key: str = "", base_url: str = "") -> None:
        self._model = model
        self._api_key = api_key
        self._client = anthropic.AsyncAnthropic(api_key=api_key or "none", base_url=base_url or None, max_retries=0)

    @property
    def id(self) -> str:
        """The model id."""
        return self._model

    @property
    def price(self) -> Price | None:
        """None: the price list knows."""
        return None

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def respond(self, request: ModelRequest) -> ModelResponse:
        """One call of the Messages API, streamed.

        Raises:
            ModelError: With the cause, the provider's request id, and how long it asked to wait.
        """
        if not self._api_key:
            message = f"no key for {self._model}: {HINTS[ErrorCode.MODEL_AUTHENTICATION]}"
            raise ModelError(message, ErrorCode.MODEL_AUTHENTICATION)
        try:
            return await self._stream(request)
        except anthropic.APIStatusError as error:
            raise _status_error(self._model, error) from error
        except anthropic.APIError as error:
            # A connection that failed or timed out, or an error event in the middle of a stream.
            message = f"{self._model} could not be reached or broke off: {error.message}"
            raise ModelError(message, ErrorCode.MODEL_UNAVAILABLE) from error

    async def _stream(self, request: ModelRequest) -> ModelResponse:
        complete = False
        async with self._client.messages.stream(**to_api(request)) as stream:
            async for event in stream:
                complete = complete or event.type == "message_stop"
            request_id = stream.request_id
            # A stream cut in the middle of a tool call raises nothing and drops the incomplete argument.
            if not complete:
                message = f"{self._model}'s answer broke off (request {request_id}): nothing of it is acted on"
                raise ModelError(message, ErrorCode.MODEL_STREAM_BROKEN, request_id=request_id)
            answer = await stream.get_final_message()
        return from_api(answer, request_id)


def to_api(request: ModelRequest) -> dict[str, Any]:
    """The arguments of `messages.stream`, with prompt-cache breakpoints after tools, instructions and transcript."""
    messages = [_message_to_api(message) for message in request.messages]
    if messages and messages[-1]["content"]:
        last = messages[-1]["content"][-1]
        if last["type"] in {"text", "tool_result", "tool_use"}:
            last["cache_control"] = CACHE
    arguments: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "system": [{"type": "text", "text": request.instructions, "cache_control": CACHE}],
        "messages": messages,
    }
    if request.tools:
        tools = [_tool_to_api(tool) for tool in request.tools]
        tools[-1]["cache_control"] = CACHE
        arguments["tools"] = tools
        if not request.may_call_tools:
            arguments["tool_choice"] = {"type": "none"}
    if request.output_schema is not None:
        arguments["output_config"] = {"format": {"type": "json_schema", "schema": request.output_schema}}
    return arguments


def from_api(answer: Any, request_id: str | None) -> ModelResponse:
    """A complete message of the API as a response.

    Raises:
        ModelError: It has no stop reason, or holds a block that ran outside our boundary.
    """
    if answer.stop_reason is None:
        raise ModelError("the answer has no stop reason: nothing of it is acted on", ErrorCode.MODEL_STREAM_BROKEN)
    usage = answer.usage
    return ModelResponse(
        message=Message(role="assistant", parts=tuple(_parts(answer.content))),
        stop_reason=answer.stop_reason,
        usage=Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_input_tokens or 0,
            cache_write_tokens=usage.cache_creation_input_tokens or 0,
        ),
        model=answer.model,
        request_id=request_id or answer.id,
    )


def _parts(blocks: Iterable[Any]) -> Iterable[Part]:
    for block in blocks:
        if block.type == "text":
            yield Text(text=block.text)
        elif block.type == "tool_use":
            if not isinstance(block.input, dict):
                message = f"the arguments of {block.name!r} are no object: nothing of the answer is acted on"
                raise ModelError(message, ErrorCode.MODEL_STREAM_BROKEN)
            arguments = cast("dict[str, Any]", block.input)
            yield ToolCall(id=block.id, tool=block.name, arguments=arguments)
        elif block.type in {"thinking", "redacted_thinking"}:
            yield Thinking(raw=block.model_dump(mode="json", exclude_none=True))
        else:
            message = f"the answer holds a {block.type!r} block: tools that run at the provider are not allowed"
            raise ModelError(message, ErrorCode.MODEL_REQUEST_INVALID)


def _message_to_api(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": [_part_to_api(part) for part in message.parts]}


def _part_to_api(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Thinking():
            return dict(part.raw)
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.tool, "input": part.arguments}
        case ToolResult():
            return {"type": "tool_result", "tool_use_id": part.id, "content": part.text, "is_error": part.failed}


def _tool_to_api(tool: ToolSchema) -> dict[str, Any]:
    api: dict[str, Any] = {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
    if tool.examples:
        api["input_examples"] = list(tool.examples)
    return api


def _status_error(model: str, error: anthropic.APIStatusError) -> ModelError:
    code = STATUS_CODES.get(error.status_code, ErrorCode.MODEL_UNAVAILABLE)
    hint = f": {HINTS[code]}" if code in HINTS else ""
    message = f"{model} answered {error.status_code} (request {error.request_id}): {error.message}{hint}"
    retry_after = retry_after_seconds(error.response.headers.get("retry-after"))
    return ModelError(message, code, retry_after=retry_after, request_id=error.request_id)
