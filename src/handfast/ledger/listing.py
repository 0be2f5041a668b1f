"""Operations as people see them: with what was asked and what became of it."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, exists, select

from handfast.contracts.effects import Effect, Outcome, Tier
from handfast.contracts.errors import RunNotFound
from handfast.contracts.provenance import Labels
from handfast.contracts.results import Operation
from handfast.ledger.branches import ORPHANED
from handfast.ledger.entries import entry_at, moment
from handfast.ledger.looked import arguments_of
from handfast.ledger.tables import entries, operations, runs
from handfast.ledger.undone import RUN, STANDS

ORDER = (operations.c.left_by == 0, operations.c.left_by, operations.c.turn, operations.c.idx)
"""What branches left behind have asked for comes first, as it did."""


def list_operations(connection: Connection, run_id: str) -> list[Operation]:
    """The run's operations in the order they were asked for, with arguments and results."""
    found = _with_contents(connection, (operations.c.run_id == run_id) & (operations.c.undoes == ""), *ORDER)
    return [_operation(row) for row in found]


def list_failed(connection: Connection, limit: int) -> list[tuple[str, Operation]]:
    """Calls that failed for good, the newest first, each with its run."""
    where = (operations.c.outcome == Outcome.FAILED) & (operations.c.version != "") & (operations.c.undoes == "")
    found = _with_contents(connection, where, operations.c.settled_at.desc(), operations.c.operation_id, limit=limit)
    return [(row.run_id, _operation(row)) for row in found]


def list_orphans(connection: Connection, limit: int) -> list[tuple[str, Operation]]:
    """Effects that only a branch left behind has asked for, the newest first, each with its run.

    A call that is a run of its own is one of them also if it has failed, as long as something stands of what that run did.
    """
    inner = operations.alias("inner")
    stands = exists().where(
        runs.c.chain_id == operations.c.operation_id,
        inner.c.run_id == runs.c.run_id,
        inner.c.effect.not_in([Effect.READ, ""]),
        inner.c.outcome.in_(STANDS),
    )
    of_run = (operations.c.left_by > 0) & (operations.c.undo == RUN) & (operations.c.outcome == Outcome.FAILED)
    where = ORPHANED | (of_run & stands)
    found = _with_contents(connection, where, operations.c.settled_at.desc(), operations.c.operation_id, limit=limit)
    return [(row.run_id, _operation(row)) for row in found]


def read_call(connection: Connection, operation_id: str) -> tuple[str, dict[str, Any]] | None:
    """The tool and the arguments of a call of any run; None if there is none, or it was erased."""
    for row in _with_contents(connection, operations.c.operation_id == operation_id, operations.c.turn):
        return None if row.asked_body is None else (row.tool, arguments_of(row.asked_body, row.idx).stored)
    return None


def _with_contents(
    connection: Connection, where: ColumnElement[bool], *order: Any, limit: int | None = None
) -> Iterator[Any]:
    """Rows of operations with what was asked and what they were settled with."""
    asked = entries.alias("asked")
    settled = entries.alias("settled")
    child = runs.alias("child")
    query = (
        select(
            operations,
            asked.c.body.label("asked_body"),
            settled.c.body.label("settled_body"),
            child.c.run_id.label("child"),
        )
        .select_from(
            operations.join(asked, and_(asked.c.run_id == operations.c.run_id, asked.c.seq == operations.c.turn_seq))
            .join(
                settled,
                and_(settled.c.run_id == operations.c.run_id, settled.c.seq == operations.c.settled_seq),
                isouter=True,
            )
            .join(child, and_(child.c.chain_id == operations.c.operation_id, child.c.parent != ""), isouter=True)
        )
        .where(where)
        .order_by(*order)
        .limit(limit)
    )
    yield from connection.execute(query)


def _operation(row: Any) -> Operation:
    return Operation(
        operation_id=row.operation_id,
        turn=row.turn,
        index=row.idx,
        tool=row.tool,
        version=row.version,
        digest=row.digest,
        effect=Effect(row.effect) if row.version else None,
        tier=Tier(row.tier) if row.version else None,
        state=row.state,
        outcome=None if row.outcome is None else Outcome(row.outcome),
        reason=row.reason,
        attempts=row.attempts,
        arguments=arguments_of(row.asked_body, row.idx).stored,
        result=None if row.settled_body is None else json.loads(row.settled_body),
        asked_at=moment(row.asked_at),
        left_by=row.left_by,
        settled_at=None if row.settled_at is None else moment(row.settled_at),
        child=row.child or "",
    )


def read_result(connection: Connection, run_id: str, operation_id: str) -> Any:
    """The whole content an operation of this run was settled with; see `read_labelled`."""
    return read_labelled(connection, run_id, operation_id).content


class Labelled(NamedTuple):
    """The whole content an operation was settled with."""

    content: Any
    labels: Labels
    """What it brings into a run."""
    tool: str
    version: str
    """Of the contract by which it was asked for."""


def read_labelled(connection: Connection, run_id: str, operation_id: str) -> Labelled:
    """The whole content an operation of this run was settled with.

    Raises:
        RunNotFound: This run has no such settled operation.
    """
    where = (operations.c.operation_id == operation_id, operations.c.run_id == run_id)
    columns = (operations.c.settled_seq, operations.c.tool, operations.c.version)
    row = connection.execute(select(*columns).where(*where)).one_or_none()
    if row is None or row.settled_seq is None:
        raise RunNotFound(f"run {run_id!r} has no settled operation {operation_id!r}")
    entry = entry_at(connection, run_id, row.settled_seq)
    return Labelled(entry.content, Labels.model_validate(entry.meta.get("labels", {})), row.tool, row.version)
