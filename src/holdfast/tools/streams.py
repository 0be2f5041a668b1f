"""Connections that are cheap to look at."""

import select
import ssl
from collections.abc import Callable
from typing import Any

import httpcore
from typing_extensions import override


class LookedAtStream(httpcore.AsyncNetworkStream):
    """A connection that says at once whether its other side has hung up.

    For each request and each answer the pool asks every idle connection that. The stream below makes a table of all it knows of its
    socket each time, peer address included: a tenth of the price of a request on a pool of ten.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        # Nothing of its own between the pool and the stream below where bytes go.
        self.read, self.write, self.aclose = inner.read, inner.write, inner.aclose  # type: ignore[method-assign]
        self._is_readable = _look_at(inner)

    @override
    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return LookedAtStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    @override
    def get_extra_info(self, info: str) -> Any:
        return self._is_readable() if info == "is_readable" else self._inner.get_extra_info(info)


def _look_at(stream: httpcore.AsyncNetworkStream) -> Callable[[], bool]:
    """What says whether there is something to read, which of an idle connection is that it was closed."""
    socket = stream.get_extra_info("socket")
    if socket is None or not hasattr(select, "poll"):
        return lambda: bool(stream.get_extra_info("is_readable"))
    number = socket.fileno()
    poll = select.poll()
    poll.register(number, select.POLLIN)
    # Once it is closed, the number may be another one's.
    return lambda: socket.fileno() != number or bool(poll.poll(0))
