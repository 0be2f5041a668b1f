"""JSON Schemas as model providers take them."""

from collections.abc import Mapping
from typing import Any, cast

DEFINITIONS = "#/$defs/"


def root_resolved(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with what its root refers to in the place of the reference.

    A pydantic model that holds itself is written as a reference at the root; providers want an object there.
    """
    found, seen = dict(schema), set[str]()
    while isinstance(name := found.get("$ref"), str) and name.startswith(DEFINITIONS) and name not in seen:
        seen.add(name)
        target = found.get("$defs", {}).get(name.removeprefix(DEFINITIONS))
        if not isinstance(target, dict):
            break
        del found["$ref"]
        found = {**cast("dict[str, Any]", target), **found}
    return found
