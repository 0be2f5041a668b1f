"""Fields of JSON values by path. Lists are looked through: `items.price` means the price of every item."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from pydantic import BaseModel

from handfast.contracts.field_paths import ANY_NAME, Steps, steps_of
from handfast.contracts.stored_type import Entries, Items, Members, Schema, StoredType

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


def given_in(stored: StoredType, arguments: BaseModel) -> Iterator[tuple[Path, Leaf]]:
    """Every single value in the arguments of a call, by where it is stored, but for what is left at its default.

    Names of fields are the contract's, as they are stored: their aliases. Names in a mapping are the caller's, and values
    like any other: `{"eve": "may read"}` says who.
    """
    given = arguments.model_dump(
        mode="json", by_alias=True, round_trip=True, warnings=False, exclude_defaults=True, exclude_unset=True
    )
    yield from _values(stored, (stored.root,), given, ())


def _values(stored: StoredType, schemas: Sequence[Schema], written: Any, path: Path) -> Iterator[tuple[Path, Leaf]]:
    """`written` is what is stored, `schemas` what it may be by its contract."""
    places = [place for schema in schemas for place in stored.places(schema)]
    if isinstance(written, dict):
        fields = [field for place in places if isinstance(place, Members) for field in place.fields]
        entries = [place.of for place in places if isinstance(place, Entries)]
        for name, inner in cast("dict[str, Any]", written).items():
            declared = [field.schema for field in fields if field.stored == name]
            if not declared:
                yield (*path, name), name
            yield from _values(stored, declared or entries, inner, (*path, name))
    elif isinstance(written, list):
        of = [schema for place in places if isinstance(place, Items) for schema in place.of]
        for inner in cast("Sequence[Any]", written):
            yield from _values(stored, of, inner, path)
    else:
        yield path, written


def covers(pattern: str, path: Path) -> bool:
    """Whether a path is the one that is named, or below it. `*` stands for any name; for a list it says nothing."""
    names = steps_of(pattern)
    return _begins(names, path) or _begins(tuple(name for name in names if name is not ANY_NAME), path)


def _begins(names: Steps, path: Path) -> bool:
    return len(path) >= len(names) and all(
        name is ANY_NAME or name == step for name, step in zip(names, path[: len(names)], strict=True)
    )
