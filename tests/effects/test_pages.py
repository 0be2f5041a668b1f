"""Lists in pages: each way of paging against a real service, bounded, and going on after a crash where it stopped."""

import json
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from handfast import Effect, Outcome, Tier, ToolContext, ask, tool
from handfast.contracts.tool import Tool
from handfast.contracts.upstream import Upstream
from handfast.tools.pages import ByCursor, ByLink, ByPage, Page, Paging, collect
from tests.conftest import OpenShop
from tests.effects.agents import agent
from tests.loopback import Loopback

PAGES = {"": [1, 2], "b": [3, 4], "c": [5]}
AFTER = {"": "b", "b": "c", "c": ""}


class Catalogue(Loopback):
    """Five items in three pages, in three dialects."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fail_at = ""
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if self.fail_at and self.fail_at in request.path:
            self.fail_at = ""
            self._send(request, 500, {})
            return
        if parts.path == "/circle":
            self._send(request, 200, {"items": [1], "next_cursor": "b"})
        elif parts.path == "/nothing":
            self._send(request, 200, {"objects": []})
        elif parts.path == "/by-page":
            items = list(PAGES.values())
            number = int(query["page"]) - 1
            self._send(request, 200, {"data": {"rows": items[number] if number < len(items) else []}})
        else:
            cursor = query.get("cursor", "")
            following = AFTER[cursor]
            there = "http://elsewhere.example" if parts.path == "/astray" else ""
            link = {"link": f'<{there}{parts.path}?cursor={following}&size=2>; rel="next"'} if following else {}
            by_link = parts.path in {"/by-link", "/astray"}
            body = PAGES[cursor] if by_link else {"items": PAGES[cursor], "next_cursor": following or None}
            self._send(request, 200, body, link if by_link else {})

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, body: Any, headers: dict[str, str] | None = None
    ) -> None:
        content = json.dumps(body).encode()
        request.send_response(status)
        for name, value in {**(headers or {}), "content-length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    with Catalogue() as made:
        yield made


def listing(path: str, paging: Paging, **bounds: Any) -> Tool:
    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:read")
    async def list_items(ctx: ToolContext) -> Page:
        """List."""
        return await collect(ctx, "catalogue", path, paging, **bounds)

    return list_items


ALL = {"items": [1, 2, 3, 4, 5], "has_more": False, "next_cursor": ""}


@pytest.mark.parametrize(
    ("path", "paging", "bounds", "result", "asked"),
    [
        ("/by-cursor", ByCursor(), {}, ALL, ["/by-cursor", "/by-cursor?cursor=b", "/by-cursor?cursor=c"]),
        (
            "/by-cursor?size=2",
            ByCursor(),
            {"params": {"of": "me"}, "most_items": 3},
            {"items": [1, 2, 3, 4], "has_more": True, "next_cursor": "c"},
            ["/by-cursor?size=2&of=me", "/by-cursor?size=2&of=me&cursor=b"],
        ),
        ("/by-cursor", ByCursor(), {"cursor": "c"}, {**ALL, "items": [5]}, ["/by-cursor?cursor=c"]),
        (
            "/by-page",
            ByPage(items="data.rows", size=2),
            {},
            ALL,
            ["/by-page?page=1", "/by-page?page=2", "/by-page?page=3"],
        ),
        (
            "/by-page",
            ByPage(items="data.rows"),
            {"most_pages": 2},
            {"items": [1, 2, 3, 4], "has_more": True, "next_cursor": "3"},
            ["/by-page?page=1", "/by-page?page=2"],
        ),
        (
            "/by-link",
            ByLink(),
            {"params": {"size": 2}},
            ALL,
            ["/by-link?size=2", "/by-link?cursor=b&size=2", "/by-link?cursor=c&size=2"],
        ),
    ],
    ids=["cursor", "cursor bounded", "cursor from the model", "page", "page bounded", "link"],
)
async def test_each_way_of_paging(
    shop: OpenShop,
    catalogue: Catalogue,
    path: str,
    paging: Paging,
    bounds: dict[str, Any],
    result: dict[str, Any],
    asked: list[str],
) -> None:
    upstreams = {"catalogue": Upstream(base_url=catalogue.url)}
    tools = [listing(path, paging, **bounds)]
    desk = await shop(agent(ask("list_items"), "done", tools=tools), upstreams=upstreams)
    run = await desk.client.start("tester", "Go", id=f"pages-{uuid.uuid4()}")
    await run.result()
    [operation] = await run.operations()
    assert (operation.result, catalogue.asked) == (result, asked)


@pytest.mark.parametrize(
    ("path", "paging", "message"),
    [
        ("/circle", ByCursor(), "gave the cursor 'b' twice"),
        ("/nothing", ByCursor(), "no list at 'items'"),
        ("/by-cursor", ByLink(), "no list at its top"),
        ("/astray", ByLink(), "at another origin, http://elsewhere.example"),
    ],
)
async def test_a_list_that_leads_nowhere_ends_with_a_reason(
    shop: OpenShop, catalogue: Catalogue, path: str, paging: Paging, message: str
) -> None:
    upstreams = {"catalogue": Upstream(base_url=catalogue.url)}
    desk = await shop(agent(ask("list_items"), "done", tools=[listing(path, paging)]), upstreams=upstreams)
    run = await desk.client.start("tester", "Go", id=f"nowhere-{uuid.uuid4()}")
    await run.result()
    [operation] = await run.operations()
    assert operation.outcome is Outcome.FAILED
    assert message in operation.result["message"]


async def test_after_a_failure_the_next_attempt_goes_on_where_the_last_one_stopped(
    shop: OpenShop, catalogue: Catalogue
) -> None:
    catalogue.fail_at = "cursor=c"
    upstreams = {"catalogue": Upstream(base_url=catalogue.url)}
    desk = await shop(agent(ask("list_items"), "done", tools=[listing("/by-cursor", ByCursor())]), upstreams=upstreams)
    run = await desk.client.start("tester", "Go", id="resumed")
    await run.result()
    [operation] = await run.operations()
    assert operation.result == ALL
    assert catalogue.asked == ["/by-cursor", "/by-cursor?cursor=b", "/by-cursor?cursor=c", "/by-cursor?cursor=c"]
