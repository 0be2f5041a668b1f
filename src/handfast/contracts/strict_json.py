"""JSON as RFC 8259 has it, where Python's reader takes more: for bodies that others post."""

import json
import math
from collections.abc import Iterable
from typing import Any, cast

MAX_DEPTH = 64
"""Objects and lists inside each other."""


class NotJson(ValueError):
    """A body is not JSON, or not such as is taken. Its text says why, without the body's contents."""


def read_object(body: bytes) -> dict[str, Any]:
    """The object in a body: in UTF-8 (section 8.1), no name twice (section 4), no NaN and no Infinity (section 6), not too deep.

    Raises:
        NotJson: It is anything else.
    """
    try:
        text = body.decode("utf-8-sig")
        value: object = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except UnicodeDecodeError as error:
        msg = f"the body is not UTF-8: byte {error.start} can't be decoded"
        raise NotJson(msg) from None
    except json.JSONDecodeError as error:
        msg = f"the body is not JSON: {error.msg} at character {error.pos}"
        raise NotJson(msg) from None
    except RecursionError:
        raise NotJson(TOO_DEEP) from None
    except NotJson:
        raise
    except ValueError:
        msg = "the body holds an integer of too many digits"
        raise NotJson(msg) from None
    if not isinstance(value, dict):
        msg = f"the body is {_kind(value)}, not a JSON object"
        raise NotJson(msg)
    _check_depth(cast("dict[str, Any]", value))
    return cast("dict[str, Any]", value)


TOO_DEEP = f"the body is nested deeper than {MAX_DEPTH} levels"


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            msg = f"the body names {name[:100]!r} twice in one object"
            raise NotJson(msg)
        found[name] = value
    return found


def _constant(name: str) -> Any:
    msg = f"the body holds {name}, which JSON does not have: send null"
    raise NotJson(msg)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        msg = "the body holds a number that is too large"
        raise NotJson(msg)
    return value


def _check_depth(value: object) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH + 1:
            raise NotJson(TOO_DEEP)
        level = [inner for one in level for inner in _inside(one)]


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value).values()
    return cast("list[object]", value) if isinstance(value, list) else ()


def _kind(value: object) -> str:
    kinds: dict[type, str] = {list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
