"""Schemas of tools and of typed answers, as the Messages API takes them."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, cast

import anthropic

from handfast.contracts.json_schema import root_resolved

UNIONS = ("oneOf", "anyOf", "allOf")
AS_TEXT = (
    "(from the engine) Your final answer must be one JSON value and nothing else: no other words, no code fence. "
    "It must fit this JSON schema: {schema}"
)


def input_schema(parameters: dict[str, Any]) -> dict[str, Any]:
    """The schema of a tool's arguments: an object, without a reference or a union at its top.

    A union there is left out: what does not fit it is denied when the call is judged, and the model is told.

    Source: the API's own answers: "input_schema.type: Field required", "input_schema does not support oneOf, allOf, or anyOf at
    the top level".
    """
    resolved = root_resolved(parameters)
    kept = {name: value for name, value in resolved.items() if name not in {*UNIONS, "$ref"}}
    return {**kept, "type": "object"}


def output_format(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The format of a typed answer, or None where structured outputs can't express it: see `AS_TEXT`.

    Of what the transform leaves out, such as the bounds of a number, the answer is checked when it is judged.

    Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs, "JSON Schema limitations".
    """
    resolved = root_resolved(schema)
    if resolved.get("type") != "object" or _is_recursive(resolved) or any(map(_is_free, _objects(resolved))):
        return None
    try:
        transformed = anthropic.transform_schema(resolved)
    except (ValueError, TypeError, AttributeError, AssertionError):
        # It has a part without a type, such as a field that may be anything.
        return None
    return {"type": "json_schema", "schema": transformed}


def as_text(schema: dict[str, Any]) -> str:
    """The same asked for in words."""
    return AS_TEXT.format(schema=json.dumps(schema))


def _is_free(schema: dict[str, Any]) -> bool:
    """Whether it is an object whose fields have any name: structured outputs allow only named ones."""
    return schema.get("type") == "object" and "properties" not in schema


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every schema within a schema, itself included. Examples and defaults count, too: that errs on the safe side."""
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        yield found
        for inner in found.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in cast("Iterable[Any]", value):
            yield from _objects(inner)


def _is_recursive(schema: dict[str, Any]) -> bool:
    """Whether a definition holds itself."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    uses = {name: _referred(inner) for name, inner in definitions.items()}

    def reaches(name: str, goal: str, seen: set[str]) -> bool:
        if name in seen:
            return False
        seen.add(name)
        return goal in uses.get(name, ()) or any(reaches(next_, goal, seen) for next_ in uses.get(name, ()))

    return any(reaches(name, name, set()) for name in uses)


def _referred(schema: Any) -> set[str]:
    refs = (found.get("$ref") for found in _objects(schema))
    return {ref.removeprefix("#/$defs/") for ref in refs if isinstance(ref, str)}
