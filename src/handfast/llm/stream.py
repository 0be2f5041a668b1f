"""A provider's stream put together: what arrives block by block becomes one answer, or what is wrong with it."""

from dataclasses import dataclass, field
from typing import Any, Literal, cast

from handfast.contracts.errors import ErrorCode, ModelError
from handfast.contracts.messages import Message, ModelRequest, ModelResponse, Part, Text, Thinking, ToolCall
from handfast.llm.answer import MAX_CHARACTERS, TOO_LARGE
from handfast.llm.arguments import RECORDED, ArgumentFault, read_arguments
from handfast.llm.usage import token_count, usage_of

Kind = Literal["text", "call", "thinking", "other"]
DAMAGED = "damaged_stream"
"""The stop reason of an answer whose stream was in disorder: nothing of it is acted on."""
MAX_BLOCKS = 10_000
"""Blocks in one answer."""
FIELDS: dict[Kind, frozenset[str]] = {
    "text": frozenset({"text"}),
    "call": frozenset({"arguments"}),
    "thinking": frozenset({"thinking", "signature"}),
    "other": frozenset(),
}
"""What each kind of block is made of."""


@dataclass
class _Block:
    kind: Kind
    id: str = ""
    name: str = ""
    given: Any = None
    """The arguments that came with the beginning of a call."""
    raw: dict[str, Any] = field(default_factory=dict[str, Any])
    """The beginning of a reasoning block."""
    pieces: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    open: bool = True
    fault: str = ""

    def joined(self, name: str) -> str:
        return "".join(self.pieces.get(name, ()))


@dataclass
class AnswerStream:
    """One answer while it arrives. A provider's adapter says what has come; `response` gives the whole.

    Disorder, such as a block that begins twice or a piece of a block that never began, makes the answer a damaged one:
    what is missing can't be known, so nothing of it may be acted on.
    """

    model: str = ""
    request_id: str = ""
    counts: dict[str, int] = field(default_factory=dict[str, int])
    """The usage as the provider has stated it, by the names of `Usage`."""
    damage: str = ""
    """What was in disorder first."""
    ended: bool = False
    """The provider has said that the answer is over."""
    too_large: bool = False
    """It is larger than allowed: what follows is left out, and need not be read."""
    begun: bool = False
    """Its beginning has arrived."""
    _reason: str = ""
    _blocks: dict[int, _Block] = field(default_factory=dict[int, _Block])
    _characters: int = 0

    def begin(self, *, model: str = "", request_id: str = "") -> None:
        """The answer begins."""
        if self.begun:
            self.spoil("the answer began twice")
        self.begun, self.model, self.request_id = True, model, request_id

    def start(
        self,
        index: int,
        kind: Kind,
        *,
        id: str = "",  # noqa: A002 - the provider's word
        name: str = "",
        text: str = "",
        given: Any = None,
        raw: dict[str, Any] | None = None,
    ) -> None:
        """A block begins, with what its beginning holds."""
        if index in self._blocks:
            self.spoil(f"block {index} began twice")
            return
        if self._reason:
            self.spoil(f"block {index} began behind the stop reason")
        if index < 0 or len(self._blocks) >= MAX_BLOCKS:
            self.spoil(f"block {index} is one too many" if index >= 0 else f"block {index} can't be")
            return
        self._blocks[index] = _Block(kind, id=id, name=name, given=given, raw=raw or {})
        if text:
            self.add(index, "text", text)

    def add(self, index: int, name: str, piece: str) -> None:
        """A piece of a block's text, arguments, reasoning or signature."""
        block = self._blocks.get(index)
        if block is None or not block.open:
            self.spoil(f"a piece came {'before the beginning' if block is None else 'behind the end'} of block {index}")
            return
        if block.kind == "other":
            return
        if name not in FIELDS[block.kind]:
            self.spoil(f"a piece of {name} came for block {index}, which is {block.kind}")
            return
        self._characters += len(piece)
        if self._characters > MAX_CHARACTERS:
            self.too_large = True
        elif name == "signature":
            block.pieces[name] = [piece]
        else:
            block.pieces.setdefault(name, []).append(piece)

    def unknown_piece(self, index: int) -> None:
        """A piece of a kind that is not known. Of a call it may be a part of the arguments; elsewhere it is passed over."""
        block = self._blocks.get(index)
        if block is not None and block.kind == "call":
            block.fault = block.fault or "a part of them came in an unknown form"

    def stop(self, index: int) -> None:
        """A block ends. That it ends twice says nothing new."""
        if index in self._blocks:
            self._blocks[index].open = False
        else:
            self.spoil(f"block {index} ended without a beginning")

    def stopped(self, reason: str) -> None:
        """The provider says why the model stopped."""
        if self._reason and self._reason != reason:
            self.spoil("two different stop reasons came")
        self._reason = reason

    def count(self, counts: dict[str, Any]) -> None:
        """The usage so far. What was used does not become less: proxies state 0 at the end for what they stated at the beginning."""
        for name, value in counts.items():
            if (count := token_count(value)) is not None:
                self.counts[name] = max(count, self.counts.get(name, 0))

    def end(self) -> None:
        """The answer is over; what follows is not read."""
        self.ended = True

    def spoil(self, damage: str) -> None:
        """Something was in disorder."""
        self.damage = self.damage or damage

    def response(self, request: ModelRequest) -> ModelResponse:
        """The whole answer.

        Raises:
            ModelError: It broke off before its end: asking again may heal that.
        """
        if not self.ended and not self.too_large:
            identity = f" (request {self.request_id})" if self.request_id else ""
            message = f"{request.model}'s answer broke off{identity}: nothing of it is acted on"
            raise ModelError(message, ErrorCode.MODEL_STREAM_BROKEN, request_id=self.request_id or None)
        parts = tuple(part for index in sorted(self._blocks) for part in _part_of(self._blocks[index]))
        whole = Message(role="assistant", parts=parts)
        reason = TOO_LARGE if self.too_large else DAMAGED if self.damage else self._reason
        # Of what was not read to its end, the number of tokens written is not known either.
        counts = {**self.counts, "output_tokens": None} if self.too_large else self.counts
        usage = usage_of(counts, request, whole)
        return ModelResponse(
            message=whole, stop_reason=reason, usage=usage, model=self.model, request_id=self.request_id or None
        )


def _part_of(block: _Block) -> list[Part]:
    match block.kind:
        case "text":
            return [Text(text=block.joined("text"))]
        case "call":
            return [_call_of(block)]
        case "thinking":
            whole = {name: "".join(pieces) for name, pieces in block.pieces.items()}
            return [Thinking(raw={**block.raw, **whole})]
        case "other":
            return []


def _call_of(block: _Block) -> ToolCall:
    text = block.joined("arguments")
    try:
        arguments = _arguments_of(block, text)
    except ArgumentFault as fault:
        raw = text or ("" if block.given is None else repr(block.given))
        return ToolCall(id=block.id, tool=block.name, arguments={}, fault=str(fault), raw=raw[:RECORDED])
    return ToolCall(id=block.id, tool=block.name, arguments=arguments)


def _arguments_of(block: _Block, text: str) -> dict[str, Any]:
    if block.open:
        msg = "they were cut off: the call never ended"
        raise ArgumentFault(msg)
    if block.fault:
        raise ArgumentFault(block.fault)
    if block.given is None or block.given == {}:
        return read_arguments(text)
    if not isinstance(block.given, dict):
        msg = "they came as something other than a JSON object"
        raise ArgumentFault(msg)
    given = cast("dict[str, Any]", block.given)
    if text and read_arguments(text) != given:
        msg = "they came twice, and differ"
        raise ArgumentFault(msg)
    return given
