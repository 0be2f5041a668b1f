"""Fields of JSON values by path. Lists are looked through: `items.price` means the price of every item."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from pydantic import BaseModel

from handfast.contracts.storage import stored_names

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


def given_in(arguments: BaseModel) -> Iterator[tuple[Path, Leaf]]:
    """Every single value in the arguments of a call, but for what is left at its default.

    Names of fields are the contract's, as they are stored: their aliases. Names in a mapping are the caller's, and values
    like any other: `{"eve": "may read"}` says who.
    """
    given = arguments.model_dump(
        mode="json", by_alias=True, round_trip=True, warnings=False, exclude_defaults=True, exclude_unset=True
    )
    yield from _values(arguments, given, ())


def _values(said: Any, written: Any, path: Path) -> Iterator[tuple[Path, Leaf]]:
    """`said` is what the contract has read, `written` the same as JSON."""
    if isinstance(written, dict):
        fields = stored_names(type(said)) if isinstance(said, BaseModel) else {}
        for name, inner in cast("dict[str, Any]", written).items():
            if name in fields:
                yield from _values(getattr(said, fields[name]), inner, (*path, name))
            else:
                yield (*path, name), name
                yield from _values(None, inner, (*path, name))
    elif isinstance(written, list):
        items = cast("Sequence[Any]", written)
        told = cast("Sequence[Any]", said) if isinstance(said, (list, tuple)) else ()
        for place, inner in enumerate(items):
            yield from _values(told[place] if len(told) == len(items) else None, inner, path)
    else:
        yield path, written


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
