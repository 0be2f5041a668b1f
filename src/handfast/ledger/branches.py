"""Branches: a run goes back to one of its turns and thinks again; what it did since is kept, shown, and taken over.

An effect that the branch left behind has had is in the world. If the new branch asks for the same call, it takes the old one over
with what became of it; if it never does, the call is an orphan, which people see.
"""

import json
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from handfast.contracts.arguments import StoredArguments
from handfast.contracts.effects import Effect, Outcome, RunStatus
from handfast.contracts.errors import LedgerConflict
from handfast.contracts.provenance import UNVOUCHED, Labels
from handfast.contracts.wire import CloseInput
from handfast.contracts.wire_model import Anchor
from handfast.ledger.entries import NEW_HEAD, NewEntry, append, find
from handfast.ledger.lineage import turn_ref
from handfast.ledger.looked import ASKED_IN, arguments_of
from handfast.ledger.operations import fence
from handfast.ledger.runs import RunRow, labels_text, read_run
from handfast.ledger.runs import close_run as close_branch
from handfast.ledger.statement import Statement
from handfast.ledger.tables import entries, operations
from handfast.ledger.undone import RUN
from handfast.ledger.words import unsigned_in

BRANCH = Statement(
    NEW_HEAD.values(
        branches=bindparam("all"), status=RunStatus.RUNNING, closed_at=bindparam("closed"), labels=bindparam("labels")
    )
)
ORPHANED = (
    (operations.c.left_by > 0)
    & operations.c.effect.not_in([Effect.READ, ""])
    & (
        operations.c.outcome.in_([Outcome.SUCCEEDED, Outcome.UNKNOWN])
        | ((operations.c.undo == RUN) & (operations.c.state == "pending"))
    )
)
"""Of which rows of `operations` that is true: an effect that no branch which goes on has asked for."""


def begin_branch(connection: Connection, run_id: str, turn: int, *, left: str, by: str, reason: str) -> int:
    """Leave everything from a turn on behind; the number of the new branch. Said again before it has a turn, it is the same.

    Calls under way are closed to late attempts: what they may have done is not known.

    Args:
        connection: A transaction.
        run_id: The run.
        turn: The first turn that is thought again, from 1.
        left: The workflow's execution that runs now; it may not close the run any more.
        by: Who wants it.
        reason: Why.

    Raises:
        RunNotFound: There is no such run.
        LedgerConflict: It has no such turn.
    """
    run = read_run(connection, run_id)
    begun = find(connection, run_id, "turn", turn_ref(run.branches, turn)) is not None
    if not begun and run.branches[-1:] == (turn,):
        return len(run.branches)
    if not begun:
        msg = f"run {run_id!r} has no settled turn {turn}: only a turn that was thought can be thought again"
        raise LedgerConflict(msg)
    number = len(run.branches) + 1
    where = (operations.c.run_id == run_id, operations.c.left_by == 0, operations.c.turn >= turn)
    found = connection.execute(
        select(operations.c.operation_id, operations.c.state, operations.c.undo).where(*where)
    ).all()
    for row in found:
        # A run of its own goes on: whoever asks for it again takes it over as it is.
        if row.state != "settled" and (row.undo, row.state) != (RUN, "pending"):
            fence(connection, run_id, row.operation_id, f"the run was reset to turn {turn}")
    connection.execute(update(operations).where(*where).values(left_by=number))
    meta = {"turn": turn, "by": by, "left": left}
    entry = NewEntry(kind="branch", ref=str(number), meta=meta, content={"reason": reason} if reason else None)
    labels = labels_text(_labels_before(connection, run, turn))
    append(connection, run_id, [entry], BRANCH, all=json.dumps([*run.branches, turn]), closed=None, labels=labels)
    return number


def _labels_before(connection: Connection, run: RunRow, turn: int) -> Labels:
    """What was in the run when it came to a turn: what it has read since is in it no more."""
    kind, ref = ("requested", "") if turn == 1 else ("turn", turn_ref(run.branches, turn - 1))
    entry = find(connection, run.run_id, kind, ref)
    labels = run.labels if entry is None else Labels.model_validate(entry.meta.get("labels", {}))
    unsigned = entry is not None and kind == "requested" and entry.seq in unsigned_in(connection, run.run_id)
    return labels | UNVOUCHED if unsigned else labels


def close_run(connection: Connection, run_id: str, close: CloseInput, *, execution: str = "") -> tuple[RunRow, Anchor]:
    """Write down how a run ended; see `runs.close_run`. The execution that a branch has left behind has no say in it."""
    run = read_run(connection, run_id)
    left = find(connection, run_id, "branch", str(run.branch)) if run.branches else None
    if left is not None and execution and left.meta["left"] == execution:
        return run, left.anchor
    return close_branch(connection, run_id, close)


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """A call that a branch left behind, and that has had an effect, or may have."""

    operation_id: str
    tool: str
    version: str
    arguments: StoredArguments


def read_orphans(connection: Connection, run_id: str) -> tuple[Orphan, ...]:
    """The run's orphans, in the order they were asked for."""
    query = (
        select(operations.c.operation_id, operations.c.tool, operations.c.version, operations.c.idx, entries.c.body)
        .select_from(operations.join(entries, ASKED_IN))
        .where(operations.c.run_id == run_id, ORPHANED)
        .order_by(operations.c.left_by.desc(), operations.c.turn, operations.c.idx)
    )
    return tuple(
        Orphan(
            operation_id=row.operation_id,
            tool=row.tool,
            version=row.version,
            arguments=arguments_of(row.body, row.idx),
        )
        for row in connection.execute(query)
    )
