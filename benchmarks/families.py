"""`python -m benchmarks.families`: an agent that asks ten others, beside a hand-written workflow with ten child workflows."""

import asyncio
import statistics
import uuid

from temporalio.client import Client as Temporal

from benchmarks.beside import median_ms, opened
from benchmarks.peers.families import CHILDREN, ChildByHand, ParentByHand, think
from handfast import Agent, Client, Limits, Script, ask

ROUNDS, RUNS, WARM_UP = 5, 8, 3
WIDE = Limits(turns=1000, tokens=10**8)

child = Agent(name="child", model=Script(["x" * 100]), instructions="Answer.")
ASK = child.as_tool(description="Ask the child")
QUESTIONS = [ask("child", request=f"question {number}") for number in range(CHILDREN)]
AGENTS = [
    Agent(name="serial", model=Script([*QUESTIONS, "done"]), instructions="Ask.", tools=[ASK], limits=WIDE),
    Agent(name="parallel", model=Script([QUESTIONS, "done"]), instructions="Ask.", tools=[ASK], limits=WIDE),
]


async def size_of(temporal: Temporal, run_id: str) -> int:
    events = [event async for event in temporal.get_workflow_handle(run_id).fetch_history_events()]
    return sum(event.ByteSize() for event in events)


async def compare(temporal: Temporal, client: Client, queues: dict[str, str]) -> None:
    last: dict[tuple[str, bool], str] = {}

    async def by_hand(name: str, serial: bool) -> None:
        last[name, serial] = uuid.uuid4().hex
        await temporal.execute_workflow(ParentByHand.run, serial, id=last[name, serial], task_queue=queues[name])

    async def asked(name: str, serial: bool) -> None:
        run = await client.start("serial" if serial else "parallel", "Go", id=uuid.uuid4().hex)
        last[name, serial] = run.id
        await run.handle.result()

    systems = {**dict.fromkeys(queues, by_hand), "agents": asked}
    found: dict[tuple[str, bool], list[float]] = {}
    for serial in (True, False):
        for name, one in systems.items():
            for _ in range(WARM_UP):
                await one(name, serial)
        for _ in range(ROUNDS):
            for name, one in systems.items():
                found.setdefault((name, serial), []).append(await median_ms(lambda: one(name, serial), RUNS))  # noqa: B023 - awaited here
    print(
        f"{CHILDREN} children of one turn, ms a run, medians of {ROUNDS} rounds of {RUNS} runs; ratios to {next(iter(queues))}"
    )
    for serial in (True, False):
        base = statistics.median(found[next(iter(queues)), serial])
        for name in systems:
            ms, size = statistics.median(found[name, serial]), await size_of(temporal, last[name, serial])
            how = "one after the other" if serial else "side by side"
            print(f"{how:22}{name:28}{ms:8.1f}{ms / base:8.2f}x{size / 1000:9.1f} KB of the parent's history")


async def main() -> None:
    opening = opened(AGENTS, workflows=[ParentByHand, ChildByHand], activities=[think])
    async with opening as (temporal, client, queues):
        await compare(temporal, client, queues)


if __name__ == "__main__":
    asyncio.run(main())
