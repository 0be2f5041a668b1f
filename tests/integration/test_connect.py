"""The address of the engine, its TLS and its API key from Temporal's own environment configuration."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from hpack import Decoder

from handfast import Client, EngineUnavailable, RunStatus, SettingsError
from handfast.engine.connect import Engine, connect
from handfast.settings import Settings
from handfast.workers.worker import make_worker
from tests.conftest import OpenShop
from tests.workflow.agents import agent

FRAME_HEADER, HEADERS, CONTINUATION, END_HEADERS, PRIORITY = 9, 1, 9, 4, 0x20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Gateway:
    """What stands before Temporal in a cloud: it takes TLS with a client certificate, and sees each request's headers."""

    def __init__(self, upstream: str, context: ssl.SSLContext) -> None:
        self._host, self._port = upstream.split(":")
        self._context = context
        self.keys: set[str] = set()
        self.requests = 0
        self.address = ""

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.address = f"localhost:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside, outside = await asyncio.open_connection(self._host, int(self._port))
        answers = asyncio.create_task(self._pipe(inside, writer))
        try:
            await self._requests_of(reader, outside)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            answers.cancel()
            outside.close()
            writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _requests_of(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass HTTP/2 frames on, and read the headers in them."""
        decoder, block = Decoder(), b""
        writer.write(await reader.readexactly(len(PREFACE)))
        while True:
            header = await reader.readexactly(FRAME_HEADER)
            kind, flags = header[3], header[4]
            payload = await reader.readexactly(int.from_bytes(header[:3], "big"))
            writer.write(header + payload)
            await writer.drain()
            if kind not in {HEADERS, CONTINUATION}:
                continue
            block += payload[5:] if kind == HEADERS and flags & PRIORITY else payload
            if flags & END_HEADERS:
                self.requests += 1
                fields = decoder.decode(block, raw=True)
                self.keys |= {value.decode() for name, value in fields if name == b"authorization"}
                block = b""


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    worker = made.issue_cert("worker@example.com")
    worker.cert_chain_pems[0].write_to_path(tmp_path / "worker.pem")
    worker.private_key_pem.write_to_path(tmp_path / "worker.key")
    return made


@pytest.fixture
async def gateway(engine: Engine, authority: trustme.CA) -> AsyncGenerator[Gateway]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    made = Gateway(engine.address, context)
    async with made.serving():
        yield made


async def test_a_run_goes_over_mutual_tls_with_an_api_key(
    shop: OpenShop, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await shop(agent(["hello"]), serve=False)
    monkeypatch.setenv("TEMPORAL_ADDRESS", gateway.address)
    monkeypatch.setenv("TEMPORAL_API_KEY", "sesame")
    monkeypatch.setenv("TEMPORAL_TLS_SERVER_CA_CERT_PATH", str(tmp_path / "ca.pem"))
    with pytest.raises(EngineUnavailable, match=f"no Temporal server answers at {gateway.address}"):
        await connect(desk.settings)
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_CERT_PATH", str(tmp_path / "worker.pem"))
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_KEY_PATH", str(tmp_path / "worker.key"))
    temporal, engine = await connect(desk.settings)
    assert engine.address == gateway.address
    async with (
        make_worker(temporal, desk.boundary, desk.settings),
        await Client.connect(settings=desk.settings) as client,
    ):
        result = await client.execute("tester", "Go", id="over-tls")
    assert (result.status, gateway.keys) == (RunStatus.COMPLETED, {"Bearer sesame"})
    assert gateway.requests > 10


async def test_a_configuration_file_counts_and_a_broken_one_is_named(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is named, and the one in Temporal's usual place where nothing else is said."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    settings = Settings(home=tmp_path / "home")
    with pytest.raises(EngineUnavailable, match="handfast dev"):
        await connect(settings)
    file = tmp_path / "temporalio" / "temporal.toml"
    file.parent.mkdir()
    file.write_text(f'[profile.default]\naddress = "{engine.address}"\n')
    _, found = await connect(settings)
    assert found.address == engine.address
    file = file.rename(tmp_path / "other.toml")
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(file))
    _, found = await connect(settings)
    assert found.address == engine.address
    file.write_text("[profile")
    with pytest.raises(SettingsError, match="Temporal's environment configuration can't be read"):
        await connect(settings)
