"""Where the values of a run came from: what its user and its author have said, and what trusted fields held."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from handfast.contracts.clause_fields import Untrusted
from handfast.contracts.effects import Tier
from handfast.contracts.provenance.labels import field_name, is_untrusted
from handfast.contracts.provenance.paths import Leaf, Path, leaves
from handfast.contracts.provenance.wording import normal, says_enough, stands_in
from handfast.contracts.tool import Tool

USER = "the user's words"
ANY = "*"
PLAN = "the plan"
AUTHOR = "the agent's instructions"
LOOSE = frozenset({Tier.READ_ONLY, Tier.REVERSIBLE})
"""The tiers whose calls may aim at anything that a trusted field names. Calls that do more harm only at what was picked."""
MOST_CHARACTERS = 400_000
"""Of trusted text that is looked at for one run. What goes beyond is not known, so a call that goes by it asks a person."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A text in which a value is trusted, or not: then it is only for people to read where it came from."""

    where: str
    """In words for people, such as `lookup_order payment_id`."""
    source: str = ""
    """The same without names of fields, which may be contents: what is recorded."""
    text: str
    """As `normal`."""
    words: bool = False
    """Said by a person: values stand in it. Else it is a field, whose value it is."""
    family: str = ""
    """Of a field: the first part of the scope of the tool it came from."""
    foreign: bool = False
    """Somebody else's."""
    picked: bool = True
    """Of a field: it is of the only thing that was found, or of the one that the user's words name."""


@dataclass(kw_only=True)
class Sources:
    """What one run knows of where values come from."""

    known: list[Known] = field(default_factory=list[Known])
    foreign: list[Known] = field(default_factory=list[Known])
    """What is somebody else's words, if it is kept."""
    keeps_foreign: bool = False
    characters: int = 0

    def hear(self, text: str, where: str = USER) -> None:
        """Take the words of somebody whose words count."""
        if text.strip():
            self._know(Known(where=where, text=normal(text), words=True))

    def overhear(self, text: str, where: str) -> None:
        """Take words of somebody else."""
        if self.keeps_foreign and text.strip():
            self.foreign.append(Known(where=where, text=normal(text), words=True, foreign=True))

    def set_down(self, plan: Any) -> None:
        """Take a plan of somebody whose words count: what it says is meant just so, short as it may be."""
        for path, value in leaves(plan):
            if text := normal(said(value)):
                self._know(Known(where=field_name("the plan's", path), source=PLAN, text=text, family=ANY))

    def learn(self, name: str, content: Any, *, untrusted: Untrusted, family: str, echoes: Sequence[str] = ()) -> None:
        """Take the result of a call.

        Args:
            name: The tool's name.
            content: What it returned.
            untrusted: The fields that are somebody else's words.
            family: The first part of the tool's scope.
            echoes: What others may have put into the call's arguments, as `normal`: a field that has to do with one says nothing.
        """
        for found in self._found(content, (), untrusted, picked=True):
            text = normal(said(found.value))
            if not text:
                continue
            where = field_name(name, found.path)
            echoed = any(one in text or text in one for one in echoes)
            if not echoed and not is_untrusted(untrusted, found.path):
                self._know(Known(where=where, source=name, text=text, family=family, picked=found.picked))
            elif self.keeps_foreign:
                self.foreign.append(Known(where=where, text=text, foreign=True))

    def origin_of(self, value: Leaf, tool: Tool) -> str:
        """Where an argument's value came from, as far as that is to be trusted: who said it, or which tool; empty if from nowhere.

        A value that says little, such as a short number, must be in quotes in what was said, or be a field's of a tool of the same
        family of scopes.
        """
        text = said(value)
        wanted, family, loose = normal(text), family_of(tool), tool.tier in LOOSE
        if not wanted:
            return ""
        spellings = spellings_of(value)
        for one in self.known:
            if one.words:
                fits = any(stands_in(spelling, one.text) for spelling in spellings)
            elif not (loose or one.picked):
                continue
            elif says_enough(wanted):
                fits = stands_in(text, one.text)
            else:
                fits = wanted == one.text and one.family in {family, ANY}
            if fits:
                return one.source or one.where
        return ""

    def whereabouts(self, value: Leaf) -> tuple[str, bool]:
        """Where a value stands, for people to read, and whether that is trusted; empty if nowhere.

        Whether a call may go by it is another question: see `origin_of`.
        """
        spellings = spellings_of(value)
        for one in (*self.known, *self.foreign):
            if normal(said(value)) == one.text or any(stands_in(spelling, one.text) for spelling in spellings):
                return one.where, not one.foreign
        return "", False

    def _found(self, value: Any, path: Path, untrusted: Untrusted, *, picked: bool) -> Iterator["_Field"]:
        if isinstance(value, dict):
            for name, inner in cast("dict[str, Any]", value).items():
                yield from self._found(inner, (*path, name), untrusted, picked=picked)
        elif isinstance(value, (list, tuple)):
            items = cast("Sequence[Any]", value)
            if picked and len(items) > 1:
                yield from self._of_several(items, path, untrusted)
                return
            for inner in items:
                yield from self._found(inner, path, untrusted, picked=picked)
        else:
            yield _Field(path, value, picked)

    def _of_several(self, items: Sequence[Any], path: Path, untrusted: Untrusted) -> Iterator["_Field"]:
        """Of several things the one is picked that the user's words name; of a thing's own list all of it."""
        things = any(isinstance(item, dict) for item in items)
        named = [place for place, item in enumerate(items) if things and self._names(item, path, untrusted)]
        for place, inner in enumerate(items):
            picked = named == [place] if things else bool(path)
            yield from self._found(inner, path, untrusted, picked=picked)

    def _names(self, item: Any, path: Path, untrusted: Untrusted) -> bool:
        """Whether the user's words name a thing by one of its trusted fields."""
        if not isinstance(item, dict):
            return False
        for name, value in cast("dict[str, Any]", item).items():
            text = said(value) if isinstance(value, (str, int, float)) else ""
            if (
                any(sign.isalnum() for sign in text)
                and says_enough(normal(text))
                and not is_untrusted(untrusted, (*path, name))
                and any(one.words and one.where == USER and stands_in(text, one.text) for one in self.known)
            ):
                return True
        return False

    def _know(self, one: Known) -> None:
        if self.characters + len(one.text) <= MOST_CHARACTERS:
            self.known.append(one)
            self.characters += len(one.text) + 100


class _Field(NamedTuple):
    path: Path
    value: Leaf
    picked: bool


def family_of(tool: Tool) -> str:
    """The first part of a tool's scope: `payments` of `payments:refund:write`."""
    return tool.scope.partition(":")[0]


def spellings_of(value: Leaf) -> tuple[str, ...]:
    """How people write a value: an amount with its cents, a large number in groups of three."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return (said(value),)
    return tuple(dict.fromkeys((said(value), f"{value:.2f}", f"{value:,}", f"{value:,.2f}")))


def said(value: Leaf) -> str:
    """A value as somebody would write it; empty for one that is no word and no number."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
