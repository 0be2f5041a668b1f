"""What the owners of tools should know: that an upstream will change or go (RFC 9745, RFC 8594)."""

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol

import structlog

from handfast.contracts.errors import LedgerError
from handfast.contracts.results import Notice

if TYPE_CHECKING:
    import httpx

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
    """What an answer's `Deprecation` and `Sunset` headers announce, or None."""
    deprecation, sunset = response.headers.get("deprecation"), response.headers.get("sunset")
    if not deprecation and not sunset:
        return None
    since, gone = _day(deprecation), _day(sunset)
    told = [f"{upstream} has deprecated what {tool or 'a tool'} uses"]
    if since:
        told.append(f"since {since}")
    if gone:
        told.append(f"and removes it on {gone}")
    link = response.links.get("deprecation") or response.links.get("sunset") or {}
    text = " ".join(told) + (f"; see {link['url']}" if "url" in link else "")
    return Notice(kind="upstream_deprecated", subject=f"{upstream} through {tool}", text=text, owner=owner)


def _day(value: str | None) -> str:
    """The day a header names, as `@epoch` or as an HTTP date; empty if it names none."""
    try:
        if value and value.startswith("@"):
            return str(datetime.fromtimestamp(int(value[1:]), UTC).date())
        return str(parsedate_to_datetime(value).date()) if value else ""
    except (ValueError, TypeError, OverflowError, OSError):
        return ""
