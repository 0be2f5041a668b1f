"""What a rule may say of one argument of a call."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import cached_property, partial
from operator import ge, gt, le, lt
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from handfast.contracts.messages import Frozen
from handfast.contracts.policy.globs import matches

Scalar = bool | int | float | str
MISSING = object()
DECIMAL = re.compile(r"-?\d{1,30}(\.\d{1,30})?", re.ASCII)
NO_ADDRESS = frozenset(" \\<>\"',;")
"""What no address that is to be trusted holds: others may read it differently."""


class Condition(Frozen):
    """What must be true of an argument. Everything that is said must hold; times are ISO 8601 texts and compare as such."""

    equals: Scalar | None = None
    one_of: tuple[Scalar, ...] = ()
    none_of: tuple[Scalar, ...] = ()
    most: int | float | None = None
    """At most this number."""
    least: int | float | None = None
    """At least this number."""
    above: int | float | None = None
    below: int | float | None = None
    matches: tuple[str, ...] = ()
    """A text that fits one of these patterns, such as `*@example.com`."""
    other_than: tuple[str, ...] = ()
    """A text that fits none of these patterns."""
    domains: tuple[str, ...] = ()
    """A URL or a mail address at one of these hosts: `example.com`, or `*.example.com` for all below it."""
    outside: tuple[str, ...] = ()
    """A URL or a mail address at a host that is none of these."""
    longest: int | None = Field(default=None, ge=0)
    """A text of at most so many characters, or a list of so many values."""
    longer: int | None = Field(default=None, ge=0)
    """A text of more characters, or a list of more values."""
    present: bool | None = None
    """Whether it is there at all, and not null."""

    @model_validator(mode="after")
    def _check(self) -> "Condition":
        if not self.model_fields_set:
            msg = "it says nothing: give most, one_of, matches, domains or another word"
            raise ValueError(msg)
        return self

    def fault(self, value: Any) -> str:
        """What of it is not so, empty if all is.

        Raises:
            TypeError: The value is of a kind of which this can't be said.
        """
        there = value is not MISSING and value is not None
        if self.present is not None and there is not self.present:
            return "is not there" if self.present else "is there"
        if not there:
            return "is not there" if self._checks else ""
        return next((fault for check, fault in self._checks if not check(value)), "")

    @cached_property
    def _checks(self) -> "tuple[Check, ...]":
        """What must be true of a value that is there, each with what is said where it is not."""
        return tuple(check for word, check in _checks(self) if word in self.model_fields_set)


Check = tuple[Callable[[Any], bool], str]


def _checks(said: Condition) -> Iterator[tuple[str, Check]]:
    """By word: what must be true of a value, and what is said where it is not."""
    limits: dict[str, Callable[[Any, Any], bool]] = {
        "most": le, "least": ge, "above": gt, "below": lt, "longest": le, "longer": gt,
    }  # fmt: skip
    told = {
        "most": "is above", "least": "is below", "above": "is not above", "below": "is not below",
        "longest": "is longer than", "longer": "is not longer than",
    }  # fmt: skip
    for word, fits in limits.items():
        limit, measure = getattr(said, word), _size if word.startswith("long") else _number
        yield word, (partial(_compare, fits, measure, limit), f"{told[word]} {limit}")
    yield "equals", (lambda value: _same(value, said.equals), f"is not {said.equals!r}")
    yield "one_of", (lambda value: _any(value, said.one_of), f"is none of {_listed(said.one_of)}")
    yield "none_of", (lambda value: not _any(value, said.none_of), f"is one of {_listed(said.none_of)}")
    yield "matches", (lambda value: matches(said.matches, _text(value)), f"does not fit {_listed(said.matches)}")
    yield "other_than", (lambda value: not matches(said.other_than, _text(value)), f"fits {_listed(said.other_than)}")
    yield "domains", (lambda value: matches(said.domains, host_of(_text(value))), f"is not at {_listed(said.domains)}")
    yield "outside", (lambda value: not matches(said.outside, host_of(_text(value))), f"is at {_listed(said.outside)}")


def _compare(fits: Callable[[Any, Any], bool], measure: Callable[[Any], Any], limit: Any, value: Any) -> bool:
    return fits(measure(value), limit)


def values_at(arguments: Mapping[str, Any], path: Sequence[str]) -> list[Any]:
    """The values at a path, several where `*` stands for all values of a list; `MISSING` where there is none."""
    found: list[Any] = [arguments]
    for step in path:
        found = [value for one in found for value in _step(one, step)]
    return found or [MISSING]


def host_of(text: str) -> str:
    """The host of a URL or a mail address in lower case.

    Raises:
        TypeError: It is neither.
    """
    host = None
    if not any(sign in NO_ADDRESS or not sign.isprintable() for sign in text):
        with contextlib.suppress(ValueError):
            host = urlsplit(text).hostname if "://" in text else text.partition("@")[2]
    host = (host or "").rstrip(".").lower()
    if not host or "@" in host:
        msg = "is no URL and no mail address"
        raise TypeError(msg)
    return host


def _step(value: Any, step: str) -> list[Any]:
    if isinstance(value, Mapping):
        return [value.get(step, MISSING)]  # pyright: ignore[reportUnknownMemberType]
    if isinstance(value, list):
        if step == "*":
            return list(value)  # pyright: ignore[reportUnknownArgumentType]
        if step.isdigit() and int(step) < len(value):  # pyright: ignore[reportUnknownArgumentType]
            return [value[int(step)]]
    return [MISSING]


def _number(value: Any) -> int | float | Decimal:
    """A number, also one that JSON carries as a text because it is decimal."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    if isinstance(value, str) and DECIMAL.fullmatch(value):
        return Decimal(value)
    msg = "is no number"
    raise TypeError(msg)


def _text(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    if not isinstance(value, str):
        msg = "is no text"
        raise TypeError(msg)
    return value


def _size(value: Any) -> int:
    if not isinstance(value, (str, list)):
        msg = "is neither text nor list"
        raise TypeError(msg)
    return len(value)  # pyright: ignore[reportUnknownArgumentType]


def _same(value: Any, wanted: Scalar | None) -> bool:
    """Whether they are the same JSON value: `true` is not 1."""
    return value == wanted and isinstance(value, bool) is isinstance(wanted, bool)


def _any(value: Any, wanted: tuple[Scalar, ...]) -> bool:
    return any(_same(value, one) for one in wanted)


def _listed(values: tuple[Scalar, ...]) -> str:
    return " or ".join(str(value) for value in values)
