"""Runs in worker processes whose calls wait until a test lets them go on."""

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from handfast import Client, Run
from handfast.engine.connect import Engine
from handfast.ledger import Ledger
from handfast.settings import Settings
from tests.conftest import until
from tests.crash.harness import Process, worker_env


async def prepared(engine: Engine, folder: Path, **more: str) -> tuple[Settings, dict[str, str]]:
    """A new ledger in a folder, with the settings of a client and the environment of a worker process."""
    queue = f"q-{uuid.uuid4().hex[:8]}"
    settings = Settings(home=folder, task_queue=queue, ledger_url=f"sqlite:///{folder / 'ledger.db'}")
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.close()
    return settings, worker_env(engine.address, settings.ledger, queue, {}, SLOW_FOLDER=str(folder), **more)


@dataclass
class SlowRun:
    """A run of two calls in a worker process; each call waits until the test lets it go."""

    client: Client
    run: Run
    folder: Path
    env: Mapping[str, str]
    worker: Process

    def let_go(self, *numbers: int) -> None:
        for number in numbers:
            (self.folder / f"go-{number}").touch()

    def start_another_worker(self) -> None:
        self.worker = start_slow_worker(self.env, self.folder)

    @property
    def done(self) -> list[str]:
        """Which calls acted, as the other side knows."""
        return (self.folder / "log").read_text().split()


def start_slow_worker(env: Mapping[str, str], folder: Path) -> Process:
    return Process("handfast.client.cli", "worker", "tests.effects.slow:slow", env=env, output=folder / "worker.log")


@asynccontextmanager
async def slow_run(engine: Engine, folder: Path, **more: str) -> AsyncGenerator[SlowRun]:
    """A run whose first call has begun."""
    settings, env = await prepared(engine, folder, **more)
    worker = start_slow_worker(env, folder)
    async with await Client.connect(engine.address, settings=settings) as client:
        run = await client.start("slow", "Go", id=f"run-{settings.task_queue}")
        slow = SlowRun(client=client, run=run, folder=folder, env=env, worker=worker)
        try:
            await until(lambda: exists(folder / "begun-1"), seconds=60)
            yield slow
        finally:
            await slow.worker.stop()


async def exists(path: Path) -> bool:
    return path.exists()  # noqa: ASYNC240 - one look at a local file


async def logged(worker: Process, event: str) -> bool:
    return f'"event": "{event}"' in worker.output.read_text()
