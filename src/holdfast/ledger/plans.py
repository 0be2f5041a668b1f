"""Plans in the ledger: what is to be done, and what became of the steps so far."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from holdfast.contracts.effects import Outcome
from holdfast.contracts.errors import LedgerConflict
from holdfast.ledger.entries import find
from holdfast.ledger.runs import RunRow, read_run
from holdfast.ledger.tables import entries, operations
from holdfast.ledger.transcript import read_intents


@dataclass(kw_only=True)
class StepResults:
    """What became of the calls of one step."""

    succeeded: dict[int, Any] = field(default_factory=dict[int, Any])
    """Results by the number of the item; 0 for a step without a list."""
    places: int = 0
    """Of its items, how many were asked for."""

    @property
    def asked(self) -> bool:
        """Whether it has calls, whatever became of them."""
        return self.places > 0


@dataclass(frozen=True, kw_only=True)
class PlanContext:
    """What a turn of a plan needs to know of the run, read in one go."""

    run: RunRow
    results: dict[str, StepResults]
    intents: set[str]


def call_id(step: str, item: int, way: int, retry: int) -> str:
    """How the call of a step is named in the turn that asks for it."""
    return f"{step}#{item}.{way}.{retry}"


def read_plan(connection: Connection, run_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plan of a run, and what it was given.

    Raises:
        LedgerConflict: The run carries out no plan, or its contents were erased.
    """
    entry = find(connection, run_id, "requested", "")
    if entry is None or entry.content is None or not entry.content.get("plan"):
        msg = f"run {run_id!r} carries out no plan, or its contents were erased"
        raise LedgerConflict(msg)
    told = json.loads(entry.content["plan"])
    return told["plan"], told["request"]


def read_step_results(connection: Connection, run_id: str, steps: Collection[str]) -> dict[str, StepResults]:
    """The results of some steps of a run, as they stand now."""
    if not steps:
        return {}
    settled = and_(entries.c.run_id == operations.c.run_id, entries.c.seq == operations.c.settled_seq)
    query = (
        select(operations.c.call_id, operations.c.outcome, entries.c.body)
        .select_from(operations.join(entries, settled, isouter=True))
        .where(operations.c.run_id == run_id, operations.c.left_by == 0)
        .where(or_(*(operations.c.call_id.startswith(f"{step}#", autoescape=True) for step in sorted(steps))))
    )
    found = {step: StepResults() for step in steps}
    for row in connection.execute(query):
        step, _, place = row.call_id.partition("#")
        item = int(place.split(".")[0])
        found[step].places = max(found[step].places, item + 1)
        if row.outcome == Outcome.SUCCEEDED:
            found[step].succeeded[item] = None if row.body is None else json.loads(row.body)
    return found


def read_plan_context(connection: Connection, run_id: str, steps: Collection[str], *, intents: bool) -> PlanContext:
    """What `plan_turn` needs: the run, and the results of some steps.

    Raises:
        RunNotFound: There is no such run.
    """
    return PlanContext(
        run=read_run(connection, run_id),
        results=read_step_results(connection, run_id, steps),
        intents=read_intents(connection, run_id) if intents else set(),
    )
