"""What the tests of families share: agents that book at a travel agency on loopback, and ask each other."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from handfast import Agent, Limits, Run, RunFailed, RunResult, RunStatus, Script
from handfast.contracts.messages import ModelRequest
from handfast.contracts.tool import Tool
from tests.conftest import Shop, until
from tests.undo.travel import TOOLS

WIDE = Limits(turns=50, tokens=10**7)


def new_id() -> str:
    return f"family-{uuid.uuid4()}"


def agent(
    name: str, steps: Sequence[Any] | Callable[[ModelRequest], Any], tools: Sequence[Tool] = TOOLS, **options: Any
) -> Agent:
    """A scripted agent."""
    limits = options.pop("limits", WIDE)
    return Agent(name=name, instructions="Work.", model=Script(steps), tools=list(tools), limits=limits, **options)


def sub(one: Agent, **options: Any) -> Tool:
    """An agent as a tool."""
    return one.as_tool(description=f"Ask {one.name} to book something", **options)


async def started(desk: Shop, name: str = "boss", text: str = "Go", **options: Any) -> Run:
    return await desk.client.start(name, text, id=new_id(), **options)


async def ended(run: Run) -> RunResult:
    return await asyncio.wait_for(run.result(), 30)


async def failed(run: Run) -> str:
    with pytest.raises(RunFailed) as caught:
        await ended(run)
    return str(caught.value)


async def child_of(desk: Shop, run: Run, tool: str, *, opened: bool = True) -> Run:
    """The run of the first call of a tool, once it was begun, and unless said otherwise is there in Temporal."""

    async def begun() -> str:
        return next((one.child for one in await run.operations() if one.tool == tool and one.child), "")

    child = desk.client.run(await until(begun))

    async def is_open() -> bool:
        return (await child.summary()).status is not RunStatus.REQUESTED

    if opened:
        await until(is_open)
    return child


async def require_sound(desk: Shop) -> None:
    """Every chain of the ledger is valid."""
    for run_id in await desk.ledger.run_ids():
        assert (await desk.ledger.verify(run_id)).faults == ()
