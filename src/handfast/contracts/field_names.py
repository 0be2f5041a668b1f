"""The fields that a contract names, as they are called in what is stored.

A clause may name a field by its name in Python or by an alias, and fields within fields with dots: `order.id`. Lists are looked
through: `items.price` is the price of every item. What is found is the path under which the value is stored: by the aliases for
serialization.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from handfast.contracts.field_paths import ANY_NAME, Steps, joined, steps_of
from handfast.contracts.stored_type import (
    Anything,
    Entries,
    Items,
    Member,
    Members,
    Nothing,
    Schema,
    Single,
    StoredType,
)
from handfast.contracts.suggestions import instead_of


class Resolved(NamedTuple):
    """Where a name leads to in what is stored."""

    paths: tuple[str, ...] = ()
    """Of the field; several where a union stores it under several names."""
    unknown_below: tuple[Steps, ...] = ()
    """Places where the field may be as well, but nothing is known of what is there: all of it is meant."""
    fault: str = ""
    """Why it leads nowhere."""
    obstacle: str = ""
    """Why there will be no value at that place, though there is such a field."""
    optional: bool = False
    """A call may leave it out, or give null."""


class _Hit(NamedTuple):
    steps: Steps
    kind: type[Member] | type[Anything] | type[Single]
    member: Member | None = None
    optional: bool = False


class _Miss(NamedTuple):
    steps: Steps
    name: str
    known: frozenset[str] = frozenset()
    why: str = ""
    doubtful: bool = False
    """More than one field has the name."""


def resolve_field(of: Any, path: str) -> Resolved:
    """Where a field of a type is stored.

    Args:
        of: A type, or a `StoredType`.
        path: Names or aliases, with dots between them; `*` for any name of a mapping, or for every item of a list.
    """
    stored = of if isinstance(of, StoredType) else StoredType(TypeAdapter(of).core_schema)
    found = [*_Walk(stored).resolve(stored.root, steps_of(path), (), None)]
    hits = [one for one in found if isinstance(one, _Hit)]
    misses = [one for one in found if isinstance(one, _Miss)]
    exact = [hit for hit in hits if hit.kind is Member]
    doubt = [miss for miss in misses if miss.doubtful]
    if doubt or not (exact or any(hit.kind is Anything for hit in hits)):
        return Resolved(fault=_told(path, doubt or misses))
    return Resolved(
        tuple(dict.fromkeys(joined(hit.steps) for hit in exact)),
        tuple(dict.fromkeys(hit.steps for hit in hits if hit.kind is not Member)),
        obstacle=next((why for hit in exact if (why := _obstacle(hit.member))), ""),
        optional=any(hit.optional for hit in exact),
    )


class _Walk:
    """Going down in a type by the names of a path."""

    def __init__(self, stored: StoredType) -> None:
        self._stored = stored

    def resolve(
        self,
        schema: Schema,
        rest: Steps,
        done: Steps,
        member: Member | None,
        *,
        optional: bool = False,
        lists: frozenset[int] = frozenset(),
    ) -> Iterator[_Hit | _Miss]:
        """Where the rest of a path leads to. `lists` are the schemas that it has looked through since the last name."""
        if not rest:
            yield _Hit(done, Member, member, optional)
            return
        for place in self._stored.places(schema):
            match place:
                case Members():
                    yield from self._member(place, rest, done, optional=optional)
                case Items():
                    yield from self._items(place, rest, done, member, lists | {id(schema)})
                case Entries() if rest[0] is ANY_NAME:
                    yield from self.resolve(place.of, rest[1:], (*done, ANY_NAME), None, optional=True)
                case Entries() | Anything():
                    yield _Hit(done, Anything)
                case Nothing():
                    pass
                case Single():
                    yield _Hit(done, Single)
                    yield _Miss(done, rest[0] or "*", why="is one value")

    def _items(
        self, place: Items, rest: Steps, done: Steps, member: Member | None, lists: frozenset[int]
    ) -> Iterator[_Hit | _Miss]:
        if rest[0] is not None and rest[0].isdigit():
            yield _Miss(done, rest[0], why="is a list: leave the number out, and every item is meant")
            return
        for inner in place.of:
            if rest[0] is ANY_NAME:
                yield from self.resolve(inner, rest[1:], done, member, optional=True)
            elif id(inner) not in lists:
                yield from self.resolve(inner, rest, done, member, optional=True, lists=lists)

    def _member(self, place: Members, rest: Steps, done: Steps, *, optional: bool) -> Iterator[_Hit | _Miss]:
        found = named(place, rest)
        if len({member.name for member, _ in found}) > 1 and rest[0] is not ANY_NAME:
            meant = " and of ".join(f"{member.name!r} (stored as {member.stored!r})" for member, _ in found)
            yield _Miss(
                done, rest[0] or "", why=f"may mean {rest[0]!r} of {meant}: use a name that only one has", doubtful=True
            )
        for member, used in found:
            absent = optional or not member.required or self._stored.may_be_null(member.schema)
            yield from self.resolve(member.schema, rest[used:], (*done, member.stored), member, optional=absent)
        if place.more and (not found or rest[0] is ANY_NAME):
            yield _Hit(done, Anything)
        elif not found:
            yield _Miss(done, rest[0] or "*", frozenset(member.name for member in place.fields))


def named(place: Members, rest: Steps) -> list[tuple[Member, int]]:
    """The fields that the next steps name, and how many steps that takes: an alias may hold dots.

    The name in Python and the alias for serialization go before further names for validation.
    """
    if rest[0] is ANY_NAME:
        return [(member, 1) for member in place.fields]
    first = [(one, used) for one in place.fields if (used := _used({one.name, one.stored}, rest))]
    return first or [(one, used) for one in place.fields if (used := _used(one.names, rest))]


def _used(names: Iterable[str], rest: Steps) -> int:
    """How many of the next steps one of the names takes up, the longest; 0 if none is there."""
    return max((len(parts) for name in names for parts in _spellings(name) if parts == rest[: len(parts)]), default=0)


def _spellings(name: str) -> tuple[Steps, Steps]:
    return (name,), tuple(name.split("."))


def _obstacle(member: Member | None) -> str:
    if member is None:
        return ""
    if member.left_out:
        return "it is left out of what is stored (exclude=True)"
    return "it is computed: name the fields that it is made of" if member.computed else ""


def _told(path: str, misses: Sequence[_Miss]) -> str:
    """Why no field is there: as far down as the path leads."""
    if not misses:
        return f"{path!r} leads to nothing"
    deepest = max(len(miss.steps) for miss in misses)
    last = [miss for miss in misses if len(miss.steps) == deepest]
    where = joined(last[0].steps)
    if any(miss.known for miss in last):
        known = frozenset[str]().union(*(miss.known for miss in last))
        return (
            f"{where + ' has' if where else 'there is'} no {last[0].name!r}; there is {instead_of(last[0].name, known)}"
        )
    if not last[0].why:
        return f"{where + ' has' if where else 'there are'} no fields"
    return f"{where or 'it'} {last[0].why}"
