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


def narrowed(schema: Schema, path: Sequence[str | int], *, null: bool) -> Schema:
    """The schema of the same value where it is known that something is at a path, and whether that may be null."""
    definitions = schema.get("$defs", {})
    made = _narrowed(schema, tuple(path), definitions, null=null)
    return {**made, "$defs": definitions} if definitions else made


def declared(value: Any, schema: Schema) -> Any:
    """A JSON value in which every number that its schema declares as `number` is a float: JSON writes 3.0 as 3, too."""
    return _declared(value, schema, schema.get("$defs", {}))


def types_of(schema: Schema | None) -> frozenset[str]:
    """The JSON types that a schema allows; empty where that is not known."""
    return frozenset[str]() if schema is None else _types(schema, schema.get("$defs", {}))


def _types(schema: Schema, definitions: Mapping[str, Schema]) -> frozenset[str]:
    schema = _resolve(schema, definitions)
    alternatives = _alternatives(schema)
    if alternatives:
        found = [_types(one, definitions) for one in alternatives]
        return frozenset[str]().union(*found) if all(found) else frozenset()
    kind = schema.get("type")
    return frozenset({kind}) if isinstance(kind, str) else frozenset()


def _alternatives(schema: Schema) -> list[Schema]:
    kind = schema.get("type")
    if isinstance(kind, list):
        return [{**schema, "type": one} for one in cast("list[str]", kind)]
    return [*schema.get("anyOf", ()), *schema.get("oneOf", ())]


def _narrowed(schema: Schema, path: tuple[str | int, ...], definitions: Mapping[str, Schema], *, null: bool) -> Schema:
    schema = _resolve(schema, definitions)
    if not path and null:
        return schema
    alternatives = _alternatives(schema)
    if alternatives:
        left = [one for one in alternatives if _resolve(one, definitions).get("type") != "null"]
        made = [_narrowed(one, path, definitions, null=null) for one in left]
        return made[0] if len(made) == 1 else {"anyOf": made}
    if not path:
        return schema
    place, rest = path[0], path[1:]
    if isinstance(place, str) and place in schema.get("properties", {}):
        inner = _narrowed(schema["properties"][place], rest, definitions, null=null)
        required = sorted({*schema.get("required", ()), place})
        return {**schema, "properties": {**schema["properties"], place: inner}, "required": required}
    if isinstance(place, int) and "items" in schema:
        first = [*schema.get("prefixItems", ())]
        first += [schema["items"]] * (place + 1 - len(first))
        first[place] = _narrowed(first[place], rest, definitions, null=null)
        return {**schema, "prefixItems": first}
    return schema


def _declared(value: object, schema: Schema, definitions: Mapping[str, Schema]) -> object:
    schema = _resolve(schema, definitions)
    alternatives = _alternatives(schema)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        found = _types(schema, definitions)
        return float(value) if "number" in found and "integer" not in found and abs(value) < 1 << 1023 else value
    if alternatives:
        kind = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else ""
        fitting = [one for one in alternatives if _types(one, definitions) == frozenset({kind})]
        if len(fitting) == 1:
            return _declared(cast("dict[str, object] | list[object]", value), fitting[0], definitions)
        return cast("dict[str, object] | list[object]", value)
    if isinstance(value, dict):
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
        other = cast("Schema", extra) if isinstance(extra, dict) else {}
        named = cast("dict[str, object]", value)
        return {name: _declared(inner, properties.get(name, other), definitions) for name, inner in named.items()}
    if isinstance(value, list):
        first, other = schema.get("prefixItems", ()), cast("Schema", schema.get("items") or {})
        return [
            _declared(inner, first[place] if place < len(first) else other, definitions)
            for place, inner in enumerate(cast("list[object]", value))
        ]
    return value


def _step(schema: Schema, place: str | int, definitions: Mapping[str, Schema]) -> Schema:
    alternatives = _alternatives(schema)
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
            first = schema.get("prefixItems", ())
            return cast("Schema", first[place] if place < len(first) else schema.get("items") or {})
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
