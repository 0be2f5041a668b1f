"""The arguments of a call: validated once, when its turn is settled, and stored as every attempt reads them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple, cast

from pydantic import BaseModel, ValidationError

from handfast.contracts.equality import same_value
from handfast.contracts.identity import canonical_json
from handfast.contracts.storage import stored_names
from handfast.contracts.tool import Tool

Step = str | int
FieldPath = tuple[Step, ...]
"""From the arguments to a field of theirs: names of fields, keys of mappings, places in lists."""
NOT_STORABLE = (
    "the tool's contract can't store this value and read it back; use another value, or go on without the tool"
)
MAX_FAULT_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Arguments that fit a contract."""

    value: BaseModel
    """As the tool's function gets them."""
    stored: dict[str, Any]
    """The same as JSON: fields by their aliases, with what defaults have filled in."""
    defaulted: tuple[FieldPath, ...] = ()
    """The fields that defaults have filled in, by their stored names."""


class StoredArguments(NamedTuple):
    """Arguments as the ledger has them; see `Arguments`."""

    stored: dict[str, Any]
    defaulted: tuple[FieldPath, ...] = ()
    changed: bool = False
    """They are not those that the model wrote: a hook has changed them."""


def same_request(one: "StoredArguments | Arguments", other: StoredArguments) -> bool:
    """Whether two calls ask for the same: they differ at most in what defaults have filled in for both, such as a random id."""
    filled = set(one.defaulted) & set(other.defaulted)
    return _without(one.stored, filled) == _without(other.stored, filled)


def _without(stored: dict[str, Any], paths: Iterable[FieldPath]) -> str:
    """Stored arguments as text, without some fields."""
    rest = deepcopy(stored)
    for *before, last in paths:
        inside: Any = rest
        for step in before:
            inside = inside[step]
        del inside[last]
    return canonical_json(rest)


def parse_arguments(tool: Tool, given: Mapping[str, Any]) -> Arguments | dict[str, str]:
    """What a model, a plan or a hook wrote, as the contract has it; or what is wrong with it, by field.

    The value is stored, read back and compared: what would differ in a later attempt is refused now. What the schema
    does not name is refused as well: a pydantic model would pass over it, and the call would do less than was asked.
    """
    if unknown := _unknown(tool, given):
        return unknown
    value = _validated(tool, given)
    if isinstance(value, dict):
        return value
    try:
        stored = _dumped(value)
        back = _validated(tool, stored)
        written = stored if isinstance(back, dict) else _dumped(back)
        if written != stored:
            # A default of another type than its field's, such as `amount: Decimal = 0`, is of that type from here on.
            back, stored = _validated(tool, written), written
        stable = not isinstance(back, dict) and _dumped(back) == stored and same_value(value, back)
    except Exception as error:  # noqa: BLE001 - serializers and comparisons of authors may raise anything
        return {"arguments": f"{NOT_STORABLE} ({type(error).__name__})"}
    if not stable or isinstance(back, dict):
        return dict.fromkeys(_differing(value, back), NOT_STORABLE)
    return _restored(back, stored, tuple(_defaulted(value)))


def load_arguments(
    tool: Tool, stored: Mapping[str, Any], defaulted: Sequence[Sequence[Step]] = ()
) -> Arguments | dict[str, str]:
    """Stored arguments as an attempt gets them; or what is wrong with them, by field, if the contract has changed since.

    What defaults had filled in counts as not set again, as in `model_dump(exclude_unset=True)`.
    """
    value = _unknown(tool, stored) or _validated(tool, stored)
    if isinstance(value, dict):
        return value
    return _restored(value, dict(stored), tuple(tuple(path) for path in defaulted))


def _restored(value: BaseModel, stored: dict[str, Any], defaulted: tuple[FieldPath, ...]) -> Arguments:
    for path in defaulted:
        _unset(value, path)
    return Arguments(value=value, stored=stored, defaulted=defaulted)


def _unknown(tool: Tool, given: Mapping[str, Any]) -> dict[str, str]:
    schema = tool.schema.parameters
    named = schema.get("properties", {})
    if schema["additionalProperties"] is not False:
        return {}
    known = ", ".join(named) or "none"
    return dict.fromkeys(sorted(given.keys() - named.keys()), f"unknown argument; arguments are {known}")


def _validated(tool: Tool, given: Mapping[str, Any]) -> BaseModel | dict[str, str]:
    try:
        return tool.signature.arguments.model_validate_json(canonical_json(dict(given)), strict=False)
    except ValidationError as error:
        return {".".join(str(step) for step in fault["loc"]) or "arguments": fault["msg"] for fault in error.errors()}
    except Exception as error:  # noqa: BLE001 - validators of authors may raise anything
        return {"arguments": f"they can't be read: {type(error).__name__}: {error}"[:MAX_FAULT_CHARACTERS]}


def _dumped(value: BaseModel) -> dict[str, Any]:
    dumped = value.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)
    _sort_sets(value, dumped)
    canonical_json(dumped)
    return dumped


def _sort_sets(value: Any, dumped: Any) -> None:
    """Give the members of sets one order: that of a Python set differs from process to process."""
    if isinstance(value, (set, frozenset)) and isinstance(dumped, list):
        dumped.sort(key=canonical_json)
        return
    if isinstance(dumped, (dict, list)):
        for inner, written in _children(value, dumped):
            _sort_sets(inner, written)


def _children(value: Any, dumped: Any) -> Iterable[tuple[Any, Any]]:
    """The parts of a value, each beside what it was dumped as; none where a serializer has given it another shape."""
    if isinstance(value, BaseModel):
        if type(value).__pydantic_root_model__:
            return [(value.__dict__["root"], dumped)]
        value = {stored: value.__dict__.get(name) for stored, name in stored_names(type(value)).items()}
    elif is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, dict) and isinstance(dumped, dict):
        parts = cast("Mapping[Any, Any]", value)
        written = cast("dict[str, Any]", dumped)
        return [(inner, written[str(name)]) for name, inner in parts.items() if str(name) in written]
    if isinstance(value, (list, tuple)) and isinstance(dumped, list):
        return list(zip(cast("Sequence[Any]", value), cast("Sequence[Any]", dumped), strict=False))
    return ()


def _differing(value: BaseModel, back: BaseModel | dict[str, str]) -> Iterable[str]:
    if isinstance(back, dict):
        return back
    names = [(stored, name) for stored, name in stored_names(type(value)).items() if name in value.model_fields_set]
    found = [stored for stored, name in names if not same_value(value.__dict__[name], back.__dict__[name])]
    return found or ["arguments"]


def _defaulted(value: Any, path: FieldPath = ()) -> Iterator[FieldPath]:
    """The fields of models that nobody set."""
    if isinstance(value, BaseModel):
        if type(value).__pydantic_root_model__:
            yield from _defaulted(value.__dict__["root"], path)
            return
        for stored, name in stored_names(type(value)).items():
            if name in value.model_fields_set:
                yield from _defaulted(value.__dict__[name], (*path, stored))
            else:
                yield (*path, stored)
    elif isinstance(value, dict):
        for name, inner in cast("Mapping[Any, Any]", value).items():
            yield from _defaulted(inner, (*path, str(name)))
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(cast("Sequence[Any]", value)):
            yield from _defaulted(inner, (*path, place))


def _unset(value: Any, path: Sequence[Step]) -> None:
    """Let a field count as not set. A contract that has changed since may have no such field."""
    *before, last = path
    for step in before:
        value = _part(value, step)
    value = _of_root(value)
    if isinstance(value, BaseModel):
        value.model_fields_set.discard(stored_names(type(value)).get(str(last), ""))


def _of_root(value: Any) -> Any:
    """What a root model holds; any other value as it is."""
    while isinstance(value, BaseModel) and type(value).__pydantic_root_model__:
        value = value.__dict__["root"]
    return value


def _part(value: Any, step: Step) -> Any:
    value = _of_root(value)
    if isinstance(value, BaseModel):
        return value.__dict__.get(stored_names(type(value)).get(str(step), ""))
    if isinstance(value, dict):
        return next((inner for name, inner in cast("Mapping[Any, Any]", value).items() if str(name) == step), None)
    if isinstance(value, (list, tuple)) and isinstance(step, int) and step < len(cast("Sequence[Any]", value)):
        return cast("Sequence[Any]", value)[step]
    return None
