"""A real HTTP server on loopback that speaks the stream of Anthropic's Messages API, and refuses what the real one would."""

import json
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback import Answer, Loopback, body_of
from tests.valid_requests import request_faults


class Api(Loopback):
    """Gives the answer that a test decides, and remembers what it was sent and when."""

    def __init__(self, *answers: Answer) -> None:
        self.reply: Answer = lambda handler: None
        self.answers = list(answers)
        """Given first, one a request; then `reply`."""
        self.seen: list[dict[str, Any]] = []
        self.seen_at: list[float] = []
        self.refused: list[str] = []
        """What was wrong with requests. They are answered with 400, and `stop` raises."""
        super().__init__(self._answer)

    def stop(self) -> None:
        super().stop()
        assert not self.refused, f"requests that the Messages API refuses: {self.refused}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.seen.append(json.loads(body_of(request)))
        self.seen_at.append(time.monotonic())
        if faults := request_faults(self.seen[-1]):
            self.refused += faults
            failure(400, "invalid_request_error", "; ".join(faults)[:400])(request)
            return
        answer = self.answers.pop(0) if self.answers else self.reply
        answer(request)


def start(**usage: int) -> dict[str, Any]:
    counted = {"input_tokens": 10, "output_tokens": 1, **usage}
    message: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-20260101", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": counted,
    }  # fmt: skip
    return {"type": "message_start", "message": message}


def block(index: int, begin: dict[str, Any], *deltas: dict[str, Any], end: bool = True) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [{"type": "content_block_start", "index": index, "content_block": begin}]
    events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [*events, {"type": "content_block_stop", "index": index}] if end else events


def finish(reason: str | None, output_tokens: int = 7) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": output_tokens}},
        {"type": "message_stop"},
    ]


def sse(event: dict[str, Any]) -> bytes:
    """An event as its bytes."""
    kind = event.get("type")
    name = f"event: {kind}\n" if isinstance(kind, str) else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def stream(*events: dict[str, Any]) -> Answer:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("request-id", "req_42")
        handler.end_headers()
        for event in events:
            handler.wfile.write(sse(event))

    return reply


def status(code: int, **headers: str) -> Answer:
    return failure(code, "x", "so it is", **headers)


def failure(code: int, kind: str, message: str, **headers: str) -> Answer:
    """A call that failed."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
        handler.send_response(code)
        for name, value in {"request-id": "req_42", "content-length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def words(text: str) -> Answer:
    """A whole answer of words."""
    return stream(
        start(), *block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": text}), *finish("end_turn")
    )


def tool_use(call_id: str, tool: str, **arguments: Any) -> Answer:
    """A whole answer that thinks and calls a tool."""
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    call: dict[str, Any] = {"type": "tool_use", "id": call_id, "name": tool, "input": {}}
    return stream(
        start(),
        *block(
            0, thinking, {"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "s"}
        ),
        *block(1, call, {"type": "input_json_delta", "partial_json": json.dumps(arguments)}),
        *finish("tool_use"),
    )


def say(*pieces: str) -> tuple[dict[str, Any], ...]:
    """A block of text, as its beginning and its deltas."""
    return ({"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def call(call_id: str, tool: str, *pieces: str) -> tuple[dict[str, Any], ...]:
    """A block of a tool call, with its arguments as they are written."""
    begin: dict[str, Any] = {"type": "tool_use", "id": call_id, "name": tool, "input": {}}
    return (begin, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces))


def answer(*blocks: tuple[dict[str, Any], ...], stop: str = "tool_use") -> Answer:
    """A whole answer of these blocks."""
    return stream(start(), *(event for n, one in enumerate(blocks) for event in block(n, *one)), *finish(stop))


def cut_off(call_id: str, tool: str, beginning: str) -> Answer:
    """A stream that breaks in the middle of a call's arguments."""
    call: dict[str, Any] = {"type": "tool_use", "id": call_id, "name": tool, "input": {}}
    return stream(start(), *block(0, call, {"type": "input_json_delta", "partial_json": beginning}, end=False))
