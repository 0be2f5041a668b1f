"""What somebody may have meant who wrote a name that is not there."""

from collections.abc import Iterable, Set
from difflib import SequenceMatcher

NEAR = 0.75
"""How alike two names must be, from 0 to 1, so that one may be a misspelling of the other."""
MAX_LISTED = 20


def close_to(name: str, known: Iterable[str]) -> str:
    """The known name that one that is not there may be a misspelling of; empty if there is none.

    Names that differ in nothing but their digits are two names. Of a scope each part is looked at, and only one may differ.
    """
    alike = {one: _alike(name, one) for one in known if _letters(one) != _letters(name) or one.lower() == name.lower()}
    nearest = max(alike, key=alike.__getitem__, default="")
    return nearest if alike.get(nearest, 0) >= NEAR else ""


def _alike(name: str, other: str) -> float:
    """How alike two names are, from 0 to 1, without regard to case and to how their words are joined."""
    pairs = [*zip(*([_plain(part) for part in one.split(":")] for one in (name, other)), strict=False)]
    if name.count(":") != other.count(":") or sum(first != second for first, second in pairs) > 1:
        return 0
    return min(SequenceMatcher(None, *pair).ratio() for pair in pairs)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _letters(name: str) -> str:
    return "".join(sign for sign in name.lower() if not sign.isdigit())


def instead_of(name: str, known: Iterable[str]) -> str:
    """What is allowed in the place of a name, and which of it may have been meant: `a, b; did you mean 'a'?`."""
    names = sorted(known) if isinstance(known, Set) else [*dict.fromkeys(known)]
    listed = ", ".join(names[:MAX_LISTED]) or "none"
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    near = close_to(name, names)
    return f"{listed}{more}" + (f"; did you mean {near!r}?" if near else "")
