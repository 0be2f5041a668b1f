"""The `Link` field (RFC 8288, section 3), parsed as its appendix B.3 says, and never with an error."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import httpx

WHITESPACE = " \t"
MAX_LINKS = 1000
"""Of one answer; what follows is left out."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """One link."""

    target: str
    """A URI, or a reference relative to the answer's own."""
    parameters: Mapping[str, str]
    """By name in small letters; of a name that comes twice the first value (sections 3.3 and 3.4.1)."""

    @property
    def relations(self) -> frozenset[str]:
        """The types in `rel`, in small letters; `rel="next last"` has two (section 3.3)."""
        return frozenset(self.parameters.get("rel", "").lower().split())


def find_link(response: httpx.Response, relation: str) -> str | None:
    """The target of an answer's first link of a relation, as it is written; None if there is none.

    A link with an `anchor` elsewhere is about something else than the answer, and does not count (section 3.2).
    """
    links = parse_links(response.headers.get_list("link"))
    return next((link.target for link in links if relation in link.relations and _is_about(response, link)), None)


def _is_about(response: httpx.Response, link: Link) -> bool:
    anchor = link.parameters.get("anchor", "")
    try:
        return not anchor or response.url.join(anchor) == response.url
    except (httpx.InvalidURL, ValueError):
        return False


def parse_links(values: Iterable[str]) -> list[Link]:
    """The links in all `Link` fields of an answer. What is malformed ends the field that it is in."""
    links: list[Link] = []
    for value in values:
        for link in _Reader(value).links():
            if len(links) == MAX_LINKS:
                return links
            links.append(link)
    return links


class _Reader:
    """Reads one value from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def links(self) -> Iterator[Link]:
        while True:
            self._skip(WHITESPACE + ",")
            if not self._take("<"):
                return
            target = self._until(">")
            if not self._take(">"):
                return
            yield Link(target=target.strip(), parameters=self._parameters())

    def _parameters(self) -> dict[str, str]:
        found: dict[str, str] = {}
        self._skip(WHITESPACE)
        while self._take(";"):
            self._skip(WHITESPACE)
            name = self._until("=;," + WHITESPACE).lower()
            self._skip(WHITESPACE)
            value = self._value() if self._take("=") else ""
            found.setdefault(name, value)
            self._skip(WHITESPACE)
        # What stands between a parameter and the next separator is malformed.
        self._until(",")
        return found

    def _value(self) -> str:
        self._skip(WHITESPACE)
        if not self._take('"'):
            return self._until(";,").strip().strip("'")
        value: list[str] = []
        while self._at < len(self._text) and not self._take('"'):
            self._take("\\")
            value.append(self._text[self._at : self._at + 1])
            self._at += 1
        return "".join(value)

    def _take(self, character: str) -> bool:
        found = self._text.startswith(character, self._at)
        self._at += found
        return found

    def _skip(self, characters: str) -> None:
        while self._at < len(self._text) and self._text[self._at] in characters:
            self._at += 1

    def _until(self, characters: str) -> str:
        begin = self._at
        while self._at < len(self._text) and self._text[self._at] not in characters:
            self._at += 1
        return self._text[begin : self._at]
