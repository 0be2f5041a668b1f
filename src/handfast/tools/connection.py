"""Connections of the pool, on asyncio itself: between the last look at a lease and the bytes that go out there is nothing.

httpcore's own go through anyio, which lets other tasks run between being told to write and writing. There a tool that blocks its
worker, or a process that stands still, can hold bytes back until the lease is over. These are also cheap to look at: the pool asks
every idle connection for each request and each answer whether it was closed.
"""

import asyncio
import contextlib
import select
import ssl
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any, cast

import httpcore
from typing_extensions import override

last_look: ContextVar[Callable[[], None] | None] = ContextVar("last_look", default=None)
"""What looks for the last time, each time right before bytes of a request go out; it raises if they must not."""
MOST_UNREAD = 2**18
"""Bytes that are kept until somebody reads them; then the other side has to wait."""
HAPPY_EYEBALLS_SECONDS = 0.25
"""How long one address of a host has until the next one is tried as well (RFC 8305)."""


async def connect(
    host: str, port: int, seconds: float | None, local_address: str | None, socket_options: Any
) -> "Connection":
    """Connect to a host, or to an address."""
    loop = asyncio.get_running_loop()
    with _failing_as(httpcore.ConnectTimeout, httpcore.ConnectError):
        async with asyncio.timeout(seconds):
            _, ends = await loop.create_connection(
                _Ends,
                host,
                port,
                local_addr=(local_address, 0) if local_address else None,
                happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS,
            )
    for option in socket_options or ():
        ends.transport.get_extra_info("socket").setsockopt(*option)
    return Connection(ends)


class _Ends(asyncio.Protocol):
    """What has come in and was not read, and whether there is room to write."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport = asyncio.Transport()
        self.received = bytearray()
        self.over = False
        self.error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) > MOST_UNREAD:
            self.transport.pause_reading()
        _wake(self._reader)

    @override
    def eof_received(self) -> None:
        self.over = True
        _wake(self._reader)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.over, self.error = True, exc
        _wake(self._reader)
        _wake(self._writer)

    @override
    def pause_writing(self) -> None:
        self._full = True

    @override
    def resume_writing(self) -> None:
        self._full = False
        _wake(self._writer)

    async def something(self) -> None:
        """Wait until there is something to read, or nothing will come any more."""
        while not (self.received or self.over):
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader

    async def room(self) -> None:
        """Wait until the other side has taken enough of what was written."""
        while self._full and not self.over:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer


class Connection(httpcore.AsyncNetworkStream):
    """One connection."""

    def __init__(self, ends: _Ends) -> None:
        self._ends = ends
        self._look_at = select.poll() if hasattr(select, "poll") else None
        self._number = ends.transport.get_extra_info("socket").fileno()
        if self._look_at is not None:
            self._look_at.register(self._number, select.POLLIN)

    @override
    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        ends = self._ends
        if not ends.received and not ends.over:
            with _failing_as(httpcore.ReadTimeout, httpcore.ReadError):
                async with asyncio.timeout(timeout):
                    await ends.something()
        if not ends.received and ends.error is not None:
            raise httpcore.ReadError(str(ends.error)) from ends.error
        taken = bytes(ends.received[:max_bytes])
        del ends.received[:max_bytes]
        if len(ends.received) <= MOST_UNREAD and not ends.over:
            ends.transport.resume_reading()
        return taken

    @override
    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        if (self._ends.over and self._ends.error is not None) or self._ends.transport.is_closing():
            raise httpcore.WriteError(str(self._ends.error or "the connection was closed"))
        if (look := last_look.get()) is not None:
            look()
        self._ends.transport.write(buffer)
        with _failing_as(httpcore.WriteTimeout, httpcore.WriteError):
            async with asyncio.timeout(timeout):
                await self._ends.room()

    @override
    async def aclose(self) -> None:
        self._ends.transport.close()
        # As nothing is left to be said, what is left to be sent is not worth waiting for.
        await asyncio.sleep(0)
        self._ends.transport.abort()

    @override
    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "Connection":
        loop = asyncio.get_running_loop()
        try:
            with _failing_as(httpcore.ConnectTimeout, httpcore.ConnectError):
                async with asyncio.timeout(timeout):
                    transport = await loop.start_tls(
                        self._ends.transport, self._ends, ssl_context, server_hostname=server_hostname
                    )
        except BaseException:
            self._ends.transport.abort()
            raise
        self._ends.transport = cast("asyncio.Transport", transport)
        return self

    @override
    def get_extra_info(self, info: str) -> Any:
        match info:
            case "is_readable":
                return self._is_readable()
            case "client_addr":
                return self._ends.transport.get_extra_info("sockname")
            case "server_addr":
                return self._ends.transport.get_extra_info("peername")
            case _:
                return self._ends.transport.get_extra_info(info)

    def _is_readable(self) -> bool:
        """Whether there is something to read, which of an idle connection is that it was closed."""
        ends = self._ends
        if ends.received or ends.over or ends.transport.is_closing():
            return True
        # What the loop has not heard of yet. The number of a socket that was closed may be another one's.
        if self._look_at is None or ends.transport.get_extra_info("socket").fileno() != self._number:
            return False
        return bool(self._look_at.poll(0))


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


@contextlib.contextmanager
def _failing_as(late: type[Exception], failed: type[Exception]) -> Generator[None]:
    """Raise what the pool expects."""
    try:
        yield
    except TimeoutError as error:
        raise late(str(error) or "took too long") from error
    except OSError as error:
        raise failed(str(error) or type(error).__name__) from error
