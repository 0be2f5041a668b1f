"""A request of the Messages API that is valid whatever the transcript holds.

The rules, each with its source. "Docs" is https://platform.claude.com/docs/en, "answers" are the API's own, with which it refuses
a request that breaks the rule.

- The first message is the user's, roles take turns (docs: api/messages; same-role neighbours are merged), and the last one is
  the user's: current models refuse to go on from words in their mouth (docs: about-claude/models/migration-guide, prefill).
- No message is empty, and no text is blank (answers: "messages: text content blocks must be non-empty", "… must contain
  non-whitespace text").
- Every `tool_use` has its `tool_result` in the next message, before any text (docs: agents-and-tools/tool-use/implement-tool-use),
  and no `tool_result` stands without (answers: "unexpected `tool_use_id` found in `tool_result` blocks").
- The id of a `tool_use` is unique in the request and matches `[a-zA-Z0-9_-]+` (answers: "`tool_use` ids must be unique", "String
  should match pattern"). A name matches `[a-zA-Z0-9_-]{1,128}` (docs: define-tools).
- Calls and results need `tools` (answers: "Requests which include `tool_use` or `tool_result` blocks must define tools");
  `tool_choice` goes with `tools` only.
- Reasoning comes first in its message and goes back unchanged, with its signature (docs: build-with-claude/extended-thinking).
- At most four breakpoints of the prompt cache, none on an empty block or on reasoning (docs: build-with-claude/prompt-caching).
- Text is valid Unicode: a JSON body is UTF-8 (RFC 8259, section 8.1).
"""

import json
import re
from collections import deque
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from handfast.contracts.messages import Message, ModelRequest, Part, Text, Thinking, ToolCall, ToolResult, ToolSchema
from handfast.contracts.texts import clean_text
from handfast.llm.anthropic.schemas import as_text, input_schema, output_format
from handfast.llm.arguments import ArgumentFault, usable
from handfast.llm.unique import UniqueNames

CACHE = {"type": "ephemeral"}
FORBIDDEN = re.compile(r"[^a-zA-Z0-9_-]")
MAX_NAME = 128
MAX_ID = 64
BEGINNING = "(from the engine) The conversation begins here."
NOTHING = "(from the engine) Nothing was said."
GO_ON = "(from the engine) Go on."
NO_ANSWER = "(no answer)"
NO_RESULT = "(from the engine) There is no result of this call."
EMPTY = "(empty)"
REASONING: dict[str, tuple[str, ...]] = {
    "thinking": ("type", "thinking", "signature"),
    "redacted_thinking": ("type", "data"),
}
"""The fields of reasoning blocks. Others are refused."""
Block = dict[str, Any]


def to_api(request: ModelRequest) -> dict[str, Any]:
    """The arguments of `messages.create`, with prompt-cache breakpoints after tools, instructions and transcript."""
    messages = _Conversation(has_tools=bool(request.tools)).messages(request.messages)
    messages[-1]["content"][-1]["cache_control"] = CACHE
    arguments: dict[str, Any] = {
        "model": request.model,
        "max_tokens": max(request.max_tokens, 1),
        "messages": messages,
    }
    wanted = None if request.output_schema is None else output_format(request.output_schema)
    if wanted is not None:
        arguments["output_config"] = {"format": wanted}
    if system := _system(request, as_words=wanted is None):
        arguments["system"] = [{"type": "text", "text": system, "cache_control": CACHE}]
    if request.tools:
        names = UniqueNames(MAX_NAME)
        arguments["tools"] = [_tool(tool, names) for tool in request.tools]
        arguments["tools"][-1]["cache_control"] = CACHE
        if not request.may_call_tools:
            arguments["tool_choice"] = {"type": "none"}
    return arguments


def _system(request: ModelRequest, *, as_words: bool) -> str:
    """The instructions; with the schema of the answer where nothing else asks for it."""
    texts = [clean_text(request.instructions)]
    if request.output_schema is not None and as_words:
        texts.append(as_text(request.output_schema))
    return "\n\n".join(text for text in texts if text.strip())


class _Conversation:
    """A transcript as messages of the API, one after the other, so that the same beginning gives the same messages."""

    def __init__(self, *, has_tools: bool) -> None:
        self._has_tools = has_tools
        self._ids = UniqueNames(MAX_ID)
        self._open: dict[str, deque[str]] = {}
        """Of the answer before: the ids that its calls are sent with, by the ids that they have."""

    def messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        turns = _taking_turns(messages)
        return [{"role": role, "content": self._content(role, parts)} for role, parts in turns]

    def _content(self, role: str, parts: Sequence[Part]) -> list[Block]:
        return self._answer(parts) if role == "assistant" else self._heard(parts)

    def _answer(self, parts: Sequence[Part]) -> list[Block]:
        self._open = {}
        reasoning = [block for part in parts if isinstance(part, Thinking) and (block := _reasoning(part))]
        blocks: list[Block] = []
        texts: list[Block] = []
        for part in parts:
            if isinstance(part, Thinking) and (block := _reasoning(part)):
                blocks.append(block)
            elif isinstance(part, Text) and (text := _text(part.text)):
                # Words behind a call come before it: what follows calls is their results.
                (texts if self._open else blocks).append(text)
            elif isinstance(part, ToolCall):
                blocks.append(self._call(part))
        first = next((index for index, block in enumerate(blocks) if block["type"] == "tool_use"), len(blocks))
        blocks[first:first] = texts
        if reasoning and blocks[0]["type"] not in REASONING:
            blocks.remove(reasoning[0])
            blocks.insert(0, reasoning[0])
        return blocks or [{"type": "text", "text": NO_ANSWER}]

    def _call(self, call: ToolCall) -> Block:
        arguments = _arguments(call)
        if not self._has_tools:
            return {
                "type": "text",
                "text": f"(called {_fitting(call.tool, MAX_NAME, 'a tool')}: {json.dumps(arguments)})",
            }
        identity = self._ids.take(_fitting(call.id, MAX_ID, "call"))
        self._open.setdefault(call.id, deque()).append(identity)
        return {
            "type": "tool_use",
            "id": identity,
            "name": _fitting(call.tool, MAX_NAME, "unnamed"),
            "input": arguments,
        }

    def _heard(self, parts: Sequence[Part]) -> list[Block]:
        results: dict[str, Block] = {identity: _result(identity) for ids in self._open.values() for identity in ids}
        texts: list[Block] = []
        for part in parts:
            if isinstance(part, ToolResult):
                if ids := self._open.get(part.id):
                    identity = ids.popleft()
                    results[identity] = _result(identity, part)
                else:
                    # Its call is not in the answer before: as words it is not lost.
                    texts.append({"type": "text", "text": f"(result of a call) {clean_text(part.text) or EMPTY}"})
            elif isinstance(part, Text) and (text := _text(part.text)):
                texts.append(text)
        self._open = {}
        return [*results.values(), *texts] or [{"type": "text", "text": NOTHING}]


def _taking_turns(messages: Sequence[Message]) -> list[tuple[str, tuple[Part, ...]]]:
    """Roles and parts: the user's first and last, and never the same role twice in a row."""
    merged = [
        (role, tuple(part for message in neighbours for part in message.parts))
        for role, neighbours in groupby(messages, key=lambda message: message.role)
    ]
    found: list[tuple[str, tuple[Part, ...]]] = [*merged]
    if not found:
        return [("user", (Text(text=NOTHING),))]
    if found[0][0] != "user":
        found.insert(0, ("user", (Text(text=BEGINNING),)))
    if found[-1][0] != "user":
        found.append(("user", (Text(text=GO_ON),)))
    return found


def _text(text: str) -> Block | None:
    return {"type": "text", "text": clean_text(text)} if text.strip() else None


def _reasoning(part: Thinking) -> Block | None:
    """A reasoning block as it came, or None where it can't go back: without its signature, or with half a character."""
    kind = part.raw.get("type")
    fields = REASONING.get(kind, ()) if isinstance(kind, str) else ()
    block = {name: part.raw.get(name) for name in fields}
    texts = [value for value in block.values() if isinstance(value, str) and clean_text(value) == value]
    proof = block.get(fields[-1]) if fields else ""
    return block if proof and len(texts) == len(fields) else None


def _result(identity: str, result: ToolResult | None = None) -> Block:
    """The result of a call; where there is none, that there is none."""
    content = NO_RESULT if result is None else clean_text(result.text)
    failed = result is None or result.failed
    return {
        "type": "tool_result",
        "tool_use_id": identity,
        "content": content if content.strip() else EMPTY,
        "is_error": failed,
    }


def _arguments(call: ToolCall) -> dict[str, Any]:
    try:
        return usable(call.arguments)
    except ArgumentFault:
        return {}


def _fitting(name: str, limit: int, otherwise: str) -> str:
    return FORBIDDEN.sub("_", name)[:limit] or otherwise


def _tool(tool: ToolSchema, names: UniqueNames) -> Block:
    block: Block = {
        "name": names.take(_fitting(tool.name, MAX_NAME, "unnamed")),
        "description": clean_text(tool.description),
        "input_schema": input_schema(tool.parameters),
    }
    if tool.examples:
        block["input_examples"] = list(tool.examples)
    return _valid_text(block)


def _valid_text(value: Block) -> Block:
    """A value whose texts are valid Unicode; almost always the value itself."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        valid: Block = json.loads(clean_text(json.dumps(value, ensure_ascii=False)))
        return valid
    return value
