"""Plans of several steps one of which fails, and what must hold of each of them by the downstream's own log."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from temporalio.service import RPCError

from handfast import Effect, Outcome, Run, RunStatus
from handfast.contracts.errors import EngineUnavailable, LedgerError, RunError
from handfast.contracts.plan import Plan
from handfast.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Saga:
    """A plan of so many steps, one of which fails, if any does."""

    steps: int
    serial: bool
    fails: int
    """The number of the step that fails, from 1; 0 for none."""
    cancelled: bool = False
    """It is cancelled at some moment, and undone."""

    @property
    def plan(self) -> Plan:
        """Serial steps each wait for the one before; others for the first one."""
        steps: dict[str, Any] = {}
        for number in range(1, self.steps + 1):
            fails = number == self.fails
            before = number - 1 if self.serial else min(number - 1, 1)
            call = {"tool": "refuse"} if fails else {"tool": "charge", "with": {"ref": f"s{number}"}}
            steps[f"s{number}"] = {**call, "depends_on": [f"s{before}"] if before else []}
        return Plan.model_validate({"name": "saga", "agent": "charger", "steps": steps})


async def look_as_a_person_would(run: Run, address: str) -> int:
    """Say of everything that nobody knows, calls and what undoes them, what the log says then, until the run is over; how often."""
    said: set[str] = set()
    # Refused while the run waits for nobody, or nobody takes it, or the ledger is held by a worker that is frozen: said again.
    later = (RunError, EngineUnavailable, RPCError, LedgerError, TimeoutError)
    while True:
        with contextlib.suppress(*later):
            if (await run.summary()).status.closed:
                return len(said)
            for operation in await run.operations():
                identity = operation.operation_id
                if operation.outcome is Outcome.UNKNOWN and identity not in said:
                    happened = identity in await log_of(address)
                    await asyncio.wait_for(run.resolve(identity, happened=happened, by="a person"), 10)
                    said.add(identity)
        with contextlib.suppress(*later):
            for one in await run.undo():
                if one.blocked:
                    log = await log_of(address)
                    undone = f"undo-{one.operation}" in log or one.operation not in log
                    await asyncio.wait_for(run.unblock(one.operation, "done" if undone else "retry", by="a person"), 10)
                    said.add(f"undo-{one.operation}")
        await asyncio.sleep(0.3)


async def log_of(address: str) -> list[str]:
    async with httpx.AsyncClient(timeout=60) as http:
        return [str(row["ref"]) for row in (await http.get(f"{address}/charges")).json()]


async def faults_of(saga: Saga, effect: Effect, run: Run, log: list[str]) -> list[str]:
    """What is not as it must be, by the log."""
    faults: list[str] = []
    summary, operations = await run.summary(), await run.operations()
    status = summary.status
    place: dict[int, tuple[int, int]] = {}
    for operation in operations:
        if operation.tool != "charge":
            continue
        step, identity = int(operation.arguments["ref"][1:]), operation.operation_id
        charged, back = log.count(identity), log.count(f"undo-{identity}")
        if charged > 1 or back > 1:
            faults.append(f"s{step}: charged {charged} times, paid back {back} times")
        if back > charged:
            faults.append(f"s{step}: paid back what was not charged")
        if (charged > back) != (status is RunStatus.COMPLETED):
            faults.append(f"s{step}: charged {charged}, paid back {back}, and the run is {status}")
        if charged and back:
            place[step] = (log.index(identity), log.index(f"undo-{identity}"))
    if saga.serial:
        undone = sorted(place, reverse=True)
        backs = [place[step][1] for step in undone]
        if backs != sorted(backs):
            faults.append(f"undone in the wrong order: {place}")
    elif 1 in place and place[1][1] != max(undone for _, undone in place.values()):
        faults.append(f"undone before what depends on it: {place}")
    if summary.calls != len(operations):
        faults.append(f"{summary.calls} calls are counted, and {len(operations)} were asked for")
    expected = {RunStatus.FAILED} if saga.fails else {RunStatus.COMPLETED}
    if effect is Effect.ONCE:
        # Of a call that was cut off before it was sent the person says that it did not happen: its step has failed.
        expected |= {RunStatus.FAILED}
    if status not in (expected | {RunStatus.CANCELLED} if saga.cancelled else expected):
        faults.append(f"the run is {status}")
    return faults


async def seconds_to_consistent(ledger: Ledger, run: Run, kills: Sequence[float]) -> float | None:
    """From the moment at which undoing began to that at which the run was closed, or from the last kill between them."""
    events = await ledger.read_events(run.id)
    begun = next((event.at.timestamp() for event in events if event.kind == "undo"), None)
    closed = next(event.at.timestamp() for event in events if event.kind == "closed")
    return None if begun is None else closed - max([begun, *(at for at in kills if at < closed)])
