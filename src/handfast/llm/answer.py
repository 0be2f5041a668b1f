"""The answer of any model, made fit to be judged and stored. Every answer passes here once, whoever gave it."""

import json
from collections.abc import Iterable
from typing import Any

from handfast.contracts.errors import ErrorCode, ModelError
from handfast.contracts.messages import Message, ModelRequest, ModelResponse, Part, Text, Thinking, ToolCall
from handfast.contracts.texts import clean_text, printable
from handfast.llm.arguments import ArgumentFault, usable
from handfast.llm.unique import UniqueNames
from handfast.llm.usage import usage_of

MAX_CHARACTERS = 8_000_000
"""Of one answer: text, reasoning, and arguments; far more than the longest answer of today's models takes."""
EXCERPT = 4000
"""Characters of each part that are kept of an answer which is larger."""
TOO_LARGE = "answer_too_large"
"""The stop reason of such an answer: nothing of it is acted on."""
MAX_ID = 128
"""Characters of a call's id, of a model's name, and of a request's id."""
MAX_NAME = 128
"""Characters of a tool's name. The names of contracts are shorter."""
MAX_REASON = 64
"""Characters of a stop reason."""


def normalize(response: Any, request: ModelRequest) -> ModelResponse:
    """A model's answer with every part valid, bounded and storable.

    Calls whose arguments are no JSON object get a fault, ids are made unique within the answer, lone surrogates are
    replaced, and a usage that is missing is estimated.

    Raises:
        ModelError: A model of one's own returned something that is no `ModelResponse`.
    """
    if not isinstance(response, ModelResponse):
        message = f"model {request.model} returned {type(response).__name__}; allowed is a ModelResponse"
        raise ModelError(message, ErrorCode.INTERNAL)
    try:
        return _normalized(response, request)
    except Exception as error:
        message = f"model {request.model} returned a ModelResponse that holds what it can't ({type(error).__name__})"
        raise ModelError(message, ErrorCode.INTERNAL) from error


def _normalized(response: ModelResponse, request: ModelRequest) -> ModelResponse:
    parts, reason = tuple(_valid_parts(response.message.parts)), _short(response.stop_reason or "", MAX_REASON)
    if reason == TOO_LARGE or sum(map(_size, parts)) > MAX_CHARACTERS:
        parts, reason = tuple(part for whole in parts for part in _excerpt(whole)), TOO_LARGE
    message = Message(role="assistant", parts=parts)
    counts = {} if response.usage is None else response.usage.model_dump()
    return ModelResponse(
        message=message,
        stop_reason=reason,
        usage=usage_of(counts, request, message),
        model=_short(response.model or "", MAX_ID),
        request_id=_short(response.request_id, MAX_ID) if response.request_id else None,
    )


def _valid_parts(parts: Iterable[Part]) -> Iterable[Part]:
    ids = UniqueNames(MAX_ID)
    for part in parts:
        match part:
            case Text():
                yield Text(text=clean_text(part.text))
            case Thinking():
                yield from _thinking(part)
            case ToolCall():
                yield _call(part, ids.take(_short(part.id, MAX_ID) or "call"))
            case _:
                # Results are what the engine tells the model: an answer that brings one along has made it up.
                continue


def _thinking(part: Thinking) -> Iterable[Thinking]:
    """A reasoning block as it came; none where it would have to be changed, since its provider signs it."""
    try:
        raw = usable(part.raw)
    except ArgumentFault:
        return
    # In ASCII a pair of surrogates is written like the character that it stands for.
    if json.dumps(raw) == json.dumps(part.raw):
        yield Thinking(raw=raw)


def _call(call: ToolCall, identity: str) -> ToolCall:
    raw = clean_text(call.raw)[:EXCERPT]
    name = _short(call.tool, MAX_NAME)
    if call.fault:
        return ToolCall(id=identity, tool=name, arguments={}, fault=_short(call.fault, 300), raw=raw)
    try:
        return ToolCall(id=identity, tool=name, arguments=usable(call.arguments))
    except ArgumentFault as fault:
        return ToolCall(id=identity, tool=name, arguments={}, fault=str(fault), raw=raw or _shown(call.arguments))


def _shown(arguments: Any) -> str:
    try:
        return clean_text(repr(arguments))[:EXCERPT]
    except Exception:  # noqa: BLE001 - it is only for the record, and the values are somebody else's classes
        return ""


def _short(text: str, limit: int) -> str:
    return printable(clean_text(text[:limit])).replace("\n", "�")


def _size(part: Part) -> int:
    match part:
        case Text():
            return len(part.text)
        case ToolCall():
            return len(part.raw) + len(json.dumps(part.arguments))
        case Thinking():
            return len(json.dumps(part.raw))
        case _:
            return 0


def _excerpt(part: Part) -> Iterable[Part]:
    match part:
        case Text():
            yield Text(text=part.text[:EXCERPT])
        case ToolCall():
            raw = part.raw or _shown(part.arguments)
            yield ToolCall(id=part.id, tool=part.tool, arguments={}, fault="the answer was too large", raw=raw)
        case _:
            return
