"""The fields that the clauses of a tool contract name: found in its types when it is built, used by the paths they are stored at."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from handfast.contracts.field_names import Resolved, resolve_field
from handfast.contracts.field_paths import joined, steps_of
from handfast.contracts.stored_type import StoredType, unreadable
from handfast.contracts.suggestions import instead_of

if TYPE_CHECKING:
    from handfast.contracts.tool import Tool

Untrusted = bool | tuple[str, ...]
"""Which fields of a result are somebody else's words: all, none, or those of these paths."""


@dataclass(frozen=True)
class ClauseFields:
    """A contract's types as they are stored, and the fields that its clauses name, by their stored paths."""

    tool: "Tool"

    @cached_property
    def arguments(self) -> StoredType:
        """The type of the arguments."""
        return StoredType(TypeAdapter(self.tool.signature.arguments).core_schema)

    @cached_property
    def result(self) -> StoredType:
        """The type of the result."""
        return StoredType(self.tool.result_adapter.core_schema)

    @cached_property
    def stored_schema(self) -> dict[str, Any]:
        """JSON Schema of the arguments as they are stored."""
        return self.tool.signature.arguments.model_json_schema(mode="serialization")

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The arguments that are the idempotency key."""
        return self._paths(self.tool.key)

    @cached_property
    def same_intent(self) -> tuple[str, ...]:
        """The arguments by which a call is recognised as a second one of the same intent."""
        return self._paths(self.tool.same_intent)

    @cached_property
    def conflict(self) -> tuple[str, ...]:
        """The arguments that must differ for calls to run side by side."""
        return self._paths(self.tool.conflict)

    @cached_property
    def show(self) -> tuple[str, ...]:
        """The arguments that may appear in Temporal."""
        return self._paths(self.tool.show)

    @cached_property
    def targets(self) -> tuple[str, ...] | None:
        """The arguments that pick what a call aims at, None for all: also where one can't be told from its neighbours."""
        if self.tool.targets is None:
            return None
        found = self._all_that_may_be_meant(self.arguments, self.tool.targets)
        return None if found is True else found or ()

    @cached_property
    def untrusted(self) -> Untrusted:
        """The fields of the result that are somebody else's words: all of what is not known well enough to tell them from the rest."""
        if isinstance(self.tool.untrusted, bool):
            return self.tool.untrusted
        return self._all_that_may_be_meant(self.result, self.tool.untrusted)

    @property
    def key_may_be_empty(self) -> bool:
        """Whether a call may leave out everything that is its key."""
        return bool(self.tool.key) and all(resolve_field(self.arguments, name).optional for name in self.tool.key)

    def faults(self) -> Iterator[str]:
        """What is wrong with the names, one sentence each."""
        yield from unreadable(self.arguments, whole=True)
        yield from unreadable(self.result, whole=self.tool.compensate is not None)
        for clause in ("conflict", "same_intent", "show", "key"):
            for name in getattr(self.tool, clause):
                yield from self._argument_fault(clause, name, resolve_field(self.arguments, name), one_value=True)
        for name in self.tool.targets or ():
            yield from self._argument_fault("targets", name, resolve_field(self.arguments, name), one_value=False)
        for name in self.tool.untrusted if not isinstance(self.tool.untrusted, bool) else ():
            if fault := resolve_field(self.result, name).fault:
                yield f"untrusted names {name!r}, which is no field of the result: {fault}. Name one, or say untrusted=True"

    def _argument_fault(self, clause: str, name: str, found: Resolved, *, one_value: bool) -> Iterator[str]:
        if found.fault and "." not in name:
            names = [one.name for one in self.arguments.outermost]
            yield f"{clause} names {name!r}, which is no argument; arguments are {instead_of(name, names)}"
        elif found.fault:
            yield f"{clause} names {name!r}, which is no argument: {found.fault}"
        elif found.obstacle:
            yield f"{clause} names {name!r}, which has no value of its own: {found.obstacle}"
        elif one_value and not found.paths:
            known = joined(found.unknown_below[0]) or "the arguments"
            yield f"{clause} names {name!r}, but nothing is known of what {known} holds: give that a type, or name a typed argument"
        elif one_value and any(None in steps_of(path) for path in found.paths):
            yield f"{clause} names {name!r}: * stands for any name of a mapping; name an argument, or a field of one"

    def _paths(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for name in names for path in resolve_field(self.arguments, name).paths))

    def _all_that_may_be_meant(self, stored: StoredType, names: Iterable[Any]) -> Untrusted:
        found = [resolve_field(stored, name) for name in names]
        unknown = dict.fromkeys(steps for one in found for steps in one.unknown_below)
        if () in unknown:
            return True
        return tuple(dict.fromkeys((*(path for one in found for path in one.paths), *map(joined, unknown))))
