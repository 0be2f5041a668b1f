"""Going down in a JSON Schema along the path of a value."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

Schema = dict[str, Any]


class NoSuchPlace(Exception):
    """A schema allows nothing at that path."""


def schema_at(schema: Schema, path: Sequence[str | int]) -> Schema:
    """The schema of what is at a path, with the definitions it needs; an empty one where anything may be.

    Raises:
        NoSuchPlace: Nothing may be there.
    """
    definitions = schema.get("$defs", {})
    for place in path:
        schema = _step(_resolve(schema, definitions), place, definitions)
    return {**schema, "$defs": definitions} if definitions else schema


def _step(schema: Schema, place: str | int, definitions: Mapping[str, Schema]) -> Schema:
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if alternatives:
        found: list[Schema] = []
        for one in alternatives:
            try:
                found.append(_step(_resolve(one, definitions), place, definitions))
            except NoSuchPlace:
                continue
        if not found:
            raise NoSuchPlace(_told(schema, place))
        return found[0] if len(found) == 1 else {"anyOf": found}
    kind = schema.get("type")
    if isinstance(place, int):
        if kind == "array":
            return cast("Schema", schema.get("items", {}))
        if kind is None:
            return {}
        raise NoSuchPlace(f"it is of type {kind}, not a list")
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties", {})
        if place in properties:
            return cast("Schema", properties[place])
        extra = schema.get("additionalProperties", not properties)
        if isinstance(extra, dict):
            return cast("Schema", extra)
        if extra:
            return {}
        raise NoSuchPlace(_told(schema, place))
    if kind is None:
        return {}
    raise NoSuchPlace(f"it is of type {kind}, and has no {place!r}")


def _told(schema: Schema, place: str | int) -> str:
    names = ", ".join(schema.get("properties", {})) or "nothing"
    return f"it has no {place!r}; it has {names}"


def _resolve(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    while "$ref" in schema:
        schema = definitions[str(schema["$ref"]).removeprefix("#/$defs/")]
    return schema
