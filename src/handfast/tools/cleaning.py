"""Somebody else's text as people would see it: without invisible characters, and without what markup hides."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]|[\ufe00-\ufe0f]{2,}"
)
"""What nobody sees: control and format characters, direction marks, tags, fillers, and more than one variation selector, which hide
bytes. The two joiners that several scripts and emoji need are not among them."""
MARKUP = re.compile(
    r"<!--|<(?:script|style|template|noscript|head|title|iframe|object)\b|\b(?:style|hidden|aria-hidden)\b",
    re.IGNORECASE,
)
OPENING = re.compile(r"<(/?)([a-zA-Z][^\s/<>]{0,60})")
PIECE = re.compile(r"""[^<>"']{1,10000}|"[^"]{0,2000}"|'[^']{0,2000}'""")
LONGEST_TAG = 10_000
UNSEEN = frozenset({"script", "style", "template", "noscript", "head", "title", "iframe", "object"})
VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
)
HIDES = re.compile(
    r"""(?:^|\s)(?:hidden(?:\s|=|/|$)|aria-hidden\s*=\s*["']?true|style\s*=[^=]{0,2000}?(?:
        display\s*:\s*none | visibility\s*:\s*(?:hidden|collapse) | opacity\s*:\s*0(?:\.0*)?(?![.\d])
        | font-size\s*:\s*[01](?:\.\d*)?(?:px|pt|em|%|\b) | (?:max-)?(?:height|width)\s*:\s*0(?:px|\b)
        | (?:left|top|text-indent)\s*:\s*-\d{3,} | clip\s*:\s*rect\(0 | color\s*:\s*transparent))""",
    re.IGNORECASE | re.VERBOSE,
)
"""In the attributes of an element: people do not see it."""


def visible(text: str) -> str:
    """The text without what nobody sees of it."""
    return HIDDEN.sub("", text)


def without_hidden_markup(text: str) -> str:
    """HTML without its comments, scripts, and what its styles hide from people; every other text as it is."""
    if not MARKUP.search(text):
        return text
    return "".join(_seen(text))


def cleaned(content: Any) -> Any:
    """JSON of somebody else, each text of it as people would see it."""
    if isinstance(content, str):
        return visible(without_hidden_markup(content))
    if isinstance(content, dict):
        return {visible(str(name)): cleaned(value) for name, value in cast("dict[str, Any]", content).items()}
    if isinstance(content, list):
        return [cleaned(value) for value in content]  # pyright: ignore[reportUnknownVariableType] - JSON
    return content


def _seen(text: str) -> Iterator[str]:
    """What is seen of HTML, piece by piece. It is read once from one end to the other, whatever it is."""
    at, hidden = 0, list[str]()
    while (start := text.find("<", at)) >= 0:
        if not hidden:
            yield text[at:start]
        tag = _tag_at(text, start)
        at = tag.end
        opens = bool(tag.name) and not tag.closes and tag.name not in VOID
        if hidden:
            if opens:
                hidden.append(tag.name)
            elif tag.closes and tag.name in hidden:
                del hidden[len(hidden) - 1 - hidden[::-1].index(tag.name) :]
        elif tag.name in UNSEEN or HIDES.search(tag.attributes):
            hidden.extend([tag.name] if opens else [])
        elif not tag.comment:
            yield text[start:at]
    if not hidden:
        yield text[at:]


class _Tag(NamedTuple):
    """What begins with `<`; without a name it is a comment, or no tag at all."""

    end: int
    name: str = ""
    attributes: str = ""
    closes: bool = False
    comment: bool = False


def _tag_at(text: str, start: int) -> _Tag:
    if text.startswith("<!--", start):
        end = text.find("-->", start + 4)
        # One that does not end hides all that follows.
        return _Tag(len(text) if end < 0 else end + 3, comment=True)
    opening = OPENING.match(text, start)
    if opening is None:
        return _Tag(start + 1)
    end = opening.end()
    while end - start < LONGEST_TAG and (piece := PIECE.match(text, end)) is not None:
        end = piece.end()
    if not text.startswith(">", end):
        return _Tag(end)
    attributes = text[opening.end() : end]
    return _Tag(end + 1, opening.group(2).lower(), attributes, closes=bool(opening.group(1)))
