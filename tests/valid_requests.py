"""What the Messages API refuses about a request, as far as it is known: one rule a function, written without a look at our adapter.

Sources: the API's documentation (https://platform.claude.com/docs/en), the SDK's parameter types, and answers of the API that
people have reported. Every request that a test sends to the loopback API is checked by these rules.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

Body = dict[str, Any]
Rule = Callable[[Body], Iterator[str]]
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
FIELDS = {
    "text": {"type", "text", "cache_control"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
    "tool_use": {"type", "id", "name", "input", "cache_control"},
    "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
}
UNSUPPORTED = {
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
    "maxItems", "uniqueItems", "oneOf", "not", "patternProperties", "default", "discriminator",
}  # fmt: skip
"""Keywords that structured outputs do not take (docs: build-with-claude/structured-outputs, "JSON Schema limitations")."""


def request_faults(body: Body) -> list[str]:
    """Everything that the API would refuse about a request; empty if it would take it."""
    return [f"{rule.__name__}: {fault}" for rule in RULES for fault in rule(body)]


def well_formed(body: Body) -> Iterator[str]:
    """JSON in UTF-8 without NaN (RFC 8259), of at most 32 MB (docs: api/errors, request_too_large)."""
    try:
        size = len(json.dumps(body, ensure_ascii=False, allow_nan=False).encode())
    except ValueError as error:
        yield str(error)[:200]
    else:
        if size > 32_000_000:
            yield f"{size} bytes"


def parameters(body: Body) -> Iterator[str]:
    """The SDK's `types/message_create_params.py`."""
    known = {"model", "max_tokens", "messages", "stream", "system", "tools", "tool_choice", "output_config"}
    yield from (f"unknown parameter {name}" for name in body.keys() - known)
    if not isinstance(body.get("model"), str) or not body["model"]:
        yield "no model"
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        yield f"max_tokens {body.get('max_tokens')!r}"


def roles(body: Body) -> Iterator[str]:
    """The user begins, the roles take turns, and the user ends: answers can't be begun for the model (docs: api/messages)."""
    found = [message.get("role") for message in body["messages"]]
    if not found or found[0] != "user" or found[-1] != "user":
        yield f"roles are {found}"
    yield from (f"two {one} messages in a row" for one, two in itertools.pairwise(found) if one == two)


def contents(body: Body) -> Iterator[str]:
    """No empty message, no blank text, no field that a block does not have ("Extra inputs are not permitted")."""
    for number, message in enumerate(body["messages"]):
        if message.keys() != {"role", "content"} or not isinstance(message["content"], list) or not message["content"]:
            yield f"message {number} has no content"
            continue
        for block in message["content"]:
            kind = block.get("type")
            if kind not in FIELDS or block.keys() - FIELDS[kind]:
                yield f"message {number}: block {kind!r} with {sorted(block)}"
            elif kind == "text" and not block["text"].strip():
                yield f"message {number}: blank text"
            elif kind == "tool_result" and not (isinstance(block["content"], str) and block["content"].strip()):
                yield f"message {number}: a result without content"
    for block in body.get("system", ()):
        if not block["text"].strip():
            yield "blank system text"


def belongings(body: Body) -> Iterator[str]:
    """Calls and reasoning are the assistant's, results are the user's."""
    for number, message in enumerate(body["messages"]):
        theirs = {"tool_result"} if message["role"] == "assistant" else {"tool_use", "thinking", "redacted_thinking"}
        yield from (f"message {number} holds {b['type']}" for b in message["content"] if b["type"] in theirs)


def calls(body: Body) -> Iterator[str]:
    """Names and ids ("String should match pattern", "`tool_use` ids must be unique"), and arguments that are an object."""
    seen: set[str] = set()
    for message in body["messages"]:
        for block in message["content"]:
            if block["type"] != "tool_use":
                continue
            if not CALL_ID.fullmatch(block["id"]) or block["id"] in seen:
                yield f"id {block['id']!r}"
            if not TOOL_NAME.fullmatch(block["name"]):
                yield f"name {block['name']!r}"
            if not isinstance(block["input"], dict):
                yield f"input {block['input']!r}"
            seen.add(block["id"])


def results(body: Body) -> Iterator[str]:
    """Each call has one result, in the very next message, before its text; no result is left over (docs: tool-use)."""
    asked: list[str] = []
    for number, message in enumerate(body["messages"]):
        kinds = [block["type"] for block in message["content"]]
        told = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        if sorted(told) != sorted(asked):
            yield f"message {number}: results of {told}, calls were {asked}"
        if kinds[: len(told)] != ["tool_result"] * len(told):
            yield f"message {number}: results do not come first: {kinds}"
        asked = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
    if asked:
        yield f"calls {asked} have no results"


def order(body: Body) -> Iterator[str]:
    """Reasoning comes first in an answer (docs: extended-thinking), and no text follows a call."""
    for number, message in enumerate(body["messages"]):
        kinds = [block["type"] for block in message["content"]]
        if any("thinking" in kind for kind in kinds) and "thinking" not in kinds[0]:
            yield f"message {number}: {kinds}"
        if "tool_use" in kinds and "text" in kinds[kinds.index("tool_use") :]:
            yield f"message {number}: text behind a call"


def reasoning(body: Body) -> Iterator[str]:
    """Reasoning goes back whole, with its signature ("signature: Field required")."""
    for message in body["messages"]:
        for block in message["content"]:
            if block["type"] == "thinking" and not (isinstance(block.get("thinking"), str) and block.get("signature")):
                yield "thinking without text or signature"
            if block["type"] == "redacted_thinking" and not block.get("data"):
                yield "redacted thinking without data"


def cache_breakpoints(body: Body) -> Iterator[str]:
    """At most four (docs: prompt-caching), and each `{"type": "ephemeral"}`."""
    blocks = [*body.get("system", ()), *body.get("tools", ())]
    blocks += [block for message in body["messages"] for block in message["content"]]
    marks = [block["cache_control"] for block in blocks if "cache_control" in block]
    if len(marks) > 4 or any(mark != {"type": "ephemeral"} for mark in marks):
        yield f"{marks}"


def tools(body: Body) -> Iterator[str]:
    """Tools are an unempty list of differently named ones with object schemas (docs: define-tools, answers about input_schema)."""
    if "tools" in body and not body["tools"]:
        yield "an empty list of tools"
    if "tool_choice" in body and "tools" not in body:
        yield "tool_choice without tools"
    if "tools" not in body and any(b["type"] == "tool_use" for m in body["messages"] for b in m["content"]):
        yield "calls without tools"
    names = [tool["name"] for tool in body.get("tools", ())]
    if len(set(names)) < len(names):
        yield f"two tools of one name: {names}"
    for tool in body.get("tools", ()):
        schema = tool["input_schema"]
        if not TOOL_NAME.fullmatch(tool["name"]):
            yield f"name {tool['name']!r}"
        if schema.get("type") != "object" or schema.keys() & {"oneOf", "anyOf", "allOf", "$ref"}:
            yield f"{tool['name']}: its schema is no plain object: {sorted(schema)}"
        yield from (f"property {name!r}" for name in schema.get("properties", {}) if not PROPERTY.fullmatch(name))
        if tool.keys() - {"name", "description", "input_schema", "input_examples", "cache_control", "type", "strict"}:
            yield f"{tool['name']}: {sorted(tool)}"


def output(body: Body) -> Iterator[str]:
    """A typed answer is asked for with a schema of the supported kind (docs: structured-outputs)."""
    wanted = body.get("output_config", {}).get("format")
    if wanted is None:
        return
    if wanted.get("type") != "json_schema" or wanted.keys() != {"type", "schema"}:
        yield f"format {wanted!r}"
    yield from _unsupported(wanted["schema"])
    text = json.dumps(wanted["schema"].get("$defs", {}))
    for name in wanted["schema"].get("$defs", {}):
        if f'"$ref": "#/$defs/{name}"' in json.dumps(wanted["schema"]["$defs"][name]):
            yield f"{name} holds itself"
    if text and wanted["schema"].get("type") != "object":
        yield "it is no object"


def _unsupported(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for inner in cast("Iterable[Any]", schema):
            yield from _unsupported(inner)
    elif isinstance(schema, dict):
        schema = cast("dict[str, Any]", schema)
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
            yield "an object without additionalProperties: false"
        if schema.get("minItems", 0) > 1:
            yield "minItems above 1"
        for name, inner in schema.items():
            if name in UNSUPPORTED:
                yield f"keyword {name}"
            if name in {"properties", "$defs"}:
                for one in inner.values():
                    yield from _unsupported(one)
            elif name in {"items", "anyOf", "allOf"}:
                yield from _unsupported(inner)


RULES: tuple[Rule, ...] = (
    well_formed, parameters, roles, contents, belongings, calls, results, order, reasoning, cache_breakpoints, tools, output,
)  # fmt: skip
