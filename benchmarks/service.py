"""A service that steps of a plan call, in a process of its own: `python -m benchmarks.service PORT`. It answers after 20 ms."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from handfast.engine.embedded import free_port

ANSWERS_AFTER = 0.02
"""Seconds: what a service nearby that writes something down takes. One that moves money takes ten times as long."""


async def work(request: Request) -> JSONResponse:
    await asyncio.sleep(ANSWERS_AFTER)
    return JSONResponse({"done": f"{(await request.json())['number']}" * 100})


@asynccontextmanager
async def serving() -> AsyncGenerator[str]:
    """The service; its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.service", str(port))
    try:
        async with httpx.AsyncClient() as http, asyncio.timeout(20):
            answered = False
            while not answered:
                with contextlib.suppress(httpx.TransportError):
                    answered = (await http.post(f"{address}/work", json={"number": 1})).is_success
        yield address
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    app = Starlette(routes=[Route("/work", work, methods=["POST"])])
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
