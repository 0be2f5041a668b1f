"""How long a run stands still when its only worker is killed in the middle of a call, and a new one is started at once."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from handfast import Client
from handfast.ledger import Ledger
from handfast.settings import Settings

ROOT = Path(__file__).parents[1]
HEARTBEAT_SECONDS = 2


async def recovery_seconds(address: str) -> float:
    """From SIGKILL to the next settled step, the repeated second of work included."""
    with tempfile.TemporaryDirectory() as folder:
        queue = f"recovery-{uuid.uuid4().hex[:8]}"
        settings = Settings(home=Path(folder), task_queue=queue, ledger_url=f"sqlite:///{folder}/ledger.db")
        ledger = Ledger.connect(settings.ledger)
        await ledger.migrate()
        await ledger.close()
        env = {
            **os.environ,
            "TEMPORAL_ADDRESS": address,
            "HANDFAST_LEDGER_URL": settings.ledger,
            "HANDFAST_TASK_QUEUE": queue,
            "HANDFAST_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "HANDFAST_LOG_LEVEL": "error",
        }
        command = [sys.executable, "-m", "handfast.client.cli", "worker", "benchmarks.worker:agent"]

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(command, cwd=ROOT, env=env)

        worker = start()
        async with await Client.connect(address, settings=settings) as client:
            run = await client.start("bench", "Go", id=queue)
            while not any(operation.state == "reserved" for operation in await run.operations()):
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
            worker.kill()
            killed = time.time()
            await asyncio.to_thread(worker.wait)
            worker = start()
            try:
                async for event in run.events():
                    if event.kind == "settled" and event.at.timestamp() > killed:
                        return event.at.timestamp() - killed
            finally:
                worker.terminate()
                await asyncio.to_thread(worker.wait)
    raise RuntimeError("the run ended without another settled step")
