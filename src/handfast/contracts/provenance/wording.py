"""Whether a value stands in a text, as somebody would who has written it there on purpose."""

import re
import string
import unicodedata
from collections.abc import Iterator

SHORTEST = 3
"""Characters of a word that says something where it stands. Shorter ones stand in every text."""
SHORTEST_NUMBER = 4
"""Digits of a number that does. `13` may be a day, an age or a price."""
JOINERS = frozenset("._-@/+:%~#?&=$!*\\")
"""What joins letters into one word: `bob@example.com` does not stand in `bob@example.com.evil.org`."""
QUOTES = (("'", "'"), ('"', '"'), ("`", "`"), ("\u2018", "\u2019"), ("\u201c", "\u201d"), ("\u00ab", "\u00bb"))
LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
"""Only ASCII: other letters that differ in case may name something else."""
URL_SCHEME = re.compile(r"https?://", re.IGNORECASE)

FILE_ENDINGS = (
    "csv", "doc", "docx", "gif", "htm", "html", "ini", "jpeg", "jpg", "json", "log", "odt", "pdf", "png", "ppt", "pptx", "svg",
    "toml", "txt", "xls", "xlsx", "xml", "yaml", "yml",
)  # fmt: skip
"""Endings of file names that are no top-level domains."""
HOST = re.compile(r"(?:[\w-]{1,63}\.){1,10}[^\W\d_]{2,63}")
LONGEST_HOST = 253
DELIMITERS = re.compile(r"[\s<>\"'()\[\]{},;|\\^`=]+")
DOTS = str.maketrans("\u3002\uff0e\uff61", "...")
"""What browsers take for a dot in a host."""
HOST_END = re.compile(r"[:/?#]")
ENDS = ".,;:!?\u2026"


def normal(text: str) -> str:
    """The text as it is looked at: without regard to ASCII case and to how words are spaced."""
    return " ".join(text.translate(LOWER).split())


def stands_in(value: str, text: str) -> bool:
    """Whether a value stands in a text as a whole word, or several, and says enough to be meant; `text` is `normal`.

    A short word or number must stand in quotes. A URL may be written without its scheme.
    """
    wanted = normal(value)
    if not wanted:
        return False
    if not says_enough(wanted):
        return any(f"{first}{wanted}{last}" in text for first, last in QUOTES)
    return any(_has_word(one, text) for one in _spellings(wanted))


def says_enough(wanted: str) -> bool:
    """Whether a text holds such a value hardly ever by chance."""
    if any(sign.isalpha() for sign in wanted):
        return len(wanted) >= SHORTEST
    return sum(sign.isdigit() for sign in wanted) >= SHORTEST_NUMBER


def addresses_in(text: str) -> Iterator[str]:
    """The URLs, mail addresses and hosts in a text: each says where somebody is sent."""
    seen = "".join(sign for sign in text.translate(DOTS) if unicodedata.category(sign) != "Cf")
    for word in DELIMITERS.split(seen):
        address = word.strip(ENDS).removeprefix("mailto:")
        host, rest = HOST_END.split(address, maxsplit=1)[0], HOST_END.search(address)
        if "://" in address or ("@" in address and "." in address.rpartition("@")[2]):
            yield address
        elif len(host) <= LONGEST_HOST and HOST.fullmatch(host):
            is_file = rest is None and host.rpartition(".")[2].lower() in FILE_ENDINGS
            if not is_file:
                yield address


def _spellings(wanted: str) -> Iterator[str]:
    yield wanted
    if URL_SCHEME.match(wanted):
        bare = URL_SCHEME.sub("", wanted, count=1)
        yield from (bare, bare.removesuffix("/"))


def _has_word(wanted: str, text: str) -> bool:
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        if not _goes_on(text[start - 1 :: -1] if start else "") and not _goes_on(text[end : end + 2]):
            return True
        start = text.find(wanted, start + 1)
    return False


def _goes_on(beside: str) -> bool:
    """Whether the word goes on in what stands beside it, nearest character first."""
    if not beside:
        return False
    near = beside[0]
    if near.isalnum() or near == "_":
        return True
    if len(beside) == 1:
        return False
    return (near in JOINERS and (beside[1].isalnum() or beside[1] == "_")) or (near == "," and beside[1].isdigit())
