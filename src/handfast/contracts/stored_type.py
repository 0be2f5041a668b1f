"""A type as its values are stored: JSON objects under their aliases, lists, mappings, single values; read from pydantic's core schema.

What pydantic can't say, such as what a serializer without a return type writes, is `Anything`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

Schema = Mapping[str, Any]
SINGLE = frozenset(
    {
        "bool", "bytes", "complex", "date", "datetime", "decimal", "enum", "float", "fraction", "int", "literal", "multi-host-url",
        "str", "time", "timedelta", "url", "uuid",
    }
)  # fmt: skip
"""Kinds of core schemas whose values hold no others."""
LISTS = frozenset({"list", "set", "frozenset", "deque", "generator", "tuple"})
MAPPINGS = frozenset({"dict", "ordered-dict", "frozendict", "counter"})
INSIDE: Mapping[str, str] = {"json-or-python": "json_schema", "lax-or-strict": "strict_schema"}
"""Where a core schema has the one that its values are written by, if that is not under `schema`."""


class Member(NamedTuple):
    """A field of an object."""

    name: str
    """In Python."""
    stored: str
    """In JSON: the alias for serialization, else the name."""
    read_from: frozenset[str]
    """The names under which validation looks for it; empty if it takes none in."""
    schema: Schema
    computed: bool = False
    """It is made of other fields, and not read back."""
    left_out: bool = False
    """It is not stored."""
    required: bool = True

    @property
    def names(self) -> frozenset[str]:
        """Every name by which a contract may mean it."""
        return self.read_from | {self.name, self.stored}


@dataclass(frozen=True)
class Members:
    """An object with fields of its own."""

    title: str
    fields: tuple[Member, ...]
    more: bool
    """It may have other fields, which are not declared."""


@dataclass(frozen=True)
class Items:
    """A list; what its items may be."""

    of: tuple[Schema, ...]


@dataclass(frozen=True)
class Entries:
    """A mapping with any names; what its values are."""

    of: Schema


@dataclass(frozen=True)
class Single:
    """One value that holds no others."""


@dataclass(frozen=True)
class Anything:
    """Of this nothing is known."""


@dataclass(frozen=True)
class Nothing:
    """Null."""


Place = Members | Items | Entries | Single | Anything | Nothing
ANY: Schema = {"type": "any"}


class StoredType:
    """What the values of a type look like in JSON, dumped by alias.

    Raises:
        PydanticUserError: It is no type that pydantic can read.
    """

    def __init__(self, core_schema: Schema) -> None:
        self.root = core_schema
        self._definitions: dict[str, Schema] = {}

    def places(
        self, schema: Schema, config: Schema | None = None, seen: frozenset[str] = frozenset()
    ) -> Iterator[Place]:
        """What may be at a place: one of several where it is a union."""
        written = schema.get("serialization")
        if written is not None and not _is_of_pydantic(written):
            yield from self._written(written, schema, config, seen)
            return
        match kind := schema["type"]:
            case "none":
                yield Nothing()
            case "nullable":
                yield Nothing()
                yield from self.places(schema["schema"], config, seen)
            case "definitions":
                self._definitions |= {one["ref"]: one for one in schema["definitions"]}
                yield from self.places(schema["schema"], config, seen)
            case "definition-ref":
                if (ref := schema["schema_ref"]) not in seen:
                    yield from self.places(self._definitions[ref], None, seen | {ref})
            case "model" | "dataclass":
                yield from self.places(schema["schema"], schema.get("config", {}), seen)
            case "model-fields" | "dataclass-args" | "typed-dict":
                yield _members(schema, config or schema.get("config", {}))
            case "union" | "tagged-union":
                for choice in _choices(schema):
                    yield from self.places(choice, config, seen)
            case "chain":
                yield from self.places(schema["steps"][-1], config, seen)
            case _ if kind in LISTS:
                yield Items(_items(schema))
            case _ if kind in MAPPINGS:
                yield Entries(schema.get("values_schema", ANY))
            case _ if kind in SINGLE:
                yield Single()
            case _ if (inner := schema.get(INSIDE.get(kind, "schema"))) is not None and kind != "call":
                yield from self.places(inner, config, seen)
            case _:
                yield Anything()

    def _written(self, written: Schema, schema: Schema, config: Schema | None, seen: frozenset[str]) -> Iterator[Place]:
        """What a serializer writes, as far as it says so."""
        match written["type"]:
            case "function-plain" | "function-wrap":
                yield from self.places(written.get("return_schema", ANY), None, seen)
            case "include-exclude-sequence" | "include-exclude-dict":
                yield from self.places({**schema, "serialization": None}, config, seen)
            case "model":
                yield from self.places(written["schema"], None, seen)
            case "any":
                yield Anything()
            case _:
                yield Single()

    def may_be_null(self, schema: Schema) -> bool:
        """Whether null may be at a place."""
        return any(isinstance(place, Nothing) for place in self.places(schema))

    @cached_property
    def objects(self) -> tuple[Members, ...]:
        """Every object that its values may hold, near and far, each once."""
        found: dict[tuple[int, ...], Members] = {}
        visited: dict[int, Schema] = {}
        waiting = [self.root]
        while waiting:
            schema = waiting.pop(0)
            if id(schema) in visited:
                continue
            visited[id(schema)] = schema
            for place in self.places(schema):
                if isinstance(place, Members):
                    found[tuple(id(member.schema) for member in place.fields)] = place
                waiting.extend(_inside(place))
        return tuple(found.values())

    @cached_property
    def names(self) -> frozenset[str]:
        """The names under which validation takes the fields of the outermost object."""
        return frozenset[str]().union(*(member.read_from for member in self.outermost))

    @cached_property
    def outermost(self) -> tuple[Member, ...]:
        """The fields of its values themselves."""
        return tuple(
            member for place in self.places(self.root) if isinstance(place, Members) for member in place.fields
        )


def unreadable(stored: StoredType, *, whole: bool) -> Iterator[str]:
    """Why what is stored of a value can't be read back as the same value, one sentence each; `whole` if nothing may be left out."""
    for one in stored.objects:
        names = [member.stored for member in one.fields if not member.left_out]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"two fields of {one.title} are stored as {name!r}: give each an alias of its own"
        for member in one.fields:
            where = f"field {member.name!r} of {one.title}"
            if member.left_out and (whole or member.required):
                yield f"{where} has exclude=True: it is not stored, so it can't be read back; take exclude=True away"
            elif not member.computed and not member.left_out and member.stored not in member.read_from:
                names_read = ", ".join(repr(name) for name in sorted(member.read_from)) or "a path into another field"
                yield (
                    f"{where} is stored as {member.stored!r} and read from {names_read}, so it can't be read back: "
                    "give it one alias=, or let validation take that name, too (validate_by_name=True, AliasChoices)"
                )


def _inside(place: Place) -> tuple[Schema, ...]:
    match place:
        case Members():
            return tuple(member.schema for member in place.fields)
        case Items():
            return place.of
        case Entries():
            return (place.of,)
        case _:
            return ()


def _is_of_pydantic(written: Schema) -> bool:
    """Whether a serializer is one of pydantic's own, which writes what the type says."""
    function = written.get("function")
    return str(getattr(function, "__module__", "")).partition(".")[0] == "pydantic" and "return_schema" not in written


def _choices(schema: Schema) -> Iterator[Schema]:
    choices: Mapping[Any, Any] | list[Any] = schema["choices"]
    for choice in choices.values() if isinstance(choices, Mapping) else choices:
        yield choice[0] if isinstance(choice, tuple) else choice


def _items(schema: Schema) -> tuple[Schema, ...]:
    items: Any = schema.get("items_schema", ANY)
    return tuple(cast("list[Schema]", items)) if isinstance(items, list) else (items,)


def _members(schema: Schema, config: Schema) -> Members:
    fields: Mapping[str, Schema] | list[Schema] = schema["fields"]
    named = fields.items() if isinstance(fields, Mapping) else [(one["name"], one) for one in fields]
    members = [_member(name, one, config) for name, one in named]
    for one in schema.get("computed_fields", ()):
        name = one["property_name"]
        members.append(Member(name, one.get("alias", name), frozenset(), one["return_schema"], computed=True))
    more = schema.get("extra_behavior") or config.get("extra_fields_behavior")
    title = str(config.get("title") or schema.get("model_name") or schema.get("dataclass_name") or "")
    return Members(title, tuple(members), more == "allow" or bool(config.get("polymorphic_serialization")))


def _member(name: str, field: Schema, config: Schema) -> Member:
    alias = field.get("validation_alias")
    by_alias, by_name = config.get("validate_by_alias", True), config.get("validate_by_name", False)
    read_from = set[str]() if by_alias else {name}
    if alias is None or by_name:
        read_from.add(name)
    if alias is not None and by_alias:
        read_from |= set(_first_names(alias))
    taken = field.get("init", True)
    return Member(
        name,
        field.get("serialization_alias", name),
        frozenset(read_from) if taken else frozenset(),
        field["schema"],
        computed=not taken,
        left_out=bool(field.get("serialization_exclude") or field.get("init_only")),
        required=field.get("required", field["schema"]["type"] != "default"),
    )


def _first_names(alias: Any) -> Iterator[str]:
    """The names that an alias takes as they are; a path into another field is none."""
    if isinstance(alias, str):
        yield alias
        return
    paths = [alias] if alias and not isinstance(alias[0], list) else alias
    yield from (str(path[0]) for path in paths if len(path) == 1)
