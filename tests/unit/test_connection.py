"""The connections that requests go out on, against real servers: the last look at the lease, TLS, big bodies, and every end."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from handfast import ToolError
from handfast.contracts.upstream import Upstream
from handfast.tools.connection import Connection
from handfast.tools.http import Upstreams
from handfast.tools.lease import Lease
from handfast.tools.sends import Sends
from tests.loopback import Loopback, answer_json, body_of

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncGenerator[str]:
    """A server that does with each connection what it is told; its URL."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    return head, await reader.readexactly(int(fields.get(b"content-length", b"0")))


async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(OK)


@asynccontextmanager
async def upstream(url: str, **settings: Any) -> AsyncGenerator[Upstreams]:
    upstreams = Upstreams({"s": Upstream(base_url=url, **settings)})
    try:
        yield upstreams
    finally:
        await upstreams.close()


class SeenLease(Lease):
    """Tells when it was looked at."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.looks: list[float] = []

    def require(self) -> None:
        super().require()
        self.looks.append(time.monotonic())


@pytest.mark.parametrize("warm", [True, False])
async def test_a_request_is_held_back_by_no_other_task_once_its_lease_was_looked_at(warm: bool) -> None:
    """A tool beside it blocks the worker as soon as it may, until the lease is over: all of the request has gone out before."""
    came: list[float] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        body_of(request)
        came.append(time.monotonic())
        answer_json(request, 200, {})

    async def block_once_looked_at(lease: SeenLease) -> None:
        while not lease.looks:
            await asyncio.sleep(0)
        time.sleep(0.7)  # noqa: ASYNC251 - that is the fault

    with Loopback(answer) as site:
        async with upstream(site.url) as upstreams:
            if warm:
                await upstreams.client("s", Sends("op0", lease=Lease(30))).post("/", content=b"first")
            lease = SeenLease(0.5)
            blocking = asyncio.create_task(block_once_looked_at(lease))
            await upstreams.client("s", Sends("op1", lease=lease)).post("/", content=b"second")
            await blocking
            assert came[-1] - lease.looks[0] < 0.5


async def test_a_connection_that_the_other_side_has_closed_is_not_used_again() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()

    async with serving(serve) as url, upstream(url) as upstreams:
        for number in range(5):
            client = upstreams.client("s", Sends(f"op{number}", lease=Lease(30)))
            assert (await client.post("/", content=b"x")).text == "ok"
            await asyncio.sleep(0.02)


async def test_what_was_to_go_out_on_a_connection_that_was_just_closed_surely_did_not_happen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()

    # It is closed after the pool has looked whether it is.
    def looks_open(_: Connection) -> bool:
        return False

    monkeypatch.setattr(Connection, "_is_readable", looks_open)
    async with serving(serve) as url, upstream(url) as upstreams:
        await upstreams.client("s", Sends("op1", lease=Lease(30))).post("/", content=b"x")
        await asyncio.sleep(0.1)
        sends = Sends("op2", lease=Lease(30))
        with pytest.raises(ToolError) as failed:
            await upstreams.client("s", sends).post("/", content=b"x")
        assert (failed.value.happened, failed.value.retryable, sends.acted) == ("no", True, False)


async def test_connections_are_used_again() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answer_all(reader, writer)

    async with serving(serve) as url, upstream(url) as upstreams:
        for number in range(5):
            client = upstreams.client("s", Sends(f"op{number}", lease=Lease(30)))
            assert (await client.post("/", content=b"x")).text == "ok"
        assert connections == 1


async def test_big_bodies_come_through_both_ways() -> None:
    big = bytes(range(256)) * 4 * 4096
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)  # so that there is no room at first
        _, body = await read_request(reader)
        heard.append(body)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(big))
        for place in range(0, len(big), 50_000):
            writer.write(big[place : place + 50_000])
            await writer.drain()

    async with serving(serve) as url, upstream(url) as upstreams:
        client = upstreams.client("s", Sends("op", lease=Lease(30)))
        assert (await client.post("/", content=big)).content == big
        assert heard == [big]


async def test_what_cannot_be_reached_surely_did_not_happen(unused_tcp_port: int) -> None:
    async with upstream(f"http://127.0.0.1:{unused_tcp_port}") as upstreams:
        with pytest.raises(ToolError) as refused:
            await upstreams.client("s", Sends("op", lease=Lease(30))).post("/", content=b"x")
        assert refused.value.happened == "no"


@pytest.mark.parametrize("answers", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"])
async def test_an_answer_that_breaks_off_leaves_open_whether_it_happened(answers: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answers)

    sends = Sends("op", lease=Lease(30))
    async with serving(serve) as url, upstream(url) as upstreams:
        with pytest.raises(ToolError) as lost:
            await upstreams.client("s", sends).post("/", content=b"x")
        assert lost.value.happened != "no"
        assert sends.acted


async def test_an_answer_that_does_not_come_in_time_leaves_open_whether_it_happened() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(5)

    async with serving(serve) as url, upstream(url, timeout_seconds=0.3) as upstreams:
        with pytest.raises(ToolError) as late:
            await upstreams.client("s", Sends("op", lease=Lease(30))).post("/", content=b"x")
        assert late.value.happened == "unknown"


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate for 127.0.0.1 that clients trust; what a server shows it with."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "handfast test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    monkeypatch.setenv("SSL_CERT_FILE", str(paths[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*paths)
    return context


async def test_requests_go_out_over_tls(certificate: ssl.SSLContext) -> None:
    async with serving(answer_all, certificate) as url, upstream(url) as upstreams:
        big = b"x" * 3_000_000
        for number in range(3):
            client = upstreams.client("s", Sends(f"op{number}", lease=Lease(30)))
            assert (await client.post("/", content=big)).text == "ok"
        late = upstreams.client("s", Sends("late", lease=Lease(-1)))
        with pytest.raises(ToolError, match="held up") as refused:
            await late.post("/", content=b"x")
        assert refused.value.happened == "no"


async def test_a_certificate_that_is_not_trusted_is_refused_before_anything_goes_out(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with serving(answer_all, certificate) as url, upstream(url) as upstreams:
        with pytest.raises(ToolError, match="could not be reached") as refused:
            await upstreams.client("s", Sends("op", lease=Lease(30))).post("/", content=b"x")
        assert refused.value.happened == "no"


async def test_many_requests_at_once_keep_to_their_own_answers() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await read_request(reader)
            await asyncio.sleep(0.01)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async with serving(serve) as url, upstream(url) as upstreams:

        async def ask(number: int) -> httpx.Response:
            client = upstreams.client("s", Sends(f"op{number}", lease=Lease(30)))
            return await client.post("/", content=f"{number}".encode())

        answers = await asyncio.gather(*map(ask, range(200)))
        assert [answer.text for answer in answers] == [f"{number}" for number in range(200)]
