"""The arguments of a call: validated once, when its turn is settled, and stored as every attempt reads them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from handfast.contracts.equality import same_value
from handfast.contracts.identity import canonical_json
from handfast.contracts.parts import FieldPath, Step, alike, sort_sets, unset, unset_in, without
from handfast.contracts.storage import stored_names
from handfast.contracts.texts import message_of
from handfast.contracts.tool import Tool

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

    @property
    def alike(self) -> dict[str, Any]:
        """As stored, with values that are equal written alike: for keys."""
        found: dict[str, Any] = alike(self.value, self.stored)
        return found


class StoredArguments(NamedTuple):
    """Arguments as the ledger has them; see `Arguments`."""

    stored: dict[str, Any]
    defaulted: tuple[FieldPath, ...] = ()
    changed: bool = False
    """They are not those that the model wrote: a hook has changed them."""


def same_request(one: StoredArguments | Arguments, other: StoredArguments) -> bool:
    """Whether two calls ask for the same: they differ at most in what defaults have filled in for both, such as a random id."""
    filled = set(one.defaulted) & set(other.defaulted)
    left, right = (reduce(without, filled, these.stored) for these in (one, other))
    return canonical_json(left) == canonical_json(right)


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
    return _restored(back, stored, tuple(unset_in(value)))


def load_arguments(
    tool: Tool, stored: Mapping[str, Any], defaulted: Sequence[Sequence[Step]] = ()
) -> Arguments | dict[str, str]:
    """Stored arguments as an attempt gets them; or what is wrong with them, by field, if the contract has changed since.

    What defaults had filled in counts as not set again, as in `model_dump(exclude_unset=True)`. An older minor version leaves
    out the fields that it does not know, if only a default had filled them in.
    """
    paths = tuple(tuple(path) for path in defaulted)
    left_out = {path[0] for path in paths if len(path) == 1} & _unknown(tool, stored).keys()
    known = {name: value for name, value in stored.items() if name not in left_out}
    value = _unknown(tool, known) or _validated(tool, known)
    if isinstance(value, dict):
        return value
    return _restored(value, known, paths)


def _restored(value: BaseModel, stored: dict[str, Any], defaulted: tuple[FieldPath, ...]) -> Arguments:
    for path in defaulted:
        unset(value, path)
    return Arguments(value=value, stored=stored, defaulted=defaulted)


def _unknown(tool: Tool, given: Mapping[str, Any]) -> dict[str, str]:
    schema = tool.schema.parameters
    named = schema.get("properties", {})
    if schema["additionalProperties"] is not False:
        return {}
    known = ", ".join(named) or "none"
    unknown = given.keys() - tool.fields.arguments.names
    return dict.fromkeys(sorted(unknown), f"unknown argument; arguments are {known}")


def _validated(tool: Tool, given: Mapping[str, Any]) -> BaseModel | dict[str, str]:
    try:
        return tool.signature.arguments.model_validate_json(canonical_json(dict(given)), strict=False)
    except ValidationError as error:
        return {".".join(str(step) for step in fault["loc"]) or "arguments": fault["msg"] for fault in error.errors()}
    except Exception as error:  # noqa: BLE001 - validators of authors may raise anything
        return {"arguments": f"they can't be read: {type(error).__name__}: {message_of(error)}"[:MAX_FAULT_CHARACTERS]}


def _dumped(value: BaseModel) -> dict[str, Any]:
    dumped = value.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)
    stored: dict[str, Any] = sort_sets(value, dumped)
    canonical_json(stored)
    return stored


def _differing(value: BaseModel, back: BaseModel | dict[str, str]) -> Iterable[str]:
    if isinstance(back, dict):
        return back
    names = [(stored, name) for stored, name in stored_names(type(value)).items() if name in value.model_fields_set]
    found = [stored for stored, name in names if not same_value(value.__dict__[name], back.__dict__[name])]
    return found or ["arguments"]
