"""Dates in HTTP fields (RFC 9110, section 5.6.7), in each of the three forms that a recipient must understand."""

import re
from datetime import UTC, datetime, timedelta, timezone

DAY = r"(?P<day>\d{1,2})"
MONTH = r"(?P<month>[A-Za-z]{3})"
TIME = r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2})"
ZONE = r"(?:\s*(?P<zone>GMT|UTC|UT|Z|[+-]\d{4}))?"
FORMS = tuple(
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        rf"(?:[a-z]{{3,9}},?\s+)?{DAY}\s+{MONTH}\s+(?P<year>\d{{4}})\s+{TIME}{ZONE}",  # IMF-fixdate
        rf"(?:[a-z]{{3,9}},?\s+)?{DAY}-{MONTH}-(?P<year>\d{{4}}|\d{{2}})\s+{TIME}{ZONE}",  # rfc850-date
        rf"[a-z]{{3,9}},?\s+{MONTH}\s+{DAY}\s+{TIME}{ZONE}\s+(?P<year>\d{{4}})",  # asctime-date
    )
)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
LEAP_SECOND = 60
MAX_CHARACTERS = 100


def parse_http_date(value: str, now: datetime | None = None) -> datetime | None:
    """The moment that a date names; None if it is none.

    Read more leniently than the grammar: the name of the day is not compared, letters may be small or capital, a missing zone is
    UTC, and a numeric one counts. A leap second is the one before it.

    Args:
        value: `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` or `Sun Nov  6 08:49:37 1994`.
        now: From where a year of two digits is told; the current time by default.
    """
    now = now or datetime.now(UTC)
    text = value.strip() if len(value) <= MAX_CHARACTERS else ""
    matched = next((found for form in FORMS if (found := form.fullmatch(text))), None)
    if matched is None:
        return None
    moments = (_moment(matched, year) for year in _years(matched["year"], now))
    short = len(matched["year"]) == len("94")
    return next((found for found in moments if found and not (short and _is_over_50_years_ahead(found, now))), None)


def _is_over_50_years_ahead(moment: datetime, now: datetime) -> bool:
    return (moment.year - 50, *moment.timetuple()[1:6]) > now.timetuple()[:6]


def _years(digits: str, now: datetime) -> tuple[int, ...]:
    """The years that are meant: one that seems to be more than 50 years ahead is of the century before."""
    if len(digits) == len("1994"):
        return (int(digits),)
    newest = now.year + 50
    latest = newest - (newest - int(digits)) % 100
    return latest, latest - 100


def _moment(matched: re.Match[str], year: int) -> datetime | None:
    try:
        month = MONTHS.index(matched["month"].lower()) + 1
        hour, minute, second = (int(matched[part]) for part in ("hour", "minute", "second"))
        second -= second == LEAP_SECOND
        return datetime(
            year, month, int(matched["day"]), hour, minute, second, tzinfo=_zone(matched["zone"])
        ).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _zone(text: str | None) -> timezone:
    if text is None or text[0] not in "+-":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:5]))
    return timezone(-offset if text[0] == "-" else offset)
