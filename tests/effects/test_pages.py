"""Lists in pages: each way of paging against a real service, bounded, and going on after a crash where it stopped."""

import json
import uuid
from collections.abc import Callable, Iterator
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


class Listing(Loopback):
    """Answers each request with what a test says of its query."""

    def __init__(self, answer: Callable[[dict[str, str]], tuple[Any, list[str]]]) -> None:
        self.asked: list[str] = []

        def reply(request: BaseHTTPRequestHandler) -> None:
            self.asked.append(request.path)
            query = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
            body, links = answer(query)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            request.send_response(200)
            for link in links:
                request.send_header("link", link)
            request.send_header("content-length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)

        super().__init__(reply)


async def listed(
    shop: OpenShop, answer: Callable[[dict[str, str]], tuple[Any, list[str]]], paging: Paging, **bounds: Any
) -> tuple[Any, list[str]]:
    """What a list comes to, and what was asked for it."""
    with Listing(answer) as service:
        tools = [listing("/l", paging, **bounds)]
        upstreams = {"catalogue": Upstream(base_url=service.url)}
        desk = await shop(agent(ask("list_items"), "done", tools=tools), upstreams=upstreams)
        run = await desk.client.start("tester", "Go", id=f"listed-{uuid.uuid4()}")
        await run.result()
        [operation] = await run.operations()
    return operation.result, service.asked


@pytest.mark.parametrize(
    "links",
    [
        ['</l?page=2>; rel="next last"'],
        ["</l?page=2>; REL=Next"],
        ["<?page=2>; rel=next"],
        ['<l?page=2>; title="a, b; c"; rel="next"'],
        ['</l?page=1>; rel="first"', '</l?page=2>; rel="next"'],
        ['</x>; rel="next"; anchor="/other", </l?page=2>; rel="next"'],
    ],
    ids=lambda links: links[0],
)
async def test_the_next_page_is_found_however_its_link_is_written(shop: OpenShop, links: list[str]) -> None:
    """RFC 8288, section 3; RFC 3986, section 5.2."""
    result, asked = await listed(shop, lambda query: ([2], []) if query else ([1], links), ByLink())
    assert (result["items"], result["has_more"], asked) == ([1, 2], False, ["/l", "/l?page=2"])


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("<https://elsewhere.example/l>; rel=next", "another origin, https://elsewhere.example"),
        ("<//elsewhere.example/l>; rel=next", "another origin, http://elsewhere.example"),
        ("<http://127.0.0.1:1/l>; rel=next", "another origin"),
        ("<http://[/l>; rel=next", "another origin"),
        ("<http://x:port/l>; rel=next", "no URL"),
        ("<>; rel=next", "goes in a circle"),
        ("</l>; rel=next", "goes in a circle"),
    ],
)
async def test_a_link_that_leads_nowhere_ends_the_list_with_a_reason(shop: OpenShop, link: str, message: str) -> None:
    """RFC 8288, section 3.1."""
    result, _ = await listed(shop, lambda _: ([1], [link]), ByLink())
    assert message in result["message"]


@pytest.mark.parametrize("items", [[1, 2], [{"id": 1}], ["a"]])
async def test_a_service_that_ignores_the_page_is_told_from_one_that_ends(shop: OpenShop, items: list[Any]) -> None:
    result, asked = await listed(shop, lambda _: ({"items": items}, []), ByPage())
    assert "the same page twice in a row" in result["message"]
    assert (result["code"], set(asked)) == ("unavailable", {"/l?page=1", "/l?page=2"})


async def test_cursors_that_are_new_each_time_do_not_hide_a_circle(shop: OpenShop) -> None:
    def answer(query: dict[str, str]) -> tuple[Any, list[str]]:
        return {"items": [{"id": 1}], "next_cursor": f"{query.get('cursor', '')}x"}, []

    result, asked = await listed(shop, answer, ByCursor())
    assert (result["code"], set(asked)) == ("unavailable", {"/l", "/l?cursor=x"})


@pytest.mark.parametrize("cursor", [{"after": 2}, ["b"], True], ids=repr)
async def test_a_cursor_that_is_neither_text_nor_number_ends_the_list_with_a_reason(
    shop: OpenShop, cursor: Any
) -> None:
    result, asked = await listed(shop, lambda _: ({"items": [1], "next_cursor": cursor}, []), ByCursor())
    assert "no cursor at 'next_cursor'" in result["message"]
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("cursor", "asked"),
    [
        (7, "/l?cursor=7"),
        (1700000000.25, "/l?cursor=1700000000.25"),
        ("a b&c", "/l?cursor=a+b%26c"),
        ("ü", "/l?cursor=%C3%BC"),
    ],
)
async def test_a_cursor_is_sent_back_as_it_came(shop: OpenShop, cursor: Any, asked: str) -> None:
    def answer(query: dict[str, str]) -> tuple[Any, list[str]]:
        return ({"items": [2]}, []) if query else ({"items": [1], "next_cursor": cursor}, [])

    result, paths = await listed(shop, answer, ByCursor())
    assert (result["items"], paths[1:]) == ([1, 2], [asked])


@pytest.mark.parametrize("end", [None, "", 0, False, {}, []], ids=repr)
async def test_a_list_without_a_next_cursor_has_ended(shop: OpenShop, end: Any) -> None:
    result, asked = await listed(shop, lambda _: ({"items": [1], "next_cursor": end}, []), ByCursor())
    assert (result["items"], result["has_more"], len(asked)) == ([1], False, 1)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[" * 100_000, b'{"items": [NaN]}', b"\xff\xfe\xff"], ids=lambda body: body[:9]
)
async def test_a_page_that_is_not_json_ends_the_list_with_a_reason(shop: OpenShop, body: bytes) -> None:
    """RFC 8259, section 6."""
    result, asked = await listed(shop, lambda _: (body, []), ByPage())
    assert ("the answer is not JSON" in result["message"], len(asked)) == (True, 1)


@pytest.mark.parametrize(
    ("paging", "cursor"),
    [
        (ByPage(), "abc"),
        (ByPage(), "-1"),
        (ByPage(), "9" * 5000),
        (ByPage(), "\u0662"),
        (ByLink(), "http://x:port/"),
        (ByLink(), "\x00"),
    ],
    ids=["letters", "negative", "too long", "other digits", "no port", "no URL"],
)
async def test_a_cursor_that_a_model_made_up_is_told_as_its_mistake(
    shop: OpenShop, paging: Paging, cursor: str
) -> None:
    result, asked = await listed(shop, lambda _: ({"items": []}, []), paging, cursor=cursor)
    assert (result["code"], asked) == ("invalid_arguments", [])
    assert "next_cursor" in result["hint"]
