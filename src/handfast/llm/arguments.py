"""The arguments of a tool call, read strictly: one JSON object, bounded, or a fault that says why not."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from handfast.contracts.texts import clean_text

MAX_CHARACTERS = 4_000_000
"""Of the arguments of one call, as JSON."""
MAX_DEPTH = 64
"""Objects and lists inside each other."""
MAX_DIGITS = 1000
"""Of one number."""
MAX_BITS = 3322
"""Of an integer with that many digits."""
MAX_VALUES = 100_000
"""Values in the arguments of one call, those in objects and lists included."""
RECORDED = 4000
"""Characters of arguments that could not be read which are kept for the record."""


class ArgumentFault(ValueError):
    """The arguments of a call can't be used. Its text says why without repeating any of them."""


def read_arguments(text: str) -> dict[str, Any]:
    """The JSON object that a text is. The empty text stands for no arguments, as providers send it.

    Strict where Python is not (RFC 8259, sections 4 and 6): no NaN or Infinity, no name twice in an object, nothing behind the
    object.

    Raises:
        ArgumentFault: It is anything else, or too large.
    """
    if len(text) > MAX_CHARACTERS:
        raise ArgumentFault(_too_large(len(text)))
    if not text:
        return {}
    try:
        value = _DECODER.decode(text)
    except ArgumentFault:
        raise
    except json.JSONDecodeError as error:
        msg = f"they are not valid JSON: {error.msg} at character {error.pos} of {len(text)}"
        raise ArgumentFault(msg) from None
    except RecursionError:
        raise ArgumentFault(TOO_DEEP) from None
    return usable(value)


def usable(arguments: Any) -> dict[str, Any]:
    """Arguments as they may be judged and stored: plain JSON values within bounds, lone surrogates replaced.

    Raises:
        ArgumentFault: They are no JSON object, or too large.
    """
    if not isinstance(arguments, dict):
        msg = f"they must be one JSON object, and are {_kind_of(arguments)}"
        raise ArgumentFault(msg)
    return cast("dict[str, Any]", _Checked().value(cast("dict[str, Any]", arguments)))


TOO_DEEP = f"they are nested too deeply; allowed are {MAX_DEPTH} levels"


def _too_large(characters: int) -> str:
    return f"they have {characters:,} characters; allowed are {MAX_CHARACTERS:,}"


class _Checked:
    """A copy of a value, with a count of what is in it."""

    def __init__(self) -> None:
        self._left = MAX_VALUES
        self._characters = 0

    def value(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        if self._left < 0:
            msg = f"they hold too many values; allowed are {MAX_VALUES:,}"
            raise ArgumentFault(msg)
        match value:
            case str():
                return self._text(value)
            case bool() | None:
                return value
            case int():
                if value.bit_length() > MAX_BITS:
                    raise ArgumentFault(TOO_MANY_DIGITS)
                return value
            case float():
                if not math.isfinite(value):
                    raise ArgumentFault(NOT_FINITE)
                return value
            case dict() | list() | tuple() if depth >= MAX_DEPTH:
                raise ArgumentFault(TOO_DEEP)
            case dict():
                pairs = cast("Mapping[Any, Any]", value).items()
                return _object((self._name(name), self.value(inner, depth + 1)) for name, inner in pairs)
            case list() | tuple():
                return [self.value(inner, depth + 1) for inner in cast("Iterable[Any]", value)]
            case _:
                msg = f"they hold {_kind_of(value)}, which is no JSON value"
                raise ArgumentFault(msg)

    def _name(self, name: Any) -> str:
        if not isinstance(name, str):
            msg = f"they hold an object with {_kind_of(name)} as a name; names are strings"
            raise ArgumentFault(msg)
        return self._text(name)

    def _text(self, text: str) -> str:
        self._characters += len(text)
        if self._characters > MAX_CHARACTERS:
            raise ArgumentFault(_too_large(self._characters))
        return clean_text(text)


NOT_FINITE = "they hold NaN or an infinite number; JSON has neither"
TOO_MANY_DIGITS = f"they hold a number of too many digits; allowed are {MAX_DIGITS}"


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            msg = "they name a field twice in one object"
            raise ArgumentFault(msg)
        found[name] = value
    return found


def _constant(name: str) -> Any:
    raise ArgumentFault(NOT_FINITE)


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ArgumentFault(TOO_MANY_DIGITS)
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > MAX_DIGITS:
        raise ArgumentFault(TOO_MANY_DIGITS)
    return float(digits)


def _kind_of(value: Any) -> str:
    match value:
        case dict():
            return "an object"
        case list() | tuple():
            return "a list"
        case str():
            return "a text"
        case bool():
            return "a boolean"
        case None:
            return "null"
        case int() | float():
            return "a number"
        case _:
            return f"a value of type {type(value).__name__}"


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float, strict=True
)
