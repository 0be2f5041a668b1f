"""Names with wildcards: `*` stands for any characters, `?` for one, `[ab]` for one of these. Case counts."""

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache

ANY = ("*",)


@lru_cache(maxsize=4096)
def _pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(glob) for glob in globs))


def matches(globs: Iterable[str], *names: str) -> bool:
    """Whether any of the names fits any of the patterns."""
    if globs == ANY:
        return True
    globs = tuple(globs)
    if not globs:
        return False
    fits = _pattern(globs).match
    return any(fits(name) for name in names)
