"""What a model is not shown of a text: secrets, and personal data that a contract names."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

T = TypeVar("T")

OWN_SECRETS = (
    ("Anthropic key", "sk-ant-", re.compile(r"\bsk-ant-[A-Za-z0-9_-]{16,}")),
    (
        "private key",
        "PRIVATE KEY-----",
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    ),
    ("Handfast grant", "hf1.", re.compile(r"\bhf1\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}")),
)
"""What it is, a word that each of them holds, and its form."""
WINDOW, OVERLAP = 1000, 300
"""Characters that are searched together, and of which the next window sees the last ones again."""
MAX_SECRET = 4000
"""Characters: one that begins in a window is followed so far."""
OVER_FIRING = frozenset(
    {"IPPublicDetector", "CloudantDetector", "SoftlayerDetector", "IbmCosHmacDetector", "ArtifactoryDetector"}
)
"""Of detect-secrets: what they take for a secret mostly is none."""


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


class Hidden(NamedTuple):
    """A part of a text that is not shown."""

    start: int
    end: int
    name: str
    """What it is."""


def shown(text: str, kinds: tuple[str, ...], start: int = 0, end: int | None = None) -> str:
    """A part of a text with what looks like a secret, and personal data of these kinds, replaced by what it is.

    What lies across an end of the part is replaced as in the whole text: so a text is searched first, and cut then.

    Args:
        text: The whole.
        kinds: Of personal data, by the name that contracts use.
        start: Where the part begins, in characters.
        end: Where it ends. Default: at the end of the text.
    """
    end = len(text) if end is None else min(end, len(text))
    return _replaced(text, [*_secrets(text, start, end), *_personal(text, kinds, start, end)], start, end)


def without_secrets(text: str) -> str:
    """The text with what looks like a secret replaced by what it is."""
    return _replaced(text, _secrets(text, 0, len(text)), 0, len(text))


def without_personal(text: str, kinds: tuple[str, ...]) -> str:
    """The text with personal data of these kinds replaced; card and account numbers only if their check digits are right."""
    return _replaced(text, _personal(text, kinds, 0, len(text)), 0, len(text))


def _replaced(text: str, found: Iterable[Hidden], start: int, end: int) -> str:
    pieces: list[str] = []
    done = start
    for one in sorted(found):
        if one.end <= done or one.start >= end:
            continue
        # What overlaps with the one before it is hidden with that.
        if one.start >= done:
            pieces.append(text[done : one.start])
        if one.start >= done or not pieces:
            pieces.append(f"[{one.name}: hidden]")
        done = one.end
    return "".join([*pieces, text[done:end]])


def _secrets(text: str, start: int, end: int) -> Iterator[Hidden]:
    for name, word, pattern in OWN_SECRETS:
        if word in text:
            yield from (Hidden(*found.span(), name) for found in pattern.finditer(text))
    yield from _in_windows(_known_secrets(), text, start, end)


def _in_windows(patterns: Sequence[tuple[str, re.Pattern[str]]], text: str, start: int, end: int) -> Iterator[Hidden]:
    """What patterns find that may reach into a part. Some take long for long texts, so they get windows.

    The windows are those of the whole text, so that each part finds the same.
    """
    for begin, until in _windows(text, start, end):
        for name, pattern in patterns:
            for found in pattern.finditer(text, begin, until):
                if found.end() == until < len(text):
                    found = pattern.match(text, found.start(), found.start() + MAX_SECRET) or found
                yield Hidden(*found.span(), name)


def _windows(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    step = WINDOW - OVERLAP
    first = max(start - MAX_SECRET - WINDOW, 0) // step * step
    for begin in range(first, end, step):
        yield begin, min(begin + WINDOW, len(text))


SHORTEST_SECRET = 8
"""Shorter ones stand in too many words that have nothing to do with them."""


def without_values(value: T, secrets: Collection[str]) -> T:
    """JSON, or a text, in which nothing of these stands any more, neither in what it says nor in its names."""
    longest_first = sorted((one for one in secrets if len(one) >= SHORTEST_SECRET), key=len, reverse=True)
    return cast("T", _without_values(value, longest_first)) if longest_first else value


def _without_values(value: object, secrets: Sequence[str]) -> object:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "[secret: hidden]")
        return value
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {str(_without_values(name, secrets)): _without_values(inner, secrets) for name, inner in fields.items()}
    if isinstance(value, list):
        return [_without_values(inner, secrets) for inner in cast("list[object]", value)]
    return value


MAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
DIGITS = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
PHONE = re.compile(r"(?<![\w+])\+\d{1,3}[ ()/.-]{0,2}(?:\d[ ()/.-]{0,2}){6,12}\d(?!\w)")


def _personal(text: str, kinds: tuple[str, ...], start: int, end: int) -> Iterator[Hidden]:
    for kind in kinds:
        if kind in PERSONAL:
            found = _in_windows(((kind, PERSONAL[kind]),), text, start, end)
            yield from (one for one in found if _is_real(kind, text[one.start : one.end]))
    if further := tuple(kind for kind in kinds if kind not in PERSONAL):
        yield from _recognised(text, further, start, end)


def _recognised(text: str, kinds: tuple[str, ...], start: int, end: int) -> Iterator[Hidden]:
    """By Presidio, window by window: some of its patterns take very long for long texts."""
    from handfast.tools.presidio import recognise

    for begin, until in _windows(text, start, end):
        for first, last, kind in recognise(text[begin:until], kinds):
            yield Hidden(begin + first, begin + last, kind)


PERSONAL = {"mail": MAIL, "card": DIGITS, "iban": IBAN, "phone": PHONE}
"""By the name that contracts use."""


def _is_real(kind: str, found: str) -> bool:
    return _is_card(found) if kind == "card" else _is_iban(found) if kind == "iban" else True


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
