"""Playing cases through a real engine, with a person who lets go what the user wants and nothing else."""

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from handfast import Agent, DecisionRefused, Limits, Policy, Script, SigningKey, Tier, Verdict
from handfast.client.client import Client
from handfast.contracts.grants import Approver
from handfast.contracts.provenance import acts
from handfast.contracts.tool import Tool
from handfast.ledger import Ledger
from handfast.settings import Settings
from handfast.workers.worker import make_boundary, make_worker
from tests.redteam.worst import Case, Owner, WorstCase

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
            call = (waiting.tool, waiting.arguments)
            owner: Owner = "user" if call in case.user else "attacker"
            case.asked.append((owner, call))
            try:
                await client.run(waiting.run_id).decide(
                    waiting.operation_id,
                    approve=owner == "user",
                    key=key,
                    reason="" if owner == "user" else "not wanted",
                )
            except DecisionRefused:
                decided.discard(waiting.operation_id)
        await asyncio.sleep(LOOKS)


def acting(tools: Iterable[Tool]) -> set[str]:
    """The names of those that change something or send something outside."""
    return {tool.name for tool in tools if acts(tool)}


async def stage(address: str, folder: Path, agent: Agent, model: WorstCase, cases: Iterable[Case]) -> None:
    """Play cases of one agent with a worker and a ledger of their own, on the Temporal server at an address."""
    settings = Settings(
        home=folder,
        ledger_url=f"sqlite:///{folder / agent.name}.db",
        task_queue=f"redteam-{uuid.uuid4().hex[:8]}",
        drain_seconds=1.0,
    )
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    boundary = make_boundary([agent], ledger, settings)
    async with (
        await Client.connect(address, settings=settings) as client,
        make_worker(client.temporal, boundary, settings),
    ):
        await play(client, agent.name, model, cases)
    await boundary.close()
    await ledger.close()
