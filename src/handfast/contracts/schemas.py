"""Comparing two JSON Schemas: where a value that fits the one need not fit the other.

Made for the schemas that pydantic writes. What it does not know it calls a change, never compatible.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

Schema = dict[str, Any]
ANNOTATIONS = frozenset({"title", "description", "examples", "default", "deprecated", "$defs", "discriminator"})
"""Keywords that allow and forbid nothing."""
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
KNOWN = frozenset(
    {*ANNOTATIONS, *LOWER, *UPPER, "type", "enum", "const", "anyOf", "oneOf", "$ref"}
    | {"properties", "required", "additionalProperties", "items"}
)


class Narrowing(NamedTuple):
    """A place where fewer values are allowed than before."""

    path: str
    keyword: str
    before: Any
    after: Any


class Comparison:
    """Two schemas with their definitions, compared in one direction."""

    def __init__(self, before: Schema, after: Schema) -> None:
        self._before = before
        self._after = after
        self._under_way: set[tuple[str, str]] = set()
        """Pairs of definitions that are being compared: a type that holds itself agrees as far as the rest of it does."""

    def narrowings(self) -> list[Narrowing]:
        """Why a value that fits `before` need not fit `after`; empty if every such value fits."""
        return [*self._compare("", self._before, self._after)]

    def _compare(self, path: str, before: Schema, after: Schema) -> Iterator[Narrowing]:
        pair = (str(before.get("$ref", "")), str(after.get("$ref", "")))
        if all(pair):
            if pair in self._under_way:
                return
            self._under_way.add(pair)
        try:
            yield from self._compare_resolved(path, _resolved(before, self._before), _resolved(after, self._after))
        finally:
            self._under_way.discard(pair)

    def _compare_resolved(self, path: str, before: Schema, after: Schema) -> Iterator[Narrowing]:
        if any(keyword in schema for schema in (before, after) for keyword in ("anyOf", "oneOf")):
            yield from self._branches(path, before, after)
            return
        if mismatch := _type_mismatch(path, before, after):
            yield mismatch
            return
        yield from _values(path, before, after)
        yield from _bounds(path, before, after)
        for keyword in sorted((before.keys() | after.keys()) - KNOWN):
            if after.get(keyword) is not None and before.get(keyword) != after[keyword]:
                yield Narrowing(path, keyword, before.get(keyword), after[keyword])
        yield from self._properties(path, before, after)
        if "items" in after:
            yield from self._compare(f"{path}[]", before.get("items", {}), after["items"])

    def _branches(self, path: str, before: Schema, after: Schema) -> Iterator[Narrowing]:
        """Each alternative of the one must fit an alternative of the other."""
        for branch in _alternatives(before):
            options = [[*self._compare(path, branch, option)] for option in _alternatives(after)]
            if all(options):
                if len(_alternatives(before)) == len(options) == 1:
                    yield from options[0]
                else:
                    yield Narrowing(path, "type", _name(before), _name(after))
                    return

    def _properties(self, path: str, before: Schema, after: Schema) -> Iterator[Narrowing]:
        old, new = before.get("properties", {}), after.get("properties", {})
        closed = after.get("additionalProperties") is False
        for name, schema in old.items():
            if name in new:
                yield from self._compare(_join(path, name), schema, new[name])
            elif closed:
                yield Narrowing(_join(path, name), "properties", "allowed", None)
        extra = before.get("additionalProperties", True)
        unnamed = cast("Schema", extra) if isinstance(extra, dict) else {}
        if extra is not False:
            for name in sorted(new.keys() - old.keys()):
                yield from self._compare(_join(path, name), unnamed, new[name])
        for name in after.get("required", ()):
            if name not in before.get("required", ()):
                yield Narrowing(_join(path, name), "required", None, "required")
        allowed = after.get("additionalProperties", True)
        if isinstance(allowed, dict):
            for name in sorted(old.keys() - new.keys()):
                yield from self._compare(_join(path, name), old[name], cast("Schema", allowed))
        if extra is not False and "object" in (_type_names(before) or {"object"}):
            if allowed is False:
                yield Narrowing(path, "additionalProperties", True, False)
            elif isinstance(allowed, dict):
                yield from self._compare(f"{path}.*", unnamed, cast("Schema", allowed))


def closed(schema: Schema) -> Schema:
    """A schema that allows only the properties it names: what somebody who goes by it sends."""
    made: Schema = {}
    for keyword, value in schema.items():
        match keyword:
            case "properties" | "$defs":
                made[keyword] = {name: closed(inner) for name, inner in value.items()}
            case "anyOf" | "oneOf":
                made[keyword] = [closed(inner) for inner in value]
            case "items" | "additionalProperties" if isinstance(value, dict):
                made[keyword] = closed(cast("Schema", value))
            case _:
                made[keyword] = value
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def unknown_fields(schema: Schema, value: Any) -> list[str]:
    """The paths of an object's fields, and of what it holds, that a schema does not name although it names others."""
    return [*_unknown(schema, schema, value, "")]


def _unknown(root: Schema, schema: Schema, value: Any, path: str) -> Iterator[str]:
    schema = _resolved(schema, root)
    alternatives = _alternatives(schema)
    if len(alternatives) > 1:
        found = [[*_unknown(root, one, value, path)] for one in alternatives if _may_be(_resolved(one, root), value)]
        yield from min(found, key=len) if found else ()
    elif isinstance(value, dict) and "properties" in schema:
        extra = schema.get("additionalProperties", False)
        for name, inner in cast("dict[str, Any]", value).items():
            if name in schema["properties"]:
                yield from _unknown(root, schema["properties"][name], inner, _join(path, name))
            elif extra is False:
                yield _join(path, name)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for inner in cast("list[object]", value):
            yield from _unknown(root, schema["items"], inner, f"{path}[]")


def _may_be(schema: Schema, value: Any) -> bool:
    """Whether a value is of a kind that a schema speaks of."""
    kind = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else ""
    return not kind or kind in (_type_names(schema) or {kind})


def _values(path: str, before: Schema, after: Schema) -> Iterator[Narrowing]:
    allowed = _enumerated(after)
    if allowed is None:
        return
    had = _enumerated(before)
    if had is None:
        yield Narrowing(path, "enum", None, allowed)
    elif gone := [value for value in had if value not in allowed]:
        yield Narrowing(path, "enum", gone, None)


def _type_mismatch(path: str, before: Schema, after: Schema) -> Narrowing | None:
    """That the one allows a type that the other does not, or anything where the other allows less. Then nothing else counts."""
    old, new = _type_names(before), _type_names(after)
    anything = not before.keys() - ANNOTATIONS and bool(after.keys() - ANNOTATIONS)
    wider = new and (not old or any(name not in new and not (name == "integer" and "number" in new) for name in old))
    return Narrowing(path, "type", _name(before), _name(after)) if anything or wider else None


def _bounds(path: str, before: Schema, after: Schema) -> Iterator[Narrowing]:
    for keywords, tighter in ((LOWER, 1), (UPPER, -1)):
        for keyword in keywords:
            bound = after.get(keyword)
            if bound is None or _implied(keyword, before, bound, tighter):
                continue
            yield Narrowing(path, keyword, before.get(keyword), bound)


def _implied(keyword: str, before: Schema, bound: float, tighter: int) -> bool:
    """Whether a bound follows from the bounds there were."""
    had = before.get(keyword)
    if had is not None and (had - bound) * tighter >= 0:
        return True
    inclusive = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}.get(keyword)
    exclusive = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}.get(keyword)
    if inclusive and before.get(inclusive) is not None:
        return bool((before[inclusive] - bound) * tighter >= 0)
    if exclusive and before.get(exclusive) is not None:
        return bool((before[exclusive] - bound) * tighter > 0)
    return False


def _resolved(schema: Schema, root: Schema) -> Schema:
    """The schema behind a reference."""
    while "$ref" in schema:
        name = str(schema["$ref"]).removeprefix("#/$defs/")
        schema = root["$defs"][name]
    return schema


def _alternatives(schema: Schema) -> list[Schema]:
    return [*schema.get("anyOf", ()), *schema.get("oneOf", ())] or [schema]


def _enumerated(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _type_names(schema: Schema) -> set[str]:
    named = schema.get("type")
    if named is None:
        return set()
    return {named} if isinstance(named, str) else set(named)


def _name(schema: Schema) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if len(alternatives := _alternatives(schema)) > 1:
        return " or ".join(sorted(map(_name, alternatives)))
    return " or ".join(sorted(_type_names(schema))) or "anything"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
