"""How long the other side asks to wait, read once for models and for tools."""

import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from handfast.contracts.http_dates import parse_http_date

LONGEST_WAIT = 3600.0
"""Seconds; a hostile or mistaken value is cut to this."""
MAX_LIFETIME = 86_400.0
"""Seconds that a token is used at most, whatever its service says."""

SECONDS = re.compile(r"-?\d+(\.\d*)?(e\+?\d{1,4})?", re.ASCII | re.IGNORECASE)


def retry_after_seconds(value: str | None) -> float | None:
    """Seconds to wait, from seconds or a date (RFC 9110, sections 10.2.3 and 5.6.7).

    What is in the past is 0, what is too long is cut to `LONGEST_WAIT`, and a malformed value is ignored. Fractions and
    exponents are understood, though the grammar has none, because services send them.
    """
    if value is None:
        return None
    if SECONDS.fullmatch(value := value.strip()):
        return bounded_wait(float(value))
    date = parse_http_date(value)
    return None if date is None else bounded_wait((date - datetime.now(UTC)).total_seconds())


def bounded_wait(seconds: float | None) -> float | None:
    """Seconds to wait, not in the past and not longer than `LONGEST_WAIT`; None where they are no number."""
    return None if seconds is None or math.isnan(seconds) else min(max(float(seconds), 0.0), LONGEST_WAIT)


def longest_retry_after(values: Iterable[str]) -> float | None:
    """Seconds to wait where `Retry-After` came once, or against the grammar several times: the longest that can be read."""
    return max((seconds for value in values if (seconds := retry_after_seconds(value)) is not None), default=None)


RESET = re.compile(r";\s*t\s*=\s*(\d{1,9})\s*(?=;|,|$)")
LEFT = re.compile(r";\s*r\s*=\s*(\d{1,18})\s*(?=;|,|$)")


def rate_limit_reset_seconds(values: Sequence[str]) -> float | None:
    """Seconds until a quota is there again, from `RateLimit` fields (IETF ratelimit-headers, `"name";r=0;t=30`).

    Of several limits the longest of those that are used up counts; malformed ones are ignored.
    """
    waits: list[float] = []
    for item in ",".join(values).split(","):
        reset, left = RESET.search(item), LEFT.search(item)
        if reset is not None and (left is None or int(left[1]) == 0):
            waits.append(float(reset[1]))
    return min(max(waits), LONGEST_WAIT) if waits else None


def lifetime_seconds(value: object) -> float | None:
    """How long a token is valid, from `expires_in` (RFC 6749, section 5.1) or the like; None if that can't be told.

    A number or a text with one counts. What is over already is 0, and what is too long is cut to `MAX_LIFETIME`.
    """
    if isinstance(value, str) and SECONDS.fullmatch(value.strip()):
        value = float(value)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and math.isnan(value))
    ):
        return None
    return float(min(max(value, 0), MAX_LIFETIME))
