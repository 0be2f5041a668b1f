"""Lists that come in pages: by cursor, by page number, or by `Link` (RFC 8288). Bounded, and resumable after a crash."""

from collections.abc import Mapping
from typing import Any, Protocol, cast

import httpx

from handfast.contracts.context import ToolContext
from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.messages import Frozen


class Page(Frozen):
    """Part of a list, for a tool to return: the model decides whether it wants more."""

    items: tuple[Any, ...]
    has_more: bool
    next_cursor: str = ""
    """What to pass as `cursor` to go on behind these items; empty at the end."""


class Paging(Protocol):
    """How a service pages its lists. A cursor is a string; the empty one is the beginning."""

    def page(self, first: httpx.URL, cursor: str) -> httpx.URL:
        """The URL of the page at a cursor; `first` is the list's own."""
        ...

    def read(self, response: httpx.Response, cursor: str) -> tuple[list[Any], str]:
        """A page's items and the next cursor, empty at the end."""
        ...


class ByCursor:
    """`?cursor=…`, and the next one in the answer, as Stripe, Slack and many others have it.

    Args:
        items: Where the items are in the answer; steps are separated by dots.
        next_cursor: Where the next cursor is.
        param: The query parameter.
    """

    def __init__(self, *, items: str = "items", next_cursor: str = "next_cursor", param: str = "cursor") -> None:
        self._items, self._next, self._param = items, next_cursor, param

    def page(self, first: httpx.URL, cursor: str) -> httpx.URL:
        """The list's URL, with the cursor."""
        return first.copy_set_param(self._param, cursor) if cursor else first

    def read(self, response: httpx.Response, cursor: str) -> tuple[list[Any], str]:
        """The items and the cursor from the answer."""
        body = response.json()
        following = _at(body, self._next)
        return _items(body, self._items), "" if following in {None, False} else str(following)


class ByPage:
    """`?page=1`, `?page=2`, … until a page is not full, or empty if the service's page size is not known."""

    def __init__(self, *, items: str = "items", param: str = "page", first: int = 1, size: int = 0) -> None:
        self._items, self._param, self._first, self._size = items, param, first, size

    def page(self, first: httpx.URL, cursor: str) -> httpx.URL:
        """The list's URL, with the page's number."""
        return first.copy_set_param(self._param, cursor or str(self._first))

    def read(self, response: httpx.Response, cursor: str) -> tuple[list[Any], str]:
        """The items, and the next page's number."""
        items = _items(response.json(), self._items)
        last = len(items) < self._size if self._size else not items
        number = int(cursor) if cursor.isdecimal() else self._first
        return items, "" if last else str(number + 1)


class ByLink:
    """`Link: <…>; rel="next"` (RFC 8288), as GitHub has it. Only links to the same origin are followed."""

    def __init__(self, *, items: str = "") -> None:
        self._items = items

    def page(self, first: httpx.URL, cursor: str) -> httpx.URL:
        """The link of the page before."""
        return httpx.URL(cursor) if cursor else first

    def read(self, response: httpx.Response, cursor: str) -> tuple[list[Any], str]:
        """The items, and the next link.

        Raises:
            ToolError: It leads to another origin.
        """
        items, link = _items(response.json(), self._items), response.links.get("next", {}).get("url", "")
        if not link:
            return items, ""
        here, there = response.url, response.url.join(link)
        if (here.scheme, here.host, here.port) != (there.scheme, there.host, there.port):
            message = f"the next page is at another origin, {there.scheme}://{there.host}"
            raise ToolError(message, code=ErrorCode.DESTINATION_REFUSED)
        return items, str(there)


async def collect(
    ctx: ToolContext,
    upstream: str,
    path: str,
    paging: Paging,
    *,
    params: Mapping[str, str | int] | None = None,
    cursor: str = "",
    most_items: int = 100,
    most_pages: int = 10,
) -> Page:
    """Read a list page by page until there are enough items, and keep what was read for the next attempt.

    Args:
        ctx: The call's context. After each page that is followed by another a checkpoint is left; a tool that uses this can
            have no checkpoints of its own.
        upstream: The name of the upstream.
        path: Of the list.
        paging: How the service pages it.
        params: Further query parameters.
        cursor: Where to go on, `next_cursor` of an earlier `Page`; empty for the beginning.
        most_items: No page is read any more once there are so many. The last page counts whole.
        most_pages: No more pages than this, however few items they have.

    Raises:
        ToolError: The service failed, its answer has no items where `paging` looks, or it gave a cursor twice.
    """
    kept: dict[str, Any] = ctx.last_checkpoint or {"items": [], "cursor": cursor, "seen": []}
    items, cursor, seen = list(kept["items"]), str(kept["cursor"]), list(kept["seen"])
    first = httpx.URL(path).copy_merge_params(params or {})
    async with ctx.http(upstream) as client:
        while True:
            response = await client.get(paging.page(first, cursor))
            found, following = paging.read(response, cursor)
            items.extend(found)
            seen.append(cursor)
            if following and following in seen:
                message = f"{upstream} gave the cursor {following!r} twice: its list goes in a circle"
                raise ToolError(message, code=ErrorCode.UNAVAILABLE)
            if not following or len(items) >= most_items or len(seen) >= most_pages:
                return Page(items=tuple(items), has_more=bool(following), next_cursor=following)
            cursor = following
            await ctx.checkpoint({"items": items, "cursor": cursor, "seen": seen})


def _items(body: Any, path: str) -> list[Any]:
    found = _at(body, path) if path else body
    if not isinstance(found, list):
        where = f"at {path!r}" if path else "at its top"
        raise ToolError(f"the answer has no list {where}", code=ErrorCode.UNAVAILABLE)
    return cast("list[object]", found)


def _at(body: Any, path: str) -> Any:
    for step in path.split("."):
        body = cast("dict[str, Any]", body).get(step) if isinstance(body, dict) else None
    return body
