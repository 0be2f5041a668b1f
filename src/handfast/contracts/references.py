"""References in a plan: `${steps.lookup.result.items[0].id}`, alone or inside of a text."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

REFERENCE = re.compile(r"(?<!\$)\$\{([^}]*)\}")
PATH = re.compile(r"^(request|item|index|steps)((?:\.[A-Za-z_][A-Za-z0-9_-]*|\[\d+\])*)$")
STEP_OF_PATH = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]")


class Reference(NamedTuple):
    """Where a value comes from."""

    text: str
    """As it is written, without `${}`."""
    root: str
    """`request`, `item`, `index` or `steps`."""
    path: tuple[str | int, ...]
    """Names and places behind the root; for `steps`, behind the step's id and `result`."""
    step: str = ""
    """The step whose result it is, if it is one."""


class Unbound(Exception):
    """A reference stands for nothing."""


def parse(text: str) -> Reference:
    """A reference as it stands between `${` and `}`.

    Raises:
        ValueError: It is none.
    """
    text = text.strip()
    match = PATH.match(text)
    if match is None:
        msg = f"{text!r} is no reference: write request.NAME, steps.ID.result.NAME, item.NAME or index"
        raise ValueError(msg)
    root, rest = match.groups()
    path = tuple(name or int(place) for name, place in STEP_OF_PATH.findall(rest))
    if root == "steps":
        if len(path) < 2 or path[1] != "result" or not isinstance(path[0], str):
            msg = f"{text!r} is no reference: of a step there is its result, steps.ID.result"
            raise ValueError(msg)
        return Reference(text, root, path[2:], step=path[0])
    if root == "index" and path:
        msg = f"{text!r} is no reference: index is a number"
        raise ValueError(msg)
    return Reference(text, root, path)


def alone(text: str) -> str | None:
    """The one reference that a text is, None if it is more or something else."""
    match = REFERENCE.fullmatch(text.strip())
    return None if match is None else match.group(1)


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a value, near and far."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in cast("Mapping[str, Any]", value).values():
            yield from texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("Sequence[Any]", value):
            yield from texts_in(inner)


def references_in(value: Any) -> Iterator[Reference]:
    """Every reference in a value.

    Raises:
        ValueError: One of them is none.
    """
    for text in texts_in(value):
        for found in REFERENCE.findall(text):
            yield parse(found)


def steps_in(value: Any) -> frozenset[str]:
    """The steps whose results a value refers to; what is no reference is left out."""
    found: set[str] = set()
    for text in texts_in(value):
        for one in REFERENCE.findall(text):
            try:
                found.add(parse(one).step)
            except ValueError:
                continue
    return frozenset(found - {""})


def fill_in(value: Any, look_up: Callable[[Reference], Any]) -> Any:
    """A value with what its references stand for.

    Raises:
        Unbound: One of them stands for nothing; raised by `look_up`.
    """
    if isinstance(value, str):
        return _fill_in_text(value, look_up)
    if isinstance(value, Mapping):
        return {name: fill_in(inner, look_up) for name, inner in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [fill_in(inner, look_up) for inner in cast("Sequence[Any]", value)]
    return value


def _fill_in_text(text: str, look_up: Callable[[Reference], Any]) -> Any:
    only = alone(text)
    if only is not None:
        return look_up(parse(only))
    filled = REFERENCE.sub(lambda found: _as_text(look_up(parse(found.group(1)))), text)
    return filled.replace("$${", "${")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def follow(value: Any, reference: Reference) -> Any:
    """What is at a reference's path in a value.

    Raises:
        Unbound: Nothing is.
    """
    for place in reference.path:
        try:
            value = value[place]
        except (KeyError, IndexError, TypeError) as error:
            msg = f"${{{reference.text}}} stands for nothing: there is no {place!r}"
            raise Unbound(msg) from error
    return value
