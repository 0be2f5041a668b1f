"""The arguments that a rule names, as they are called in what is stored: by name or alias, as in the clauses of a contract."""

from collections.abc import Iterator
from functools import lru_cache

from handfast.contracts.field_names import named
from handfast.contracts.field_paths import Steps, steps_of
from handfast.contracts.stored_type import Anything, Entries, Items, Members, Schema, StoredType

StoredPath = tuple[str, ...]
"""Names, `*` for every item of a list, and numbers of items."""


@lru_cache(maxsize=4096)
def stored_paths(stored: StoredType, path: str) -> tuple[StoredPath, ...]:
    """Where the values are that a rule's path means: several where a union stores them under several names, none if nowhere."""
    return tuple(dict.fromkeys(_go_down(stored, stored.root, steps_of(path), ())))


def _go_down(stored: StoredType, schema: Schema, rest: Steps, done: StoredPath) -> Iterator[StoredPath]:
    if not rest:
        yield done
        return
    step = "*" if rest[0] is None else rest[0]
    for place in stored.places(schema):
        match place:
            case Members():
                found = named(place, rest) if rest[0] is not None else []
                for member, used in found:
                    yield from _go_down(stored, member.schema, rest[used:], (*done, member.stored))
                if not found and place.more:
                    yield _as_written(done, rest)
            case Items() if step == "*" or step.isdigit():
                for inner in place.of:
                    yield from _go_down(stored, inner, rest[1:], (*done, step))
            case Entries():
                yield from _go_down(stored, place.of, rest[1:], (*done, step))
            case Anything():
                yield _as_written(done, rest)
            case _:
                pass


def _as_written(done: StoredPath, rest: Steps) -> StoredPath:
    return (*done, *("*" if step is None else step for step in rest))
