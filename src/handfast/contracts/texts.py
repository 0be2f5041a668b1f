"""Texts: what comes in is made storable, what others have written is made printable, and what Temporal may hold is marked."""

import re
from typing import Any, TypeVar, cast

T = TypeVar("T")
REPLACEMENT = "�"
"""U+FFFD: stands for what can be no part of a text."""
MAX_DEPTH = 200
"""Levels of nested lists and objects that are cleaned; deeper JSON is refused where it is read."""
BROKEN = re.compile("[\ud800-\udfff\x00]")
"""Half a surrogate pair, which UTF-8 can't encode (RFC 3629, section 3), and NUL, which PostgreSQL's `text` can't store."""


class PublicText(str):
    """A text of the engine's own, made of fixed words, names, ids and numbers.

    Only such a message reaches Temporal with an error; every other one is cut to the error's type (see `engine.failures`).
    """

    __slots__ = ()


def clean_text(text: str) -> str:
    """A text that every database, codec and provider can hold.

    Two halves of a surrogate pair become the character that they stand for; what is left of one, and every NUL, becomes U+FFFD.
    Cleaning twice changes nothing.
    """
    if BROKEN.search(text) is None:
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return joined.replace("\x00", REPLACEMENT)


def clean_value(value: T) -> T:
    """JSON with each of its texts cleaned, names of fields included.

    Where two names become one, the later value stands, as with a name that JSON repeats.

    Raises:
        ValueError: It is nested deeper than `MAX_DEPTH` levels.
    """
    return cast("T", _clean_value(value, MAX_DEPTH))


def _clean_value(value: object, levels: int) -> object:
    if isinstance(value, str):
        return clean_text(value)
    if not isinstance(value, dict | list | tuple):
        return value
    if not levels:
        msg = f"JSON nested deeper than {MAX_DEPTH} levels: give it in a flatter form"
        raise ValueError(msg)
    if isinstance(value, dict):
        fields = cast("dict[Any, object]", value)
        return {_clean_value(name, 1): _clean_value(inner, levels - 1) for name, inner in fields.items()}
    items = cast("list[object]", value)
    return [_clean_value(inner, levels - 1) for inner in items]


def message_of(error: BaseException) -> str:
    """What an exception says. Where its author's `__str__` raises, that its message can't be read."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the author's code may raise anything, and what became of a call must not depend on it
        return "(its message can't be read)"


def printable(text: str) -> str:
    """Text without control characters, so that nobody's content can steer a terminal or turn what stands beside it around."""
    return "".join(c if c.isprintable() or c == "\n" else REPLACEMENT for c in text)
