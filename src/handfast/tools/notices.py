"""What the owners of tools should know: that an upstream will change or go (RFC 9745, RFC 8594)."""

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import structlog

from handfast.contracts.errors import LedgerError
from handfast.contracts.http_dates import parse_http_date
from handfast.contracts.results import Notice

if TYPE_CHECKING:
    import httpx

EPOCH = re.compile(r"@(-?[0-9]{1,15})\s*(?:;.*)?")
"""A date of RFC 9651, section 3.3.7."""
DEPRECATED = frozenset({"true", "?1"})
"""What drafts of RFC 9745 had where no date was known."""
TOLD_AGAIN = 3600.0
"""Seconds: what a process has told it tells again at most so often."""
log = structlog.get_logger()


class NoticeStore(Protocol):
    """Where notices are kept."""

    async def record_notice(self, notice: Notice) -> None:
        """Write a notice down; one of the same kind and subject is counted."""
        ...


class Notices:
    """Tells owners, once in a while about the same thing."""

    def __init__(self, store: NoticeStore | None) -> None:
        self._store = store
        self._told: dict[tuple[str, str], float] = {}

    async def tell(self, notice: Notice | None) -> None:
        """Log a notice and write it down. It never makes a call fail."""
        if notice is None:
            return
        now, about = time.monotonic(), (notice.kind, notice.subject)
        if now - self._told.get(about, -TOLD_AGAIN) < TOLD_AGAIN:
            return
        self._told[about] = now
        log.warning(
            "notice for the owner", kind=notice.kind, subject=notice.subject, owner=notice.owner, text=notice.text
        )
        if self._store is None:
            return
        try:
            await self._store.record_notice(notice)
        except LedgerError as error:
            del self._told[about]
            log.warning("notice not written", reason=str(error))


def sunset_notice(upstream: str, response: "httpx.Response", tool: str, owner: str) -> Notice | None:
    """What an answer's `Deprecation` (RFC 9745) and `Sunset` (RFC 8594) fields announce; None if neither can be read.

    A malformed field is ignored, as RFC 9651, section 4.2, asks for structured ones.
    """
    from handfast.tools.links import find_link

    deprecation, sunset = response.headers.get("deprecation", ""), response.headers.get("sunset", "")
    since, gone = _deprecated_since(deprecation), parse_http_date(sunset)
    if since is None and gone is None and deprecation.strip().lower() not in DEPRECATED:
        return None
    told = [f"{upstream} has deprecated what {tool or 'a tool'} uses"]
    if since:
        told.append(f"since {since.date()}")
    if gone:
        told.append(f"and removes it on {gone.date()}")
    link = find_link(response, "deprecation") or find_link(response, "sunset")
    text = " ".join(told) + (f"; see {link}" if link else "")
    return Notice(kind="upstream_deprecated", subject=f"{upstream} through {tool}", text=text, owner=owner)


def _deprecated_since(value: str) -> datetime | None:
    """The moment that `Deprecation` names: `@epoch`, with parameters or without, or a date as its drafts had it."""
    epoch = EPOCH.fullmatch(value.strip())
    if epoch is None:
        return parse_http_date(value)
    try:
        return datetime.fromtimestamp(int(epoch[1]), UTC)
    except (ValueError, OverflowError, OSError):
        return None
