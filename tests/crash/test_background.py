"""Work in the background, and a worker that is killed whenever something was written down."""

import signal
import uuid
from pathlib import Path

import pytest

from handfast import Client, RunStatus
from handfast.engine.connect import Engine
from handfast.ledger import Ledger
from handfast.settings import Settings
from tests.conftest import until
from tests.crash.films import FILMS
from tests.crash.harness import Process, charges, downstream, worker_env

KILLED_AT = (3, 5, 7, 9)
"""Numbers of ledger entries: each time there are so many, the worker dies."""


@pytest.mark.timeout(180)
async def test_background_work_is_begun_once_and_its_end_told_once_however_often_the_worker_dies(
    engine: Engine, tmp_path: Path
) -> None:
    settings = Settings(
        home=tmp_path, task_queue=f"films-{uuid.uuid4().hex[:8]}", ledger_url=f"sqlite:///{tmp_path}/ledger.db"
    )
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    async with downstream(tmp_path) as address, await Client.connect(engine.address, settings=settings) as client:
        env = worker_env(engine.address, settings.ledger, settings.task_queue, {"downstream": address})
        run = await client.start("maker", "Make films", id=settings.task_queue)

        for entries in KILLED_AT:
            worker = start(env, tmp_path)

            async def written(least: int = entries) -> bool:
                return len(await ledger.read_events(run.id)) >= least

            await until(written, seconds=40)
            worker.signal(signal.SIGKILL)
            assert await worker.wait() == -signal.SIGKILL
        worker = start(env, tmp_path)
        try:
            result = await run.result()
        finally:
            await worker.stop()
        assert (result.status, result.text) == (RunStatus.COMPLETED, "All there.")
        assert [len(await charges(address, name)) for name in FILMS] == [1, 1]
        events = await ledger.read_events(run.id)
        heard = [text for event in events if event.kind == "turn" for text in event.content["heard"]]
        told = [f"has ended: SUCCEEDED. Result: {name}.mp4" for name in FILMS]
        assert sorted(text.partition(" of render ")[2] for text in heard) == sorted(told)
        assert (await ledger.verify(run.id)).faults == ()
    await ledger.close()


def start(env: dict[str, str], folder: Path) -> Process:
    return Process("handfast.client.cli", "worker", "tests.crash.films:maker", env=env, output=folder / "worker.log")
