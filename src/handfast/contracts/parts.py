"""A value beside what it is stored as: its parts by stored names, and one form for values that are equal."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

from pydantic import BaseModel

from handfast.contracts.identity import canonical_json
from handfast.contracts.storage import stored_names

Step = str | int
FieldPath = tuple[Step, ...]
"""From a value to a part of it: stored names of fields, keys of mappings, places in lists."""


def parts_of(value: Any) -> dict[Step, Any]:
    """The parts of a value by the names that they are stored under; none of what has no parts."""
    value = root_of(value)
    if isinstance(value, BaseModel):
        return {stored: value.__dict__.get(name) for stored, name in stored_names(type(value)).items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, dict):
        return {str(name): inner for name, inner in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return dict(enumerate(cast("Sequence[Any]", value)))
    return {}


def root_of(value: Any) -> Any:
    """What a root model holds; any other value as it is."""
    while isinstance(value, BaseModel) and type(value).__pydantic_root_model__:
        value = value.__dict__["root"]
    return value


def unset_in(value: Any, path: FieldPath = ()) -> Iterator[FieldPath]:
    """The fields of models that nobody set, at any depth."""
    value = root_of(value)
    names = stored_names(type(value)) if isinstance(value, BaseModel) else {}
    for step, inner in parts_of(value).items():
        if step in names and names[str(step)] not in value.model_fields_set:
            yield (*path, step)
        else:
            yield from unset_in(inner, (*path, step))


def unset(value: Any, path: Sequence[Step]) -> None:
    """Let a field count as not set. Nothing happens if there is no such field."""
    *before, last = path
    for step in before:
        value = parts_of(value).get(step)
    value = root_of(value)
    if isinstance(value, BaseModel):
        value.model_fields_set.discard(stored_names(type(value)).get(str(last), ""))


def without(stored: dict[str, Any], path: FieldPath) -> dict[str, Any]:
    """A stored value without one of its fields."""
    rest = deepcopy(stored)
    *before, last = path
    inside: Any = rest
    for step in before:
        inside = inside[step]
    del inside[last]
    return rest


def sort_sets(value: Any, stored: Any) -> Any:
    """What is stored, with the members of sets in one order: that of a Python set differs from process to process."""
    value = root_of(value)
    if isinstance(value, (set, frozenset)) and isinstance(stored, list):
        return sorted(cast("Sequence[Any]", stored), key=canonical_json)
    return _each_part(value, stored, sort_sets)


def alike(value: Any, stored: Any) -> Any:
    """What is stored, with values that are equal written alike: `1.1` and `1.10`, one moment in two time zones."""
    value = root_of(value)
    match value:
        case Decimal() if value.is_finite():
            return _decimal(value)
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).isoformat()
        case float() if not value:
            return 0.0
        case _:
            return _each_part(value, stored, alike)


def _decimal(value: Decimal) -> str:
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    short = text.rstrip("0")
    return f"{'-' if sign else ''}{short}e{int(exponent) + len(text) - len(short)}" if short else "0"


def _each_part(value: Any, stored: Any, change: Any) -> Any:
    """What is stored with each part changed; as it is where a serializer has given it another shape than the value's."""
    if not isinstance(stored, (dict, list)):
        return stored
    parts = parts_of(value)
    if isinstance(stored, dict):
        named = cast("dict[str, Any]", stored)
        return {name: change(parts[name], inner) if name in parts else inner for name, inner in named.items()}
    items = [*cast("Sequence[Any]", stored)]
    return [change(parts[place], inner) for place, inner in enumerate(items)] if len(parts) == len(items) else items
