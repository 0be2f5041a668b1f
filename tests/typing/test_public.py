"""What users' type checkers see; mypy and pyright check this file, and running it checks the names."""

from collections.abc import Sequence
from typing import Any, assert_type

from handfast import (
    Agent,
    Client,
    Effect,
    Operation,
    Plan,
    Run,
    RunResult,
    RunSummary,
    Script,
    Tier,
    Tool,
    Undo,
    read_plan,
    tool,
)


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
async def look(n: int) -> int:
    """Look."""
    return n


async def use(client: Client) -> None:
    run = await client.start("agent", "text", user="ada", id="x")
    assert_type(run, Run)
    assert_type(await run.result(), RunResult)
    assert_type(await run.operations(), tuple[Operation, ...])
    assert_type(await client.runs(), list[RunSummary])
    assert_type(await client.execute("agent", "text"), RunResult)
    assert_type(read_plan("plan.yaml"), Plan)
    assert_type(await client.start_plan(read_plan("plan.yaml"), {"n": 1}, id="y"), Run)
    assert_type(await run.undo(), tuple[Undo, ...])
    async for event in run.events():
        assert_type(event.data, dict[str, Any])


def test_declarations_have_the_types_they_say() -> None:
    assert_type(look, Tool)
    agent = Agent(name="a", model=Script(["x"]), instructions="x", tools=[look])
    assert isinstance(agent.tools, Sequence)
