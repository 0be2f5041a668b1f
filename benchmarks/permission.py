"""`python -m benchmarks.permission`: what a decision of a policy costs, and what it costs when a thousand runs wait for a person."""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil

from handfast import Agent, Client, Condition, Effect, Policy, ProposedCall, Rule, Script, Tier, Verdict, ask, tool
from handfast.contracts.policy import judge_all
from handfast.engine.embedded import EmbeddedEngine
from handfast.ledger import Ledger
from handfast.settings import Settings

WAITING = 1000
AT_ONCE = 50
DECISIONS, ROUNDS = 5000, 7


@tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="payments:refund:write")
async def refund(payment_id: str, amount: int) -> str:
    """Refund a payment."""
    return f"{payment_id}: {amount}"


AGENTS = [
    Agent(
        name="clerk",
        model=Script([ask("refund", payment_id="p1", amount=900), "done"]),
        instructions="x",
        tools=[refund],
    ),
    Agent(name="greeter", model=Script(["hello"]), instructions="x"),
]
CALL = ProposedCall(
    tool="refund", tier=Tier.IRREVERSIBLE, scope="payments:refund:write", arguments={"payment_id": "p1", "amount": 900},
    user="ada", tenant="acme",
)  # fmt: skip


def policy_of(rules: int) -> Policy:
    """One with roles and lists, whose last rule decides."""
    some = [
        Rule(
            name=f"rule {number}",
            verdict=Verdict.ASK,
            tools=("refund",) if number % 2 else ("other_*",),
            arguments={"amount": Condition(above=1000 + number)},
        )
        for number in range(rules - 1)
    ]
    last = Rule(name="small", verdict=Verdict.RUN, tools=("refund",), arguments={"amount": Condition(most=1000)})
    return Policy(
        allow=("refund", "lookup_*"),
        deny=("admin.*",),
        roles={"support": ("money", "user_data")},
        users={"acme/*": ("support",)},
        rules=(*some, last),
    )


def microseconds(decide: Callable[[], object]) -> float:
    """The median over rounds of what one decision takes."""
    found: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(DECISIONS):
            decide()
        found.append((time.perf_counter() - began) / DECISIONS * 1e6)
    return statistics.median(found)


def decisions() -> None:
    now = datetime.now(UTC)
    print(f"one decision, medians of {ROUNDS} rounds of {DECISIONS}")
    for rules in (1, 5, 20):
        policies = [policy_of(rules), Policy()]
        assert judge_all(policies, CALL, now).rule == "small"
        print(f"  {rules:3} rules, roles and lists {microseconds(lambda: judge_all(policies, CALL, now)):10.1f} µs")  # noqa: B023


async def waiting() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedEngine(Path(folder)) as embedded:
            settings = Settings(home=Path(folder), ledger_url=f"sqlite:///{folder}/ledger.db")
            ledger = Ledger.connect(settings.ledger)
            await ledger.migrate()
            await ledger.close()
            environment = {
                **os.environ, "HANDFAST_LEDGER_URL": settings.ledger, "TEMPORAL_ADDRESS": embedded.engine.address,
                "HANDFAST_HOME": folder, "HANDFAST_LOG_LEVEL": "error",
            }  # fmt: skip
            command = [sys.executable, "-m", "handfast.client.cli"]
            worker = subprocess.Popen([*command, "worker", "benchmarks.permission:AGENTS"], env=environment)
            client = await Client.connect(embedded.engine.address, settings=settings)
            try:
                await look(client, psutil.Process(worker.pid), command, environment)
            finally:
                await client.close()
                worker.terminate()
                worker.wait(60)


async def look(client: Client, worker: psutil.Process, command: list[str], environment: dict[str, str]) -> None:
    for _ in range(50):
        await client.execute("greeter", "Hello")
    before = worker.memory_info().rss / 1e6
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with limit:
            await client.start("clerk", "Go", id=f"waiting-{number}")

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(WAITING)))
    while len(await client.inbox(limit=WAITING)) < WAITING:
        await asyncio.sleep(0.5)
    took = time.perf_counter() - began
    await asyncio.sleep(5)
    after = worker.memory_info().rss / 1e6
    print(f"{WAITING} runs wait for a person, after {took:.0f} s")
    print(f"  the worker's memory {before:.0f} MB before, {after:.0f} MB then: {after - before:+.0f} MB")
    listed: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await client.inbox(limit=WAITING)
        listed.append(time.perf_counter() - began)
    print(f"  the inbox, as a call      {statistics.median(listed):8.3f} s")
    typed: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        told = subprocess.run(
            [*command, "inbox", "--json"], env=environment, capture_output=True, check=True, text=True
        )
        typed.append(time.perf_counter() - began)
        assert len(told.stdout.splitlines()) == WAITING
    print(f"  `handfast inbox --json`   {statistics.median(typed):8.3f} s, the process included")


if __name__ == "__main__":
    decisions()
    asyncio.run(waiting())
