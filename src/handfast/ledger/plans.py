"""Plans in the ledger: what is to be done, and what became of the steps so far."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, literal, or_, select

from handfast.contracts.arguments import StoredArguments
from handfast.contracts.effects import Outcome
from handfast.contracts.errors import LedgerConflict
from handfast.contracts.names import CARRY_OUT
from handfast.contracts.texts import clean_value
from handfast.ledger.entries import find
from handfast.ledger.looked import arguments_of
from handfast.ledger.runs import RunRow, read_run
from handfast.ledger.tables import entries, operations, runs
from handfast.ledger.transcript import read_intents

KEPT = "kept "
"""Of `operations.reason`, before the id of a call of an earlier plan whose result this one has."""


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
class Done:
    """A call of an earlier plan that succeeded and stands."""

    operation_id: str
    tool: str
    version: str
    arguments: StoredArguments
    result: Any


@dataclass(frozen=True, kw_only=True)
class PlanContext:
    """What a turn of a plan needs to know of the run, read in one go."""

    run: RunRow
    results: dict[str, StepResults]
    intents: set[str]
    done: tuple[Done, ...] = ()
    """What earlier plans have done that this one revises, and it has not taken over yet."""


def call_id(step: str, item: int, way: int, retry: int) -> str:
    """How the call of a step is named in the turn that asks for it."""
    return f"{step}#{item}.{way}.{retry}"


def place_of(call_id: str) -> tuple[str, int]:
    """The step and the item of a call that is named so."""
    step, _, place = call_id.partition("#")
    return step, int(place.split(".")[0])


class AskedPlan(NamedTuple):
    """What a run was asked to carry out."""

    plan: dict[str, Any]
    request: dict[str, Any]
    keeps: bool
    """It is a model's: if it fails, what is done stays done for the next one."""


def read_plan(connection: Connection, run_id: str) -> AskedPlan:
    """The plan of a run, and what it was given.

    Raises:
        LedgerConflict: The run carries out no plan, or its contents were erased.
    """
    entry = find(connection, run_id, "requested", "")
    if entry is None or entry.content is None or not entry.content.get("plan"):
        msg = f"run {run_id!r} carries out no plan, or its contents were erased"
        raise LedgerConflict(msg)
    try:
        told = clean_value(json.loads(entry.content["plan"]))
        return AskedPlan(told["plan"], told["request"], told.get("keeps", False))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = (
            f"run {run_id!r} was started with no plan: give JSON with `plan` and `request`, or use `Client.start_plan`"
        )
        raise LedgerConflict(msg) from error


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
        step, item = place_of(row.call_id)
        found[step].places = max(found[step].places, item + 1)
        if row.outcome == Outcome.SUCCEEDED:
            found[step].succeeded[item] = None if row.body is None else json.loads(row.body)
    return found


def read_done(connection: Connection, run: RunRow) -> tuple[Done, ...]:
    """What the plans before this one, of the same run's model, have done that stands, and this one has not taken over yet."""
    asked = operations.alias("asked")
    taken = operations.alias("taken")
    turn = entries.alias("turn")
    asked_in = and_(turn.c.run_id == operations.c.run_id, turn.c.seq == operations.c.turn_seq)
    settled = and_(entries.c.run_id == operations.c.run_id, entries.c.seq == operations.c.settled_seq)
    taken_over = select(taken.c.reason).where(taken.c.run_id == run.run_id, taken.c.reason.startswith(KEPT))
    query = (
        select(
            operations.c.operation_id,
            operations.c.tool,
            operations.c.version,
            operations.c.idx,
            entries.c.body,
            turn.c.body.label("turn_body"),
        )
        .select_from(
            operations.join(runs, runs.c.run_id == operations.c.run_id)
            .join(asked, and_(asked.c.operation_id == runs.c.chain_id, asked.c.tool == CARRY_OUT))
            .join(entries, settled)
            .join(turn, asked_in)
        )
        .where(runs.c.parent == run.parent, runs.c.run_id != run.run_id, operations.c.outcome == Outcome.SUCCEEDED)
        .where(operations.c.undoes == "", operations.c.reason.not_like(f"{KEPT}%"))
        .where((literal(KEPT) + operations.c.operation_id).not_in(taken_over))
        .order_by(operations.c.asked_at, operations.c.idx)
    )
    return tuple(
        Done(
            operation_id=row.operation_id,
            tool=row.tool,
            version=row.version,
            arguments=arguments_of(row.turn_body, row.idx),
            result=None if row.body is None else json.loads(row.body),
        )
        for row in connection.execute(query)
    )


def read_steps(connection: Connection, run_id: str) -> dict[str, Any]:
    """What became of the calls of each step of a run: results, or errors."""
    settled = and_(entries.c.run_id == operations.c.run_id, entries.c.seq == operations.c.settled_seq)
    query = (
        select(operations.c.call_id, operations.c.outcome, entries.c.body)
        .select_from(operations.join(entries, settled))
        .where(operations.c.run_id == run_id, operations.c.undoes == "")
        .order_by(operations.c.turn_seq, operations.c.idx)
    )
    found: dict[str, list[Any]] = {}
    for row in connection.execute(query):
        told = None if row.body is None else json.loads(row.body)
        found.setdefault(row.call_id.partition("#")[0], []).append({"outcome": row.outcome, "result": told})
    return {step: told[0] if len(told) == 1 else told for step, told in found.items()}


def read_opening(connection: Connection, run_id: str, *, intents: bool) -> tuple[AskedPlan, PlanContext]:
    """The plan of a run, and what its first turn needs.

    Raises:
        LedgerConflict: The run carries out no plan, or its contents were erased.
    """
    asked = read_plan(connection, run_id)
    return asked, read_plan_context(connection, run_id, (), intents=intents, keeps=asked.keeps)


def read_plan_context(
    connection: Connection, run_id: str, steps: Collection[str], *, intents: bool, keeps: bool = False
) -> PlanContext:
    """What `plan_turn` needs: the run, and the results of some steps; with `keeps` also what earlier plans have done.

    Raises:
        RunNotFound: There is no such run.
    """
    run = read_run(connection, run_id)
    return PlanContext(
        run=run,
        done=read_done(connection, run) if keeps else (),
        results=read_step_results(connection, run_id, steps),
        intents=read_intents(connection, run_id) if intents else set(),
    )
