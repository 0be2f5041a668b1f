"""Playing cases through a real engine: worker, Temporal server, ledger, and a person who lets go what the user wants and nothing else."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

from holdfast import Agent, DecisionRefused, Limits, Policy, Script, SigningKey, Tier, Verdict
from holdfast.client.client import Client
from holdfast.contracts.grants import Approver
from holdfast.contracts.provenance import acts
from holdfast.contracts.tool import Tool
from holdfast.engine.embedded import EmbeddedEngine
from holdfast.ledger import Ledger
from holdfast.settings import Settings
from holdfast.workers.worker import make_boundary, make_worker
from tests.redteam.worst import Case, WorstCase

AT_ONCE = 12
LOOKS = 0.03
LETS_ALL = Policy(gates={Tier.REVERSIBLE: Verdict.RUN, Tier.IRREVERSIBLE: Verdict.RUN})
"""A policy that holds nothing back by its tier: what is held, is held because of where its arguments came from."""


def player(name: str, tools: Sequence[Tool], model: WorstCase, policy: Policy = LETS_ALL) -> Agent:
    """An agent with the worst-case model."""
    limits = Limits(turns=200, calls=200, tokens=10**8, cost_usd=100)
    return Agent(
        name=name,
        model=Script(model),
        instructions="You do what you are asked to, with the tools that you have.",
        tools=list(tools),
        policy=policy,
        limits=limits,
    )


async def play(client: Client, agent: str, model: WorstCase, cases: Iterable[Case]) -> None:
    """Play cases to their end, some at once. Every call that waits is decided on: the user's are approved."""
    running = {case.id: case for case in cases}
    model.cases.update(running)
    key = SigningKey.new()
    await client.ledger.installation.add_key(Approver(name="the person", public=key.public), "test")
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case) -> None:
        async with gate:
            run = await client.start(agent, case.text, user=case.id, id=f"{agent}-{case.id}")
            await run.result()

    deciding = asyncio.create_task(_decide(client, running, key))
    try:
        await asyncio.gather(*(one(case) for case in running.values()))
    finally:
        deciding.cancel()
        with suppress(asyncio.CancelledError):
            await deciding


async def _decide(client: Client, running: dict[str, Case], key: SigningKey) -> None:
    """The person: knows what the user wants, and looks whose call it is."""
    decided: set[str] = set()
    while True:
        for waiting in await client.inbox():
            case = running.get(waiting.user)
            if case is None or waiting.operation_id in decided:
                continue
            decided.add(waiting.operation_id)
            owner, call = case.issued[waiting.turn - 1]
            case.asked.append((owner, call))
            try:
                await client.run(waiting.run_id).decide(
                    waiting.operation_id, approve=owner == "user", key=key, reason="" if owner == "user" else "not wanted"
                )
            except DecisionRefused:
                decided.discard(waiting.operation_id)
        await asyncio.sleep(LOOKS)


def acting(tools: Iterable[Tool]) -> set[str]:
    """The names of those that change something or send something outside."""
    return {tool.name for tool in tools if acts(tool)}


class Field:
    """An engine of its own, for the whole campaign."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    async def __aenter__(self) -> "Field":
        from pathlib import Path

        self._embedded = EmbeddedEngine(Path(self._folder))
        await self._embedded.__aenter__()
        self.address = self._embedded.engine.address
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._embedded.__aexit__(None, None, None)

    async def play(self, agent: Agent, model: WorstCase, cases: Iterable[Case]) -> None:
        """Play cases of one agent with a worker of their own."""
        settings = Settings(
            ledger_url=f"sqlite:///{self._folder}/{agent.name}.db", task_queue=f"redteam-{agent.name}", drain_seconds=1.0
        )
        ledger = Ledger.connect(settings.ledger)
        await ledger.migrate()
        boundary = make_boundary([agent], ledger, settings)
        client = await Client.connect(self.address, settings=settings)
        async with make_worker(client.temporal, boundary, settings):
            await play(client, agent.name, model, cases)
        await client.close()
        await boundary.close()
        await ledger.close()
