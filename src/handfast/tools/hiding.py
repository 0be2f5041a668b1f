"""What a model is not shown of a text: secrets, and personal data that a contract names."""

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar, cast

T = TypeVar("T")

OWN_SECRETS = (
    ("Anthropic key", re.compile(r"\bsk-ant-[A-Za-z0-9_-]{16,}")),
    (
        "private key",
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    ),
    ("Handfast grant", re.compile(r"\bhf1\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}")),
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


WINDOW, OVERLAP = 1000, 100
"""Characters that Presidio looks at together, and of which the next window sees the last ones again."""
MAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
DIGITS = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
PHONE = re.compile(r"(?<![\w+])\+\d{1,3}[ ()/.-]{0,2}(?:\d[ ()/.-]{0,2}){6,12}\d(?!\w)")


def without_personal(text: str, kinds: tuple[str, ...]) -> str:
    """The text with personal data of these kinds replaced; card and account numbers only if their check digits are right."""
    for kind in kinds:
        if kind in PERSONAL:
            text = PERSONAL[kind].sub(lambda found, kind=kind: _hide(kind, found.group()), text)  # type: ignore[misc]
    further = tuple(kind for kind in kinds if kind not in PERSONAL)
    return _without_further(text, further) if further else text


def _without_further(text: str, kinds: tuple[str, ...]) -> str:
    """By Presidio, window by window: some of its patterns take very long for long texts."""
    from handfast.tools.presidio import recognise

    found: dict[int, tuple[int, str]] = {}
    for begin in range(0, len(text), WINDOW - OVERLAP):
        for start, end, kind in recognise(text[begin : begin + WINDOW], kinds):
            longest = found.get(begin + start, (0, ""))
            found[begin + start] = max(longest, (begin + end, kind))
    shown: list[str] = []
    done = 0
    for start, (end, kind) in sorted(found.items()):
        if start >= done:
            shown.append(f"{text[done:start]}[{kind}: hidden]")
        done = max(done, end)
    return "".join([*shown, text[done:]])


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
