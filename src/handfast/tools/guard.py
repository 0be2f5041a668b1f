"""Where requests may go: the upstream's own host, and what its settings name, by public addresses only.

The address is checked where the connection is made, so that a name can't resolve to one address for the check and to another
for the connection. Source: OWASP, "Server-Side Request Forgery Prevention Cheat Sheet".
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import httpcore
import httpx

from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.upstream import Upstream
from handfast.tools.connection import connect

NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that stand for an IPv4 address (RFC 6052)."""


class Guard:
    """What one upstream may reach."""

    def __init__(self, name: str, upstream: Upstream) -> None:
        base = httpx.URL(upstream.base_url)
        self._name = name
        self._host = base.host.lower()
        self._origin = _origin(base)
        self._domains = tuple(domain.lower() for domain in upstream.domains)
        self.private = upstream.private_addresses

    def own(self, url: httpx.URL) -> bool:
        """Whether it is the base URL's own origin, which alone gets credentials."""
        return _origin(url) == self._origin

    def trusted(self, host: str) -> bool:
        """Whether the settings name this host as the base URL's, so that any address of it is meant."""
        return host.lower() == self._host

    def check(self, url: httpx.URL) -> None:
        """Refuse a destination that the settings don't name.

        Raises:
            ToolError: It is another scheme or another host; nothing was sent.
        """
        host = url.host.lower()
        if url.scheme not in {"http", "https"}:
            raise self.refused(f"scheme {url.scheme!r} is not allowed, only http and https")
        if not self.trusted(host) and not any(fnmatchcase(host, domain) for domain in self._domains):
            raise self.refused(f"host {host!r} is none of those that {self._name} may reach")

    def refused(self, why: str) -> ToolError:
        """The error for a destination that is not allowed."""
        hint = f"use paths of {self._name}; an operator can allow further hosts in `domains` of the upstream"
        return ToolError(why, code=ErrorCode.DESTINATION_REFUSED, hint=hint, happened="no")


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to hosts that are not trusted only if every address they resolve to is public."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the host, or to the first of its checked addresses that answers.

        Raises:
            ToolError: One of its addresses is not public.
        """
        addresses = [host]
        if not (self._guard.private or self._guard.trusted(host)):
            addresses = await self._public(host, port, timeout)
        *others, last = addresses
        for address in others:
            try:
                return await connect(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await connect(last, port, timeout, local_address, socket_options)

    async def _public(self, host: str, port: int, timeout: float | None) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from error
        except OSError as error:
            raise httpcore.ConnectError(f"{host} can't be resolved") from error
        addresses = list(dict.fromkeys(str(address[4][0]) for address in found))
        for address in addresses:
            if not is_public(address):
                raise self._guard.refused(f"host {host!r} resolves to {address}, which is not a public address")
        return addresses

    async def sleep(self, seconds: float) -> None:
        """Wait, for the pool's retries."""
        await asyncio.sleep(seconds)


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, looking through IPv6 addresses that stand for IPv4 ones."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is None and found in NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        found = inner or found
    return found.is_global and not found.is_multicast


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host.lower(), url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
