"""`/healthz` (the process lives) and `/readyz` (it takes work), for whoever restarts and routes."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from handfast.contracts.errors import SettingsError

LONGEST_REQUEST = 8192
READ_SECONDS = 5.0

Checks = Callable[[], Awaitable[dict[str, str]]]
"""What is not ready, by name; empty if all is."""


@asynccontextmanager
async def health_endpoints(host: str, port: int, checks: Checks) -> AsyncGenerator[None]:
    """Serve both endpoints while the body runs; nothing if the port is 0.

    Raises:
        SettingsError: The port can't be taken.
    """
    if not port:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
            path = request.split(b" ", 2)[1].decode("ascii", "replace")
            status, body = await _reply(path, checks)
            payload = json.dumps(body).encode()
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + payload)
            await writer.drain()
        except (TimeoutError, OSError, ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, host, port, limit=LONGEST_REQUEST)
    except OSError as error:
        msg = f"the health endpoint can't listen on {host}:{port}: {error.strerror}. Set HANDFAST_HEALTH_PORT to a free port"
        raise SettingsError(msg) from error
    async with server:
        yield


async def _reply(path: str, checks: Checks) -> tuple[str, dict[str, object]]:
    if path == "/healthz":
        return "200 OK", {"status": "alive"}
    if path == "/readyz":
        missing = await checks()
        return (
            ("503 Service Unavailable", {"status": "not ready", **missing})
            if missing
            else ("200 OK", {"status": "ready"})
        )
    return "404 Not Found", {"status": "not found", "paths": ["/healthz", "/readyz"]}
