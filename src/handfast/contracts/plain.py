"""JSON that comes in, and results as the JSON that the ledger keeps."""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticSerializationError, to_json

from handfast.contracts.texts import MAX_DEPTH, clean_text, clean_value

LOSSY = "\ufffd".encode()
"""In what pydantic has written: a character of its own, or what it has put in the place of a name that is no text."""
MAX_CHARACTERS = 10_000_000
"""Of a result as JSON: documents belong in files."""


class TooLarge(ValueError):
    """A result is longer than the ledger keeps. Its text says how long, and what to do."""


def read_json(body: bytes) -> Any:
    """The JSON value that somebody has sent, with every text clean.

    Half a surrogate pair, which RFC 8259 (section 8.2) lets through although no text holds one, is replaced.

    Raises:
        ValueError: It is no JSON, as with NaN or a number that no double holds, or it is nested too deep.
    """
    try:
        text = body.decode("utf-8", "surrogatepass")
        return clean_value(json.loads(text, parse_constant=_refuse, parse_float=_finite))
    except RecursionError:
        msg = f"JSON nested deeper than {MAX_DEPTH} levels"
        raise ValueError(msg) from None


def _refuse(name: str) -> float:
    msg = f"{name} is no JSON number"
    raise ValueError(msg)


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits[:40])


def plain_json(adapter: TypeAdapter[Any], value: Any, *, round_trip: bool = False) -> Any:
    """A value as its type writes it by alias, with every text clean; `round_trip` leaves computed fields out.

    Raises:
        PydanticSerializationError: It is no JSON, or not of the type.
        TooLarge: It is longer than `MAX_CHARACTERS`.
        ValueError: It is nested too deep, or two names of a mapping are one as JSON.
    """
    try:
        written = adapter.dump_json(value, by_alias=True, round_trip=round_trip, warnings="error")
    except (PydanticSerializationError, UnicodeEncodeError):
        written = LOSSY
    if LOSSY in written:
        # What else is wrong with it than its texts is raised again.
        clean = _with_clean_names(value)
        told = adapter.dump_python(clean, mode="json", by_alias=True, round_trip=round_trip, warnings="error")
        written = to_json(clean_value(told))
    if len(written) > MAX_CHARACTERS:
        msg = f"it has {len(written)} characters as JSON, allowed are {MAX_CHARACTERS}: keep it in a file, and return where"
        raise TooLarge(msg)
    return clean_value(json.loads(written, object_pairs_hook=_distinct))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        msg = "two names of a mapping are one as JSON, such as 1 and '1'"
        raise ValueError(msg)
    return found


def _with_clean_names(value: Any, levels: int = MAX_DEPTH) -> Any:
    """The same with clean names: those pydantic replaces without joining pairs. What is no container, and no model, stays."""
    if not levels:
        msg = f"it is nested deeper than {MAX_DEPTH} levels"
        raise ValueError(msg)
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: _with_clean_names(inner, levels - 1) for name, inner in value})
    if type(value) is dict:
        fields = cast("Mapping[Any, Any]", value)
        return {_clean_name(name): _with_clean_names(inner, levels - 1) for name, inner in fields.items()}
    if type(value) in {list, tuple}:
        return type(value)(_with_clean_names(inner, levels - 1) for inner in value)
    return value


def _clean_name(name: Any) -> Any:
    return clean_text(name) if isinstance(name, str) else name
