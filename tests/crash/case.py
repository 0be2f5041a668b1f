"""One run of two charges whose worker dies or freezes at a point, with everything around it: what the crash tests share."""

import asyncio
import signal as signals
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from handfast import Client, Effect, Outcome, Tier
from handfast.client import Run
from handfast.contracts.errors import DecisionRefused
from handfast.engine.connect import Engine
from handfast.ledger import Ledger
from handfast.settings import Settings
from tests.crash.harness import Process, charges, downstream, worker_env

REFS = ("one", "two")


async def once_over(word: Callable[[], Awaitable[None]]) -> None:
    """Say it as soon as no attempt may still act."""
    while True:
        try:
            await word()
        except DecisionRefused as error:
            if "may still act" not in str(error):
                raise
            await asyncio.sleep(0.3)
        else:
            return


@dataclass(frozen=True, kw_only=True)
class Case:
    """A started run, and what its workers need."""

    client: Client
    run: Run
    address: str
    """Of the downstream."""
    folder: Path
    env: Mapping[str, str]
    resolved: set[str] = field(default_factory=set[str])
    """The operations that a person has looked at."""

    def worker(self, name: str) -> Process:
        """A worker that dies or freezes at the case's point unless one has before."""
        return Process("tests.crash.worker", env=self.env, output=self.folder / f"{name}.log")

    async def play(self, seconds: float = 150) -> int:
        """Serve the run until it is closed, with a new worker whenever one was killed; how often that was."""
        kills, worker = 0, self.worker("first")
        try:
            async with asyncio.timeout(seconds):
                while not (await self.run.summary()).status.closed:
                    if worker.code is not None:
                        assert worker.code == -signals.SIGKILL, worker.output.read_text()[-3000:]
                        kills += 1
                        worker = self.worker(f"after-{kills}")
                    await asyncio.sleep(0.05)
        finally:
            await worker.stop()
        return kills

    async def charged(self) -> dict[str, int]:
        """How often each charge was made, from the downstream's log and the ledger's database."""
        return {ref: len(await charges(self.address, ref)) + await self._booked(ref) for ref in REFS}

    async def _booked(self, ref: str) -> int:
        count = text("SELECT COUNT(*) FROM charges WHERE ref = :ref")
        database = self.client.ledger.database
        return int(await database.read(lambda connection: connection.execute(count, {"ref": ref}).scalar_one()))

    async def unblock_as_a_person_would(self) -> None:
        """Look at the other side, and say of what could not be undone what is so."""
        for one in await self.run.undo():
            if one.blocked and one.operation not in self.resolved:
                [operation] = [o for o in await self.run.operations() if o.operation_id == one.operation]
                undone = bool(await charges(self.address, f"undo-{operation.arguments['ref']}"))
                await self._say(
                    one.operation, self.run.unblock(one.operation, "done" if undone else "retry", by="a person")
                )

    async def resolve_as_a_person_would(self) -> None:
        """Look at the other side, and say once what became of what is not known."""
        for operation in await self.run.operations():
            if operation.outcome is Outcome.UNKNOWN and operation.operation_id not in self.resolved:
                happened = bool(await charges(self.address, operation.arguments["ref"]))
                identity = operation.operation_id
                await self._say(identity, self.run.resolve(identity, happened=happened, by="a person"))

    async def _say(self, identity: str, word: Awaitable[None]) -> None:
        """Say it once. What comes while an attempt may still act is refused: then look again."""
        try:
            self.resolved.add(identity)
            await word
        except DecisionRefused as error:
            if "may still act" not in str(error):
                raise
            self.resolved.discard(identity)


@asynccontextmanager
async def opened_case(
    engine: Engine,
    folder: Path,
    effect: Effect,
    point: str,
    *,
    ledger_url: str = "",
    signal: str = "KILL",
    tier: Tier = Tier.REVERSIBLE,
    more: Mapping[str, str] | None = None,
) -> AsyncGenerator[Case]:
    """A run that waits for its first worker, with a downstream and a ledger of its own.

    `point` may be several, separated by semicolons; `more` is for the worker's environment.
    """
    folder = folder / uuid.uuid4().hex[:8]
    folder.mkdir()
    queue = f"crash-{uuid.uuid4().hex[:8]}"
    url = ledger_url or f"sqlite:///{folder / 'ledger.db'}"
    settings = Settings(home=folder, task_queue=queue, ledger_url=url)
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.database.write(lambda connection: connection.execute(text("CREATE TABLE charges (ref TEXT)")))
    await ledger.close()
    crash = {"CRASH_POINT": point, "CRASH_MARK": str(folder / "mark"), "CRASH_SIGNAL": signal}
    async with downstream(folder) as address, await Client.connect(engine.address, settings=settings) as client:
        crash |= {"CRASH_EFFECT": effect.value, "CRASH_TIER": tier.value, **(more or {})}
        env = worker_env(engine.address, url, queue, {"downstream": address}, **crash)
        run = await client.start("charger", "Charge", id=f"run-{queue}")
        yield Case(client=client, run=run, address=address, folder=folder, env=env)
