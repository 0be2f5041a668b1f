"""`make teams`, or `python -m examples.teams`: every team at work, one of them under kill -9, and what their runs were."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from handfast import Client, RunStatus
from handfast.engine.embedded import EmbeddedEngine
from handfast.ledger import Ledger
from handfast.settings import load_settings

TEAMS = {
    "chief": ("a supervisor and workers in parallel", "Write the report"),
    "reception": ("a router, and hand-offs", "My parcel 7002 has not come"),
    "publisher": ("three levels", "Make tomorrow's paper"),
    "broker": ("two that write to each other", "Sell the boat"),
    "essayist": ("a critic, three rounds at most", "Write about the sea"),
    "storekeeper": ("a plan that is made, fails and is revised", "Order what is missing"),
}
KILLED = "publisher"
"""While this team works, its worker is killed."""


def start_worker(address: str, ledger_url: str, home: Path) -> "subprocess.Popen[bytes]":
    """A worker process, as in deployment."""
    env = {
        **os.environ,
        "TEMPORAL_ADDRESS": address,
        "HANDFAST_LEDGER_URL": ledger_url,
        "HANDFAST_HEARTBEAT_SECONDS": "2",
    }
    with (home / "worker.log").open("ab") as log:
        command = [sys.executable, "-m", "handfast.client.cli", "worker", "examples.teams.agents:everybody"]
        return subprocess.Popen(command, env=env, cwd=Path(__file__).parents[2], stdout=log, stderr=log)


async def until_a_writer_has_filed(client: Client) -> None:
    """Wait until one of the writers' calls is settled."""
    while True:
        for one in await client.runs(100):
            if one.agent == "writer" and any(o.outcome for o in await client.run(one.run_id).operations()):
                return
        await asyncio.sleep(0.02)


async def size_of(client: Client, run_id: str) -> int:
    """How many runs a run is, with those that it has begun, near and far."""
    children = await client.run(run_id).children()
    return 1 + sum([await size_of(client, child.run_id) for child in children])


async def main(home: Path) -> int:
    """Let every team work; 0 if each came to its goal."""
    async with AsyncExitStack() as stack:
        settings = load_settings().model_copy(update={"home": home, "ledger_url": ""})
        embedded = await stack.enter_async_context(EmbeddedEngine(home, binary=settings.temporal))
        ledger = Ledger.connect(settings.ledger)
        await ledger.migrate()
        await ledger.close()
        client = await stack.enter_async_context(await Client.connect(embedded.engine.address, settings=settings))
        worker = start_worker(embedded.engine.address, settings.ledger, home)
        failed = 0
        try:
            for name, (what, request) in TEAMS.items():
                run = await client.start(name, request, id=name)
                if name == KILLED:
                    await until_a_writer_has_filed(client)
                    worker.send_signal(signal.SIGKILL)
                    worker.wait()
                    print(f"kill -9 {worker.pid}, while writers file their articles")
                    worker = start_worker(embedded.engine.address, settings.ledger, home)
                result = await run.result()
                size = await size_of(client, name)
                print(f"{name:<12} {what}: {result.status}, {size} runs, {result.cost_usd:.4f} USD with its children")
                for line in result.text.splitlines():
                    print(f"             {line}")
                failed += result.status is not RunStatus.COMPLETED
        finally:
            worker.kill()
            worker.wait()
    print(f"{len(TEAMS)} teams, {len(TEAMS) - failed} came to their goal")
    return min(failed, 1)


if __name__ == "__main__":
    folder = load_settings().home.absolute() / "teams"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sys.exit(asyncio.run(main(folder)))
