"""The URL of a PostgreSQL database, as providers print it, and what it says of how to connect.

Its options are those of libpq (PostgreSQL documentation, 32.1.2, "Parameter Key Words"). The driver knows fewer of them and sends what
it does not know to the server as settings, so each is read here: what is asked for is done, or the URL is refused.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from handfast.contracts.errors import SettingsError

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
TARGETS = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")
TLS_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
PLACE = ("host", "port", "dbname", "user", "password", "passfile")
"""Options that the driver reads of a URL as libpq does."""
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
SYSTEM = "system"
"""The value of `sslrootcert` that stands for the certificate authorities of the operating system."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "sslmode": SSL_MODES,
    "target_session_attrs": TARGETS,
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": tuple(TLS_VERSIONS),
    "ssl_max_protocol_version": tuple(TLS_VERSIONS),
    "sslcompression": ("0",),
}
"""By option: its allowed values."""
FREE = ("application_name", "fallback_application_name", "options", "connect_timeout", "client_encoding", "sslpassword")
ALLOWED = (*PLACE, *CHOICES, *(name for name in FILES if name not in PLACE), *FREE)
INSTEAD = {
    "channel_binding": "the driver has no channel binding: leave the option out and set sslmode=verify-full, which makes sure "
    "that the server is the right one in another way",
    "gssencmode": "the driver has no GSSAPI encryption: leave the option out and set sslmode=verify-full",
    "pgbouncer": "it is Prisma's, not PostgreSQL's: leave it out, and give the address of the database itself, or of a pooler in "
    "session mode",
    "ssl": "write sslmode=require or sslmode=verify-full instead",
    "service": "write what the service file says into the URL",
}
CONNECT_SECONDS = 5.0


def connect_arguments(url: str) -> dict[str, Any]:
    """The arguments of `asyncpg.connect` for a URL.

    Args:
        url: `postgresql://` or `postgres://`, with libpq's options.

    Raises:
        SettingsError: An option is not known, or has a value that can't be honoured; says which, what is allowed and what to do.
    """
    parts = urlsplit(url)
    if parts.fragment or "#" in url:
        raise SettingsError(f"{_HERE} has a '#': write %23 where it is part of a password")
    given = _options(parts.query)
    kept = {name: given[name] for name in PLACE if name in given}
    try:
        place = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(kept), ""))
        _ = [int(port) for port in _ports(parts.netloc, given) if port]
    except ValueError as error:
        raise SettingsError(f"{_HERE} has a port that is no number: {error}") from error
    arguments: dict[str, Any] = {
        "dsn": place,
        "timeout": _timeout(given),
        "ssl": _ssl(given),
        "server_settings": _server_settings(given),
    }
    if "target_session_attrs" in given:
        arguments["target_session_attrs"] = given["target_session_attrs"]
    if given.get("sslnegotiation") == "direct":
        arguments["direct_tls"] = True
    return {name: value for name, value in arguments.items() if value is not None}


_HERE = "HANDFAST_LEDGER_URL"


def _options(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in found and found[name] != value:
            raise SettingsError(f"{_HERE} has {name} twice, as {found[name]!r} and {value!r}: leave one out")
        if name not in ALLOWED:
            advice = INSTEAD.get(name, f"allowed are {', '.join(sorted(ALLOWED))}. Leave it out")
            raise SettingsError(f"{_HERE} has the option {name!r}, which is not supported: {advice}")
        if name in CHOICES and value not in CHOICES[name]:
            allowed = f"allowed are {', '.join(CHOICES[name])}"
            advice = f"; {INSTEAD[name]}" if name in INSTEAD else ""
            raise SettingsError(f"{_HERE} has {name}={value!r}, which is not supported: {allowed}{advice}")
        if name in FILES and value != SYSTEM and not Path(value).is_file():
            raise SettingsError(
                f"{_HERE} has {name}={value!r}, and there is no such file: set it to the path of one, or leave it out"
            )
        found[name] = value
    return found


def _ports(netloc: str, given: Mapping[str, str]) -> list[str]:
    hosts = netloc.rpartition("@")[2].split(",")
    after = [host.rpartition("]")[2] if "]" in host else host for host in hosts]
    return [unquote(host.rpartition(":")[2]) for host in after if ":" in host] + given.get("port", "").split(",")


def _timeout(given: Mapping[str, str]) -> float:
    """Seconds for connecting. libpq reads zero and less as no limit; a worker needs one."""
    text = given.get("connect_timeout", "0")
    try:
        seconds = float(int(text))
    except ValueError as error:
        msg = f"{_HERE} has connect_timeout={text!r}: write whole seconds, such as 10"
        raise SettingsError(msg) from error
    return seconds if seconds > 0 else CONNECT_SECONDS


def _server_settings(given: Mapping[str, str]) -> dict[str, str] | None:
    found = {name: given[name] for name in ("options", "client_encoding") if given.get(name)}
    if found.get("client_encoding", "auto").lower() not in {"auto", "utf8", "utf-8"}:
        raise SettingsError(f"{_HERE} has client_encoding={found['client_encoding']!r}: allowed is UTF8; leave it out")
    found.pop("client_encoding", None)
    name = given.get("application_name") or given.get("fallback_application_name")
    return {**found, **({"application_name": name} if name else {})} or None


def _ssl(given: Mapping[str, str]) -> "ssl.SSLContext | str | None":
    """What the driver is told of TLS: nothing where the URL says nothing, so that libpq's environment variables count."""
    mode, root = given.get("sslmode"), given.get("sslrootcert")
    if mode is None:
        if left := sorted(name for name in given if name.startswith("ssl") or name == "ssl_min_protocol_version"):
            raise SettingsError(f"{_HERE} has {', '.join(left)} without sslmode: add sslmode=verify-full")
        return None
    if mode == "disable":
        return mode
    if mode in {"allow", "prefer"}:
        # There is nothing to verify: without TLS it connects as well.
        return mode
    return _context(given, mode, root)


def _context(given: Mapping[str, str], mode: str, root: str | None) -> ssl.SSLContext:
    default = Path("~/.postgresql/root.crt").expanduser()
    if root is None and mode != "require":
        if not default.is_file():
            msg = (
                f"{_HERE} has sslmode={mode!r} and no sslrootcert: set sslrootcert to the file of your provider's certificate "
                f"authority, or to {SYSTEM} for those of the operating system"
            )
            raise SettingsError(msg)
        root = str(default)
    try:
        context = ssl.create_default_context(cafile=None if root in {None, SYSTEM} else root)
        # As libpq: with a root, `require` verifies the chain, too.
        context.check_hostname = mode == "verify-full" or root == SYSTEM
        context.verify_mode = ssl.CERT_NONE if root is None else ssl.CERT_REQUIRED
        if "sslcert" in given:
            context.load_cert_chain(given["sslcert"], given.get("sslkey"), given.get("sslpassword"))
        if "sslcrl" in given:
            context.load_verify_locations(cafile=given["sslcrl"])
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    except (ssl.SSLError, OSError) as error:
        files = ", ".join(f"{name}={given[name]!r}" for name in FILES if name in given)
        msg = f"{_HERE}: a file of {files} can't be used for TLS: {error}. Set it to a PEM file that this process may read"
        raise SettingsError(msg) from error
    context.minimum_version = TLS_VERSIONS[given.get("ssl_min_protocol_version", "TLSv1.2")]
    if "ssl_max_protocol_version" in given:
        context.maximum_version = TLS_VERSIONS[given["ssl_max_protocol_version"]]
    return context
