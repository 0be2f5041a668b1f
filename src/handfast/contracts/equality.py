"""Whether a value that was stored as JSON and read back is the one that was stored."""

from collections.abc import Mapping, Sequence, Set
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from handfast.contracts.texts import clean_text

PLAIN = (str, int, float, bytes)


def same_value(one: Any, other: Any, *, as_json: bool = False) -> bool:
    """Whether two values are equal and of the same types.

    The fields of a model that nobody set are not compared: pydantic does not validate defaults, so `amount: Decimal = 0`
    is read back as a `Decimal`. What has no equality of its own counts as equal if it is of the same class.

    Args:
        one: The value before it was stored.
        other: What was read back.
        as_json: Part of the type is `Any`, so `other` may have as JSON what `one` has as an object.
    """
    if isinstance(one, BaseModel) and isinstance(other, type(one)) and type(one) is type(other):
        return _same_models(one, other, as_json)
    if isinstance(one, str) and isinstance(other, str):
        # Texts are stored without what no database can hold.
        return clean_text(one) == clean_text(other)
    kind: type[Any] = type(one)  # pyright: ignore[reportUnknownVariableType] - it may be anything
    same_kind = kind is type(other)
    if isinstance(one, dict) and isinstance(other, dict):
        left, right = _clean_names(cast("Mapping[Any, Any]", one)), _clean_names(cast("Mapping[Any, Any]", other))
        return left.keys() == right.keys() and all(same_value(left[key], right[key], as_json=as_json) for key in left)
    if same_kind and isinstance(one, (list, tuple)):
        first, second = cast("Sequence[Any]", one), cast("Sequence[Any]", other)
        return len(first) == len(second) and all(
            same_value(left, right, as_json=as_json) for left, right in zip(first, second, strict=True)
        )
    if same_kind:
        return bool(one == other) or "__eq__" not in _methods(kind)
    if isinstance(one, PLAIN) and isinstance(other, PLAIN) and one == other:
        # An `int` where a `float` is declared, a member of an enumeration of texts where a text is.
        return True
    return as_json and _same_json(one, other)


def _clean_names(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    return {clean_text(name) if isinstance(name, str) else name: inner for name, inner in mapping.items()}


def _methods(kind: type) -> set[str]:
    """The names that a class and those it is made of define, but for `object`."""
    return {name for one in kind.__mro__[:-1] for name in vars(one)}


def _same_models(one: BaseModel, other: BaseModel, as_json: bool) -> bool:
    extra: Mapping[str, Any] = one.model_extra or {}
    if not same_value(dict(extra), dict(other.model_extra or {}), as_json=as_json):
        return False
    names: Set[str] = one.model_fields_set & set(type(one).model_fields)
    return all(same_value(one.__dict__[name], other.__dict__.get(name), as_json=as_json) for name in names)


def _same_json(one: Any, other: Any) -> bool:
    """Whether an object is, as JSON, what was read back where its type is not declared."""
    return isinstance(other, (str, int, float, bool, list, dict, type(None))) and (
        to_jsonable_python(one, by_alias=True, inf_nan_mode="constants") == other
    )
