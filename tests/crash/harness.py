"""Real processes to kill, freeze and start again."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from handfast.engine.embedded import free_port
from tests.conftest import until
from tests.processes import Forked


class Process:
    """A Python module as a process."""

    def __init__(self, module: str, *arguments: str, env: Mapping[str, str], output: Path) -> None:
        self.output = output
        # There from the start, so that whoever waits for what it says can look.
        self.output.touch()
        self._process = Forked(module, *arguments, env={**os.environ, **env}, stdout=output)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        return self._process.code

    def signal(self, number: signal.Signals) -> None:
        self._process.signal(number)

    async def wait(self) -> int:
        return await asyncio.to_thread(self._process.wait)

    async def stop(self) -> None:
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.signal(signal.SIGCONT)
                self._process.signal(signal.SIGKILL)
            await self.wait()


@asynccontextmanager
async def downstream(folder: Path) -> AsyncGenerator[str]:
    """The service whose log is the oracle; its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = Process(
        "tests.crash.downstream", str(port), str(folder / "downstream.db"), env={}, output=folder / "d.log"
    )
    try:

        async def answers() -> bool:
            assert process.code is None, process.output.read_text()
            with contextlib.suppress(httpx.TransportError):
                async with httpx.AsyncClient() as http:
                    return (await http.get(f"{address}/charges")).is_success
            return False

        await until(answers)
        yield address
    finally:
        await process.stop()


async def charges(address: str, ref: str) -> list[dict[str, Any]]:
    """The oracle's word on one reference."""
    async with httpx.AsyncClient() as http:
        found: list[dict[str, Any]] = (await http.get(f"{address}/charges", params={"ref": ref})).json()
        return found


def worker_env(temporal: str, ledger_url: str, queue: str, services: Mapping[str, str], **more: str) -> dict[str, str]:
    """The environment of a worker process."""
    return {
        "TEMPORAL_ADDRESS": temporal,
        "HANDFAST_LEDGER_URL": ledger_url,
        "HANDFAST_TASK_QUEUE": queue,
        "HANDFAST_HEARTBEAT_SECONDS": "1.5",
        "HANDFAST_STICKY_SECONDS": "0.5",
        "HANDFAST_UPSTREAMS": json.dumps({name: {"base_url": url} for name, url in services.items()}),
        "HANDFAST_LOG_FORMAT": "json",
        **more,
    }
