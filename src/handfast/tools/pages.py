"""Lists that come in pages: by cursor, by page number, or by `Link` (RFC 8288). Bounded, and resumable after a crash."""

import re
from collections.abc import Mapping
from typing import Any, Protocol, cast

import httpx

from handfast.contracts.context import ToolContext
from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.messages import Frozen
from handfast.tools.links import find_link

PAGE_NUMBER = re.compile(r"[0-9]{1,9}")


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
        next_cursor: Where the next cursor is: a text or a number. None, false, 0 and the empty text are the end.
        param: The query parameter.
    """

    def __init__(self, *, items: str = "items", next_cursor: str = "next_cursor", param: str = "cursor") -> None:
        self._items, self._next, self._param = items, next_cursor, param

    def page(self, first: httpx.URL, cursor: str) -> httpx.URL:
        """The list's URL, with the cursor."""
        return first.copy_set_param(self._param, cursor) if cursor else first

    def read(self, response: httpx.Response, cursor: str) -> tuple[list[Any], str]:
        """The items and the cursor from the answer.

        Raises:
            ToolError: It has no items there, or what is there is no cursor.
        """
        body = _body(response)
        items, following = _items(body, self._items), _at(body, self._next)
        if not following:
            return items, ""
        if isinstance(following, bool) or not isinstance(following, str | int | float):
            message = (
                f"the answer has no cursor at {self._next!r} but {_kind(following)}; a cursor is a text or a number"
            )
            raise ToolError(message, code=ErrorCode.UNAVAILABLE)
        return items, str(following)


class ByPage:
    """`?page=1`, `?page=2`, … until a page is not full, or empty if the service's page size is not known."""

    def __init__(self, *, items: str = "items", param: str = "page", first: int = 1, size: int = 0) -> None:
        self._items, self._param, self._first, self._size = items, param, first, size

    def page(self, first: httpx.URL, cursor: str) -> httpx.URL:
        """The list's URL, with the page's number.

        Raises:
            ToolError: The cursor is no number of a page.
        """
        return first.copy_set_param(self._param, str(self._number(cursor)))

    def read(self, response: httpx.Response, cursor: str) -> tuple[list[Any], str]:
        """The items, and the next page's number."""
        items = _items(_body(response), self._items)
        last = len(items) < self._size if self._size else not items
        return items, "" if last else str(self._number(cursor) + 1)

    def _number(self, cursor: str) -> int:
        if cursor and not PAGE_NUMBER.fullmatch(cursor):
            raise _no_cursor(cursor, "the number of a page")
        return int(cursor) if cursor else self._first


class ByLink:
    """`Link: <…>; rel="next"` (RFC 8288), as GitHub has it. Only links to the same origin are followed."""

    def __init__(self, *, items: str = "") -> None:
        self._items = items

    def page(self, first: httpx.URL, cursor: str) -> httpx.URL:
        """The link of the page before.

        Raises:
            ToolError: The cursor is no URL.
        """
        try:
            return httpx.URL(cursor) if cursor else first
        except httpx.InvalidURL:
            raise _no_cursor(cursor, "the URL of a page") from None

    def read(self, response: httpx.Response, cursor: str) -> tuple[list[Any], str]:
        """The items, and the next link, resolved against the page's own URL (RFC 3986, section 5).

        Raises:
            ToolError: It is no URL, or leads to another origin.
        """
        items, link = _items(_body(response), self._items), find_link(response, "next")
        if link is None:
            return items, ""
        try:
            here, there = response.url, response.url.join(link)
        except (httpx.InvalidURL, ValueError):
            message = f"the next page is at {link[:100]!r}, which is no URL"
            raise ToolError(message, code=ErrorCode.UNAVAILABLE) from None
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
        ToolError: The service failed, its answer has no items where `paging` looks, it gave a cursor twice, or the same
            page twice in a row.
    """
    kept: dict[str, Any] = ctx.last_checkpoint or {"items": [], "cursor": cursor, "seen": [], "last": 0}
    items, cursor, seen, last = list(kept["items"]), str(kept["cursor"]), list(kept["seen"]), int(kept["last"])
    first = httpx.URL(path).copy_merge_params(params or {})
    async with ctx.http(upstream) as client:
        while True:
            response = await client.get(_url(paging, first, cursor))
            found, following = paging.read(response, cursor)
            seen.append(cursor)
            if following and following in seen:
                raise _circle(f"{upstream} gave the cursor {following[:100]!r} twice")
            if last and found == items[-last:]:
                raise _circle(
                    f"{upstream} answered with the same page twice in a row, also for {str(response.url)[:200]!r}"
                )
            items.extend(found)
            if not following or len(items) >= most_items or len(seen) >= most_pages:
                return Page(items=tuple(items), has_more=bool(following), next_cursor=following)
            cursor, last = following, len(found)
            await ctx.checkpoint({"items": items, "cursor": cursor, "seen": seen, "last": last})


def _url(paging: Paging, first: httpx.URL, cursor: str) -> httpx.URL:
    try:
        return paging.page(first, cursor)
    except UnicodeError:
        raise _no_cursor(cursor, "a text that a URL can hold") from None


def _no_cursor(cursor: str, wanted: str) -> ToolError:
    message = f"the cursor {cursor[:100]!r} is not {wanted}"
    hint = "pass the next_cursor of an earlier answer as it is, or none for the beginning"
    return ToolError(message, code=ErrorCode.INVALID_ARGUMENTS, hint=hint, happened="no")


def _circle(what: str) -> ToolError:
    message = f"{what}: its list goes in a circle"
    hint = "this tool's author must look whether the service pages its list in another way, or give its page size"
    return ToolError(message, code=ErrorCode.UNAVAILABLE, hint=hint)


def _body(response: httpx.Response) -> Any:
    try:
        return response.json(parse_constant=_no_constant)
    except (ValueError, RecursionError):
        message = f"the answer is not JSON, but {response.headers.get('content-type', 'of no stated type')[:100]}"
        raise ToolError(message, code=ErrorCode.UNAVAILABLE) from None


def _no_constant(name: str) -> Any:
    msg = f"{name} is no JSON (RFC 8259, section 6)"
    raise ValueError(msg)


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


def _kind(value: object) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list", bool: "a boolean"}
    return kinds.get(type(value), type(value).__name__)
