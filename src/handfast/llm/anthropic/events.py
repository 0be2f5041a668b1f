"""The events of the Messages API's stream, as pieces of an answer. Nothing in them is trusted to have its documented form.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming, and the SDK's `types/raw_message_stream_event.py`.
"""

import json
import re
from typing import Any, cast

from handfast.contracts.errors import ErrorCode, ModelError
from handfast.llm.anthropic.failures import stream_failure
from handfast.llm.sse import ServerSentEvent
from handfast.llm.stream import AnswerStream

PROVIDER_SIDE = re.compile(r"(server_|mcp_)tool_use|.*_tool_result|container_upload")
"""Blocks of tools that ran at the provider, outside every contract, policy and record of ours."""
KNOWN = frozenset(
    {
        "",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    }
)
"""Events without which an answer is not whole; of one without a name that can't be told."""
COUNTS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
}
"""The names of our usage, and the API's."""
PIECES = {
    "text_delta": ("text", "text"),
    "input_json_delta": ("arguments", "partial_json"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
}
"""Kinds of pieces: what they belong to, and where they hold it."""


def read_event(event: ServerSentEvent, answer: AnswerStream, model: str) -> None:
    """Take an event into the answer. One of an unknown type says nothing; one that is no JSON object spoils the answer.

    Raises:
        ModelError: The event says that the call failed, or holds what a tool did at the provider.
    """
    data = _object_in(event.data)
    kind = data.get("type") or event.name
    if "error" in {kind, event.name}:
        raise stream_failure(model, data, answer.request_id)
    if not data:
        if event.name in KNOWN:
            answer.spoil("an event was no JSON object")
        return
    match kind:
        case "message_start":
            _begin(_dict(data.get("message")), answer)
        case "content_block_start":
            _start(_index(data), _dict(data.get("content_block")), answer)
        case "content_block_delta":
            _add(_index(data), _dict(data.get("delta")), answer)
        case "content_block_stop":
            answer.stop(_index(data))
        case "message_delta":
            answer.count(_counts(data.get("usage"), written=True))
            if (reason := _dict(data.get("delta")).get("stop_reason")) is not None:
                answer.stopped(str(reason))
        case "message_stop":
            answer.end()
        case _:
            return


def _begin(message: dict[str, Any], answer: AnswerStream) -> None:
    answer.begin(model=_text(message.get("model")), request_id=answer.request_id or _text(message.get("id")))
    # What was written so far is counted here, not the whole.
    answer.count(_counts(message.get("usage"), written=False))
    if message.get("content"):
        answer.spoil("the answer began with content")


def _start(index: int, block: dict[str, Any], answer: AnswerStream) -> None:
    kind = _text(block.get("type"))
    if kind == "text":
        answer.start(index, "text", text=_text(block.get("text")))
    elif kind == "tool_use":
        answer.start(index, "call", id=_text(block.get("id")), name=_text(block.get("name")), given=block.get("input"))
    elif kind in {"thinking", "redacted_thinking"}:
        answer.start(index, "thinking", raw={name: value for name, value in block.items() if value is not None})
    elif PROVIDER_SIDE.fullmatch(kind):
        message = f"the answer holds a {kind[:64]!r} block: tools that run at the provider are not allowed"
        raise ModelError(message, ErrorCode.MODEL_REQUEST_INVALID, request_id=answer.request_id or None)
    else:
        answer.start(index, "other")


def _add(index: int, delta: dict[str, Any], answer: AnswerStream) -> None:
    kind = _text(delta.get("type"))
    if kind not in PIECES:
        answer.unknown_piece(index)
        return
    name, where = PIECES[kind]
    piece = delta.get(where)
    if isinstance(piece, str):
        answer.add(index, name, piece)
    else:
        answer.spoil(f"a {kind} held no text")


def _counts(usage: Any, *, written: bool) -> dict[str, Any]:
    stated = _dict(usage)
    return {ours: stated.get(theirs) for ours, theirs in COUNTS.items() if written or ours != "output_tokens"}


def _object_in(data: str) -> dict[str, Any]:
    try:
        return _dict(json.loads(data))
    except (ValueError, RecursionError):
        return {}


def _dict(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _index(data: dict[str, Any]) -> int:
    """Which block an event is about; -1, which none is, where it does not say."""
    index = data.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else -1
