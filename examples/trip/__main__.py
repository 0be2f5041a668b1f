"""`make trip`, or `python -m examples.trip`: the trip goes wrong at every point there is, and ends as a whole trip or as none.

Numbers behind it play only those of its stories.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from handfast import Client, RunFailed, read_plan
from handfast.engine.embedded import EmbeddedEngine, free_port
from handfast.ledger import Ledger
from handfast.settings import load_settings

SERVICES = ("flights", "hotels", "cars", "payments")
TRIP = {"traveller": "Ada", "flight": "SK 4035", "hotel": "Bristol", "car": "a small one"}
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Story:
    """Something that goes wrong."""

    told: str
    whole: bool
    """Whether the trip comes about."""
    services: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """What each service is told to do."""
    kill_after: str = ""
    """The worker is killed when this is in the log of a service: `flights book`, `hotels cancel`."""


STORIES = [
    Story("nothing goes wrong", whole=True),
    *(Story(f"{name} has nothing left", whole=False, services={name: {"sold_out": True}}) for name in SERVICES),
    *(
        Story(f"kill -9 while {name} answers", whole=True, services={name: {"slow": 1.5}}, kill_after=f"{name} book")
        for name in SERVICES
    ),
    *(
        Story(
            f"the payment is refused, and kill -9 while {name} cancels",
            whole=False,
            services={"payments": {"sold_out": True}, name: {"slow_cancel": 1.5}},
            kill_after=f"{name} cancel",
        )
        for name in SERVICES[:3]
    ),
]


class Agency:
    """The four services, a Temporal server, and a worker that can be killed."""

    def __init__(self, client: Client, addresses: dict[str, str], env: dict[str, str], home: Path) -> None:
        self.client = client
        self._addresses = addresses
        self._env = env
        self._home = home
        self._worker: subprocess.Popen[bytes] | None = None

    def start_worker(self) -> None:
        """A worker process, as in deployment."""
        command = ["handfast.client.cli", "worker", "examples.trip.agent:travel"]
        self._worker = start(command, self._env, self._home / "worker.log")

    def kill_worker(self) -> None:
        """SIGKILL, as `kill -9` sends it."""
        if self._worker is not None:
            self._worker.send_signal(signal.SIGKILL)
            self._worker.wait()

    async def tell(self, services: dict[str, dict[str, Any]]) -> None:
        """Say to each service what goes wrong next."""
        async with httpx.AsyncClient() as http:
            for name, address in self._addresses.items():
                await http.post(f"{address}/story", json=services.get(name, {}))

    async def logs(self) -> dict[str, list[dict[str, Any]]]:
        """What each service has done, by its own log."""
        async with httpx.AsyncClient() as http:
            return {name: (await http.get(f"{address}/log")).json() for name, address in self._addresses.items()}

    async def play(self, story: Story, run_id: str) -> str:
        """Book the trip while something goes wrong; empty if it ended as it must, else what is not so."""
        await self.tell(story.services)
        before = {name: len(entries) for name, entries in (await self.logs()).items()}
        run = await self.client.start_plan(read_plan(Path(__file__).with_name("trip.yaml")), TRIP, id=run_id)
        if story.kill_after:
            service, did = story.kill_after.split()
            while not any(entry["did"] == did for entry in (await self.logs())[service][before[service] :]):
                await asyncio.sleep(0.02)
            self.kill_worker()
            self.start_worker()
        with contextlib.suppress(RunFailed):
            await run.result()
        since = {name: [entry["did"] for entry in log[before[name] :]] for name, log in (await self.logs()).items()}
        standing = {name: did.count("book") - did.count("cancel") for name, did in since.items()}
        print(f"{'whole trip' if story.whole else 'no trip':<11} {story.told}", flush=True)
        return "" if standing == dict.fromkeys(SERVICES, int(story.whole)) else f"{story.told}: {standing}"


def start(command: Sequence[str], env: dict[str, str], output: Path) -> "subprocess.Popen[bytes]":
    """A Python module as a process."""
    with output.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *command], env={**os.environ, **env}, cwd=ROOT, stdout=file, stderr=file
        )


@asynccontextmanager
async def open_agency(home: Path) -> AsyncGenerator[Agency]:
    """Everything the example runs; all of it ends with it."""
    async with AsyncExitStack() as stack:
        addresses: dict[str, str] = {}
        for name in SERVICES:
            port = free_port()
            addresses[name] = f"http://127.0.0.1:{port}"
            process = start(
                ["examples.trip.services", str(port), str(home / f"{name}.jsonl")], {}, home / f"{name}.log"
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        settings = load_settings().model_copy(update={"home": home, "ledger_url": ""})
        embedded = await stack.enter_async_context(EmbeddedEngine(home, binary=settings.temporal))
        ledger = Ledger.connect(settings.ledger)
        await ledger.migrate()
        await ledger.close()
        env = {
            "TEMPORAL_ADDRESS": embedded.engine.address,
            "HANDFAST_LEDGER_URL": settings.ledger,
            "HANDFAST_HEARTBEAT_SECONDS": "2",
            "HANDFAST_UPSTREAMS": json.dumps({name: {"base_url": address} for name, address in addresses.items()}),
        }
        client = await Client.connect(embedded.engine.address, settings=settings)
        stack.push_async_callback(client.close)
        agency = Agency(client, addresses, env, home)
        await wait_for(addresses)
        agency.start_worker()
        stack.callback(agency.kill_worker)
        yield agency


async def wait_for(addresses: dict[str, str]) -> None:
    """Wait until every service answers."""
    async with asyncio.timeout(30), httpx.AsyncClient() as http:
        for address in addresses.values():
            while True:
                with contextlib.suppress(httpx.TransportError):
                    await http.get(f"{address}/log")
                    break
                await asyncio.sleep(0.05)


async def main(home: Path, wanted: Sequence[int]) -> int:
    """Play the stories of these numbers; 0 if each ended as it must."""
    async with open_agency(home) as agency:
        faults = [fault for number in wanted if (fault := await agency.play(STORIES[number], f"trip-{number}"))]
    for fault in faults:
        print(f"NOT AS IT MUST BE  {fault}")
    print(
        f"{len(wanted)} trips, counted in the services' own logs: {len(wanted) - len(faults)} whole or none, {len(faults)} halves"
    )
    return min(len(faults), 1)


if __name__ == "__main__":
    folder = load_settings().home.absolute() / "trip"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sys.exit(asyncio.run(main(folder, [int(word) for word in sys.argv[1:]] or range(len(STORIES)))))
