"""Holding back of budgets what a model call may use, before it is made."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, repeat

import structlog
from temporalio import activity

from handfast.activities.boundary import Boundary
from handfast.activities.patience import patiently
from handfast.activities.transcripts import characters_of
from handfast.contracts.agent import Agent
from handfast.contracts.messages import Message, Usage
from handfast.contracts.policy import Caller
from handfast.contracts.policy.budgets import BUDGET, Spending, allowances
from handfast.ledger import RunRow
from handfast.ledger.budgets import Hold
from handfast.ledger.entries import now_ms
from handfast.ledger.lineage import turn_ref
from handfast.llm.pricing import cost_usd
from handfast.llm.usage import CHARACTERS_PER_TOKEN

LEASE = timedelta(minutes=15)
"""For how long it is held back: longer than any model takes."""
LOOKS = (0.1, 0.2, 0.5, 1.0)
"""Seconds between two looks whether others that are asked have left room."""
log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What a turn may use of the budgets that are about its run."""

    keys: tuple[str, ...] = ()
    holder: str = ""
    exhausted: str = ""
    """The budget that leaves no room for it, as the name of a limit."""
    near: str = ""
    """The budget that leaves room for an answer and no more, as the name of a limit."""


async def allow(
    boundary: Boundary, agent: Agent, run: RunRow, turn: int, messages: Sequence[Message], *, seconds: float
) -> Allowed:
    """Hold back what the next answer may use at most. If only others that are asked now stand in the way, wait for them.

    Args:
        boundary: What the worker has.
        agent: Whose model is asked.
        run: Its run.
        turn: The turn.
        messages: What it is asked.
        seconds: How long to wait at most.
    """
    caller = Caller(agent=agent.name, user=run.user, tenant=run.tenant, run=run.run_id)
    policies = (*await boundary.permission.policies(), agent.policy)
    limits = list(allowances(policies, caller, now_ms()))
    if not limits:
        return Allowed()
    holder, attempt, most = (
        f"{run.run_id}/{turn_ref(run.branches, turn)}",
        activity.info().attempt,
        _most(agent, messages),
    )
    lease_ms = int(LEASE.total_seconds() * 1000)

    async def look() -> Hold:
        return await patiently(
            lambda: boundary.ledger.installation.hold_budgets(holder, attempt, limits, most, lease_ms)
        )

    held = await look()
    if held.busy:
        try:
            async with asyncio.timeout(seconds):
                held = await _wait(boundary, tuple(sorted(one.key for one in limits)), look)
        except TimeoutError:
            held = Hold(exhausted=held.busy)
    if held.exhausted:
        log.warning("budget used up", budget=held.exhausted)
        return Allowed(exhausted=f"{BUDGET}{held.exhausted}")
    near = f"{BUDGET}{held.near}" if held.near else ""
    return Allowed(keys=tuple(one.key for one in limits), holder=holder, near=near)


async def _wait(boundary: Boundary, keys: tuple[str, ...], look: Callable[[], Awaitable[Hold]]) -> Hold:
    """Look until others that are asked have left room or used up what there is. Of one process only the first in line looks."""
    line = boundary.waiting_for_budgets.setdefault(keys, asyncio.Lock())
    async with line:
        waits = chain(LOOKS, repeat(LOOKS[-1]))
        while (held := await look()).busy:  # noqa: ASYNC110 - other processes are waited for, too
            await asyncio.sleep(next(waits))
        return held


async def let_go(boundary: Boundary, allowed: Allowed) -> None:
    """The model was not paid: what was held back for it is free again."""
    if allowed.keys:
        await patiently(lambda: boundary.ledger.installation.let_go(allowed.keys, allowed.holder))


def _most(agent: Agent, messages: Sequence[Message]) -> Spending:
    """What a model call uses at most, as far as that can be said before: its input counted in characters, its output at its limit."""
    asked = characters_of(messages) // CHARACTERS_PER_TOKEN + len(agent.instructions) // CHARACTERS_PER_TOKEN
    usage = Usage(input_tokens=asked, output_tokens=agent.max_output_tokens)
    # How many calls it will ask for, and how long they take, nobody knows: there must be something left of either.
    return Spending(
        turns=1, tokens=usage.total, cost_micros=round(float(cost_usd(agent, usage)) * 1e6), calls=1, work_ms=1
    )
