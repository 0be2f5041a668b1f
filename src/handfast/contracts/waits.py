"""How long the other side asks to wait, read once for models and for tools."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_WAIT = 3600.0
"""Seconds; a hostile or mistaken value is cut to this."""


def retry_after_seconds(value: str | None) -> float | None:
    """Seconds to wait, from seconds or an HTTP date (RFC 9110, 10.2.3); malformed values are ignored."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_WAIT)


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
