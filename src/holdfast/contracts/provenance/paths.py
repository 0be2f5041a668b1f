"""Fields of JSON values by path. Lists are looked through: `items.price` means the price of every item."""

from collections.abc import Iterator
from typing import Any

Path = tuple[str, ...]
Leaf = str | int | float | bool | None


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    """Every single value in a JSON value, with the names that lead to it."""
    if isinstance(value, dict):
        for name, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield from leaves(inner, (*path, str(name)))  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, (list, tuple)):
        for inner in value:  # pyright: ignore[reportUnknownVariableType]
            yield from leaves(inner, path)
    else:
        yield path, value


def covers(pattern: str, path: Path) -> bool:
    """Whether a path is the one that is named, or below it. `*` stands for any name; for a list it says nothing."""
    names = pattern.split(".")
    if _begins(names, path):
        return True
    return _begins([name for name in names if name != "*"], path)


def _begins(names: list[str], path: Path) -> bool:
    return len(path) >= len(names) and all(
        name in {"*", step} for name, step in zip(names, path[: len(names)], strict=True)
    )
