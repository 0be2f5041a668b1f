"""Times of day and days of the week."""

import re
from datetime import datetime, time
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import model_validator

from handfast.contracts.messages import Frozen

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SPAN = re.compile(r"^(\d{2}):(\d{2})-(\d{2}):(\d{2})$")


class Hours(Frozen):
    """A part of the week, such as 09:00 to 17:30 from Monday to Friday in Berlin."""

    times: str = "00:00-24:00"
    """From, and up to but without; a span may go over midnight, and belongs to the day on which it begins."""
    days: str = "mon-sun"
    """A day, several with commas, or a span: `mon-fri`, `sat,sun`."""
    zone: str = "UTC"
    """An IANA time zone, such as `Europe/Berlin`."""

    @model_validator(mode="after")
    def _check(self) -> "Hours":
        _ = (self._span, self._days, self._zone)
        return self

    def contain(self, moment: datetime) -> bool:
        """Whether a moment, which must know its time zone, lies within."""
        here = moment.astimezone(self._zone)
        minute, day = here.hour * 60 + here.minute, here.weekday()
        begin, end = self._span
        if begin < end:
            return begin <= minute < end and day in self._days
        return (minute >= begin and day in self._days) or (minute < end and (day - 1) % 7 in self._days)

    def __str__(self) -> str:
        """For people."""
        return f"{self.times} {self.days} {self.zone}"

    @cached_property
    def _span(self) -> tuple[int, int]:
        found = SPAN.match(self.times)
        if found is None:
            msg = f"times {self.times!r}: write them like 09:00-17:30"
            raise ValueError(msg)
        begin, end = _minute(*found.groups()[:2]), _minute(*found.groups()[2:])
        if begin == end:
            msg = f"times {self.times!r}: begins when it ends"
            raise ValueError(msg)
        return begin, end

    @cached_property
    def _days(self) -> frozenset[int]:
        found: set[int] = set()
        for part in self.days.lower().replace(" ", "").split(","):
            first, _, last = part.partition("-")
            if first not in DAYS or (last or first) not in DAYS:
                msg = f"days {self.days!r}: write them like mon-fri or sat,sun"
                raise ValueError(msg)
            begin, end = DAYS.index(first), DAYS.index(last or first)
            found.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
        return frozenset(found)

    @cached_property
    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            msg = f"zone {self.zone!r} is no time zone that this machine knows: write it like Europe/Berlin"
            raise ValueError(msg) from error


def _minute(hour: str, minute: str) -> int:
    if (hour, minute) != ("24", "00"):
        time(int(hour), int(minute))
    return int(hour) * 60 + int(minute)
