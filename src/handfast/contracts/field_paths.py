r"""Paths of fields in stored JSON: names with dots between them, `order.id`. Lists are looked through.

`*` stands for any name. A name that holds a dot, a star or a backslash has a backslash before it: `a\.b` is one name.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, cast

STEP = re.compile(r"(?:[^.\\]|\\.)*", re.DOTALL)
SPECIAL = re.compile(r"([.*\\])")
ANY_NAME = None
"""The step that stands for any name."""
Steps = tuple[str | None, ...]


def joined(steps: Iterable[str | None]) -> str:
    """The path that these names make."""
    return ".".join("*" if step is None else SPECIAL.sub(r"\\\1", step) for step in steps)


@lru_cache(maxsize=4096)
def steps_of(path: str) -> Steps:
    """The names of a path, `ANY_NAME` where any will do."""
    found: list[str | None] = []
    place = 0
    while place <= len(path):
        match = STEP.match(path, place)
        step = match.group() if match is not None else path[place:]
        found.append(ANY_NAME if step == "*" else re.sub(r"\\(.)", r"\1", step, flags=re.DOTALL))
        place += len(step) + 1
    return tuple(found)


def value_at(value: Any, path: str) -> Any:
    """What is at a path of a stored value: of a list, the list of what is there in each of its items; None where there is nothing."""
    return _go_down(value, steps_of(path))


def picked(stored: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """The values at some paths, by path."""
    return {path: value_at(stored, path) for path in paths}


def is_empty(value: Any) -> bool:
    """Whether a value says nothing: null, a blank text, or a list or an object of nothing else."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, Mapping):
        return all(map(is_empty, cast("Mapping[str, Any]", value).values()))
    if isinstance(value, (list, tuple)):
        return all(map(is_empty, cast("Iterable[Any]", value)))
    return value is None


def _go_down(value: Any, steps: Steps) -> Any:
    if not steps:
        return value
    if isinstance(value, (list, tuple)):
        return [_go_down(one, steps) for one in cast("Iterable[Any]", value)]
    if isinstance(value, Mapping) and (name := steps[0]) is not None:
        return _go_down(cast("Mapping[str, Any]", value).get(name), steps[1:])
    return None
