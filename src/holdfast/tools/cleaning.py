"""Somebody else's text as a model gets it: without what people would not see, and without secrets."""

import re
from collections.abc import Iterator
from functools import cache
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


OWN_SECRETS = (
    ("Anthropic key", re.compile(r"\bsk-ant-[A-Za-z0-9_-]{16,}")),
    (
        "private key",
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    ),
    ("Holdfast grant", re.compile(r"\bhf1\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}")),
)
OVER_FIRING = frozenset(
    {"IPPublicDetector", "CloudantDetector", "SoftlayerDetector", "IbmCosHmacDetector", "ArtifactoryDetector"}
)
"""Of detect-secrets: what they take for a secret mostly is none."""


PARTS = re.compile(r".{1,1000}(?:\s|\Z)|.{1,1000}", re.DOTALL)
"""Some of their patterns take long for long texts, so they get parts, cut between words where there are any."""


@cache
def _known_secrets() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """The patterns of detect-secrets, where it is installed (extra `scrub`)."""
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
        from detect_secrets.plugins.base import RegexBasedDetector
    except ImportError:
        return ()
    detectors: list[Any] = [*get_mapping_from_secret_type_to_class().values()]
    known = [one for one in detectors if issubclass(one, RegexBasedDetector) and one.__name__ not in OVER_FIRING]
    return tuple(
        (str(one.secret_type), pattern) for one in known for pattern in cast("list[re.Pattern[str]]", one.denylist)
    )


def without_secrets(text: str) -> str:
    """The text with what looks like a secret replaced by what it is."""
    for name, pattern in OWN_SECRETS:
        text = pattern.sub(f"[{name}: hidden]", text)
    known = _known_secrets()
    return "".join(_without(known, part) for part in PARTS.findall(text)) if known else text


def _without(known: tuple[tuple[str, re.Pattern[str]], ...], part: str) -> str:
    for name, pattern in known:
        part = pattern.sub(f"[{name}: hidden]", part)
    return part


MAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
DIGITS = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
PHONE = re.compile(r"(?<![\w+])\+\d{1,3}[ ()/.-]{0,2}(?:\d[ ()/.-]{0,2}){6,12}\d(?!\w)")


def without_personal(text: str, kinds: tuple[str, ...]) -> str:
    """The text with personal data of these kinds replaced; card and account numbers only if their check digits are right."""
    for kind in kinds:
        text = PERSONAL[kind].sub(lambda found, kind=kind: _hide(kind, found.group()), text)  # type: ignore[misc]
    return text


PERSONAL = {"mail": MAIL, "card": DIGITS, "iban": IBAN, "phone": PHONE}
"""By the name that contracts use."""


def _hide(kind: str, found: str) -> str:
    real = _is_card(found) if kind == "card" else _is_iban(found) if kind == "iban" else True
    return f"[{kind}: hidden]" if real else found


def _is_card(text: str) -> bool:
    """By its check digit (ISO/IEC 7812, Luhn)."""
    digits = [int(sign) for sign in text if sign.isdigit()]
    return (sum(digits[-1::-2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])) % 10 == 0


def _is_iban(text: str) -> bool:
    """By its check digits (ISO 13616, mod 97)."""
    bare = text.replace(" ", "")
    number = "".join(_as_digits(bare[4:] + bare[:4]))
    return int(number) % 97 == 1


def _as_digits(text: str) -> Iterator[str]:
    for sign in text:
        yield sign if sign.isdigit() else str(ord(sign) - ord("A") + 10)
