"""URLs of PostgreSQL as providers print them: what an option asks for is done, or the URL is refused."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import trustme

from handfast import SettingsError
from handfast.contracts.errors import LedgerUnavailable
from handfast.ledger import Ledger
from handfast.ledger.postgres_url import connect_arguments
from tests.conftest import Postgres, new_database
from tests.processes import run_module

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class TlsFront:
    """TLS before a real PostgreSQL, as its protocol has it (PostgreSQL documentation, 55.2.10); the tests' build has none."""

    def __init__(self, folder: Path, context: ssl.SSLContext | None) -> None:
        self._socket = folder / ".s.PGSQL.5432"
        self._context = context
        self.encrypted: list[str] = []
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner: asyncio.StreamWriter | None = None
        try:
            first = await reader.readexactly(8)
            if first == SSL_REQUEST:
                writer.write(b"N" if self._context is None else b"S")
                await writer.drain()
                if self._context is not None:
                    await writer.start_tls(self._context)
                    self.encrypted.append(writer.get_extra_info("ssl_object").version())
                first = b""
            from_postgres, inner = await asyncio.open_unix_connection(str(self._socket))
            inner.write(first)
            await asyncio.gather(_pass_on(reader, inner), _pass_on(from_postgres, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            if inner is not None:
                inner.close()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
        await target.drain()
    target.close()


class Provider:
    """A database of a provider: its address, and files with its certificates."""

    def __init__(self, postgres: Postgres, folder: Path, *, tls: bool = True) -> None:
        parts = urlsplit(new_database(postgres))
        self.database, self.sockets = parts.path.lstrip("/"), parse_qs(parts.query)["host"][0]
        authority, other = trustme.CA(), trustme.CA()
        self.root, self.other_root = folder / "root.pem", folder / "other.pem"
        authority.cert_pem.write_to_path(str(self.root))
        other.cert_pem.write_to_path(str(self.other_root))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
        self.front = TlsFront(Path(self.sockets), context if tls else None)

    def url(
        self, query: str = "", *, host: str = "localhost", scheme: str = "postgresql", user: str = "postgres"
    ) -> str:
        given = query.format(root=quote(str(self.root)), other=quote(str(self.other_root)))
        return f"{scheme}://{user}@{host}:{self.front.port}/{self.database}{'?' if given else ''}{given}"


async def works(url: str) -> None:
    ledger = Ledger.connect(url)
    try:
        await ledger.migrate()
        await ledger.require_newest()
    finally:
        await ledger.close()


@pytest.mark.parametrize(
    ("query", "encrypted"),
    [
        ("", True),
        ("sslmode=disable", False),
        ("sslmode=allow", False),
        ("sslmode=prefer", True),
        ("sslmode=require", True),
        ("sslmode=require&channel_binding=prefer&connect_timeout=10", True),
        ("sslmode=require&sslrootcert={root}", True),
        ("sslmode=verify-ca&sslrootcert={root}", True),
        ("sslmode=verify-full&sslrootcert={root}&ssl_min_protocol_version=TLSv1.3", True),
        ("sslmode=verify-full&sslrootcert={root}&target_session_attrs=read-write&application_name=handfast", True),
        ("sslmode=prefer&gssencmode=disable&sslnegotiation=postgres&options=-c%20statement_timeout%3D9000", True),
    ],
)
async def test_options_that_providers_print_are_honoured(
    postgres: Postgres, tmp_path: Path, query: str, encrypted: bool
) -> None:
    provider = Provider(postgres, tmp_path)
    async with provider.front.serving():
        await works(provider.url(query, scheme="postgres" if "require" in query else "postgresql"))
        assert bool(provider.front.encrypted) == encrypted


@pytest.mark.parametrize(
    ("query", "host"),
    [
        ("sslmode=require&sslrootcert={other}", "localhost"),
        ("sslmode=verify-ca&sslrootcert={other}", "localhost"),
        ("sslmode=verify-full&sslrootcert={other}", "localhost"),
        ("sslmode=verify-full&sslrootcert={root}", "127.0.0.1"),
        ("sslmode=verify-full&sslrootcert=system", "localhost"),
    ],
)
async def test_a_server_with_the_wrong_certificate_is_refused(
    postgres: Postgres, tmp_path: Path, query: str, host: str
) -> None:
    provider = Provider(postgres, tmp_path)
    async with provider.front.serving():
        with pytest.raises(LedgerUnavailable, match="certificate verify failed"):
            await works(provider.url(query, host=host))


@pytest.mark.parametrize("query", ["sslmode=require", "sslmode=verify-full&sslrootcert={root}"])
async def test_a_server_without_tls_is_refused_where_tls_is_asked_for(
    postgres: Postgres, tmp_path: Path, query: str
) -> None:
    provider = Provider(postgres, tmp_path, tls=False)
    async with provider.front.serving():
        with pytest.raises(LedgerUnavailable, match="SSL"):
            await works(provider.url(query))


async def test_names_with_signs_are_decoded(postgres: Postgres, tmp_path: Path) -> None:
    provider = Provider(postgres, tmp_path)
    name = f"a@b:c/{provider.database}"
    postgres.psql(f"create role \"{name}\" login superuser password 'p@ss/w:rd#%';")
    async with provider.front.serving():
        await works(provider.url("sslmode=require", user=f"{quote(name, safe='')}:{quote('p@ss/w:rd#%', safe='')}"))
    assert name in postgres.psql(f"\\c {provider.database}\nselect tableowner from pg_tables;")


@pytest.mark.parametrize("form", ["postgresql:///{db}?host={sockets}&user=postgres", "postgresql://postgres@{quoted}/{db}",
                                  "postgresql:///?host={sockets}&dbname={db}&user=postgres&sslmode=require"])  # fmt: skip
async def test_a_socket_of_this_machine_is_an_address(postgres: Postgres, tmp_path: Path, form: str) -> None:
    provider = Provider(postgres, tmp_path)
    sockets = quote(provider.sockets, safe="/")
    await works(form.format(db=provider.database, sockets=sockets, quoted=quote(provider.sockets, safe="")))


REFUSED = {
    "sslmode=on": "has sslmode='on', which is not supported: allowed are disable, allow, prefer, require, verify-ca, verify-full",
    "sslmode=verify-full": "no sslrootcert: set sslrootcert to the file of your provider's certificate authority, or to system",
    "sslmode=verify-ca&sslrootcert=/no/such/file": "sslrootcert='/no/such/file', and there is no such file",
    "sslrootcert=system": "has sslrootcert without sslmode: add sslmode=verify-full",
    "sslmode=require&channel_binding=require": "the driver has no channel binding: leave the option out and set sslmode=verify-full",
    "gssencmode=require": "the driver has no GSSAPI encryption",
    "pgbouncer=true": "it is Prisma's, not PostgreSQL's",
    "ssl=true": "write sslmode=require or sslmode=verify-full instead",
    "target_session_attrs=master": "allowed are any, primary, standby, read-write, read-only, prefer-standby",
    "connect_timeout=soon": "connect_timeout='soon': write whole seconds",
    "sslmode=require&sslmode=disable": "has sslmode twice, as 'require' and 'disable'",
    "requirepeer=postgres": "has the option 'requirepeer', which is not supported: allowed are application_name",
    "client_encoding=latin1": "client_encoding='latin1': allowed is UTF8",
    "sslmode=require&sslcert={root}": "can't be used for TLS",
    "port=five": "has a port that is no number",
}


@pytest.mark.parametrize("query", REFUSED)
def test_what_cannot_be_honoured_is_refused_and_says_what_to_do(tmp_path: Path, query: str) -> None:
    root = tmp_path / "root.pem"
    trustme.CA().cert_pem.write_to_path(str(root))
    with pytest.raises(SettingsError) as caught:
        connect_arguments(f"postgresql://u:secret@h/d?{query.format(root=root)}")
    assert REFUSED[query] in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@h/d", "postgresql://u:sec#ret@h/d", "postgresql://u:secret@h:port/d", "nonsense"]
)
def test_an_address_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="HANDFAST_LEDGER_URL") as caught:
        Ledger.connect(url)
    assert "sec" not in str(caught.value)


def test_what_a_url_says_arrives_at_the_driver() -> None:
    query = "application_name=me&connect_timeout=7&options=-csearch_path%3Dx&target_session_attrs=primary"
    query += "&sslnegotiation=direct&sslmode=require"
    found: dict[str, Any] = connect_arguments(f"postgres://u:p%40ss@a:1,b:2/d?{query}")
    context = found.pop("ssl")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    assert found == {
        "dsn": "postgresql://u:p%40ss@a:1,b:2/d",
        "timeout": 7.0,
        "server_settings": {"options": "-csearch_path=x", "application_name": "me"},
        "target_session_attrs": "primary",
        "direct_tls": True,
    }


async def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    env = {"HANDFAST_LEDGER_URL": "postgresql://u:secret@h/d?sslmode=on"}
    ended = await run_module("handfast.client.cli", "ledger", "migrate", env=env, cwd=tmp_path)
    assert (ended.returncode, "sslmode='on'" in ended.stderr, "Traceback" in ended.stderr) == (4, True, False)
