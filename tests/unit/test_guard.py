"""Where requests may go: other hosts, private addresses, redirects, and answers that would fill the memory."""

import gzip
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from handfast import ToolError
from handfast.contracts.errors import ErrorCode
from handfast.contracts.upstream import ApiKey, Upstream
from handfast.tools.guard import is_public
from handfast.tools.http import Upstreams
from handfast.tools.sends import Sends
from tests.loopback import Loopback, body_of


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_only_addresses_of_the_public_internet_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


class Site(Loopback):
    """Redirects and packed answers; remembers what came in."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.elsewhere = ""
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body_of(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((request.command, request.path, headers))
        answers = {
            "/to-here": (302, {"location": "/plain"}, b""),
            "/to-there": (302, {"location": f"{self.elsewhere}/plain"}, b""),
            "/to-disk": (302, {"location": "file:///etc/passwd"}, b""),
            "/moved": (307, {"location": "/plain"}, b""),
            "/round": (302, {"location": "/round"}, b""),
            "/packed": (200, {"content-encoding": "gzip"}, gzip.compress(b"hello")),
            "/raw-deflate": (200, {"content-encoding": "deflate"}, zlib.compress(b"hello")[2:-4]),
            "/bomb": (200, {"content-encoding": "gzip"}, gzip.compress(b"x" * 50_000_000)),
            "/brotli": (200, {"content-encoding": "br"}, b"???"),
            "/not-packed": (200, {"content-encoding": "gzip"}, b"plain after all"),
        }
        status, more, body = answers.get(request.path, (200, {}, b"hello"))
        request.send_response(status)
        for name, value in {**more, "content-length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as made:
        yield made


@pytest.fixture
def other() -> Iterator[Site]:
    with Site() as made:
        yield made


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost:1/",
        "http://2130706433:1/",
        "http://[::ffff:127.0.0.1]:1/",
        "https://user:password@evil.example/",
        "ftp://files.example/",
    ],
)
async def test_what_the_settings_do_not_name_is_not_reached(site: Site, url: str) -> None:
    """With every host allowed the address still has to be public."""
    for domains in [(), ("*",)]:
        if domains and "evil" in url:
            continue
        upstreams = Upstreams({"s": Upstream(base_url=site.url, domains=domains)})
        with pytest.raises(ToolError) as refused:
            await upstreams.client("s", Sends("op")).post(url)
        assert (refused.value.code, refused.value.happened) == (ErrorCode.DESTINATION_REFUSED, "no")
        await upstreams.close()


async def test_a_name_that_resolves_to_a_private_address_is_refused_unless_private_is_meant(
    site: Site, other: Site
) -> None:
    there = other.url.replace("127.0.0.1", "localhost")
    for private in (False, True):
        named = Upstream(base_url=site.url, domains=("localhost",), private_addresses=private)
        upstreams = Upstreams({"s": named})
        client = upstreams.client("s", Sends("op"))
        if private:
            assert (await client.get(f"{there}/plain")).text == "hello"
        else:
            with pytest.raises(ToolError, match=r"resolves to .*, which is not a public address"):
                await client.get(f"{there}/plain")
        await upstreams.close()
    assert [path for _, path, _ in other.seen] == ["/plain"]


async def test_redirects_are_checked_again_and_take_no_credentials_along(
    site: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDFAST_SECRET_PAY", "s3cret")
    site.elsewhere = other.url
    keyed = Upstream(
        base_url=site.url, auth=ApiKey(secret="pay", header="X-Key", prefix=""), headers={"X-Team": "blue"}, version="7"
    )
    upstreams = Upstreams({"s": keyed, "open": keyed.model_copy(update={"domains": ("127.0.0.1",)})})
    client = upstreams.client("s", Sends("op"))
    assert (await client.get("/to-here")).text == "hello"
    with pytest.raises(ToolError, match="scheme 'file' is not allowed"):
        await client.get("/to-disk")
    with pytest.raises(ToolError, match="redirects more than 5 times"):
        await client.get("/round")
    assert all(headers["x-key"] == "s3cret" and headers["api-version"] == "7" for _, _, headers in site.seen)
    # The same address, another port: another origin.
    assert (await upstreams.client("open", Sends("op")).get("/to-there")).text == "hello"
    [(_, _, headers)] = other.seen
    assert headers.keys().isdisjoint({"x-key", "x-team", "api-version", "authorization"})
    await upstreams.close()


async def test_an_unsafe_request_that_is_sent_elsewhere_keeps_its_key_and_has_not_happened_yet(site: Site) -> None:
    upstreams = Upstreams({"s": Upstream(base_url=site.url)})
    sends = Sends("op")
    await upstreams.client("s", sends).post("/moved", json={"a": 1})
    assert [(method, path, h["idempotency-key"]) for method, path, h in site.seen] == [
        ("POST", "/moved", "op"),
        ("POST", "/plain", "op"),
    ]
    assert sends.count == 1
    await upstreams.close()


async def test_packed_answers_are_unpacked_within_the_cap(site: Site) -> None:
    upstreams = Upstreams({"s": Upstream(base_url=site.url, most_bytes=1_000_000)})
    client = upstreams.client("s", Sends("op"))
    assert [(await client.get(path)).text for path in ("/packed", "/raw-deflate", "/plain")] == ["hello"] * 3
    for path, message in {
        "/bomb": "more than 1000000 bytes",
        "/brotli": "encoding 'br'; understood are gzip, deflate",
        "/not-packed": "can't be unpacked",
    }.items():
        with pytest.raises(ToolError, match=message):
            await client.get(path)
    assert site.seen[0][2]["accept-encoding"] == "gzip, deflate"
    await upstreams.close()
