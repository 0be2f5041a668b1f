"""Which run has begun which. A child's chain id is the operation of its parent that it carries out."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select

from handfast.contracts.identity import child_run_id
from handfast.ledger.entries import read_entries
from handfast.ledger.statement import Statement
from handfast.ledger.tables import runs

BY_CALL = Statement(
    select(
        runs.c.run_id, runs.c.agent, runs.c.status, runs.c.execution, runs.c.parent, runs.c.turns, runs.c.calls,
        runs.c.turns_below, runs.c.calls_below, runs.c.tokens, runs.c.cost_micros, runs.c.closed_at, runs.c.labels,
    ).where(runs.c.chain_id == bindparam("call"), runs.c.parent != "")
)  # fmt: skip


def find_child(connection: Connection, operation_id: str) -> Any:
    """The run that carries out a call; None if the call is none, or was not begun."""
    return BY_CALL.first(connection, {"call": operation_id})


def list_children(connection: Connection, run_id: str) -> Sequence[Any]:
    """The runs that a run has begun, the oldest first."""
    columns = (runs.c.run_id, runs.c.chain_id, runs.c.agent, runs.c.status, runs.c.closed_at, runs.c.limits)
    query = select(*columns).where(runs.c.parent == run_id).order_by(runs.c.requested_at, runs.c.run_id)
    return connection.execute(query).all()


def ancestors_of(connection: Connection, run_id: str) -> list[str]:
    """The runs above one, the nearest first."""
    found: list[str] = []
    while parent := connection.execute(select(runs.c.parent).where(runs.c.run_id == run_id)).scalar_one_or_none():
        found.append(str(parent))
        run_id = str(parent)
    return found


def family_of(connection: Connection, run_id: str) -> list[str]:
    """A run, those above it, and all that these have begun, near and far."""
    found = [[run_id, *ancestors_of(connection, run_id)][-1]]
    for one in found:
        found.extend(str(child.run_id) for child in list_children(connection, one))
    return found


def read_answer(connection: Connection, run_id: str) -> tuple[str, Any]:
    """The last words of a run's model, and the same as data where a type was asked for, or the plan returns it.

    A run that was handed over has the answer of the one that went on in its place.
    """
    closed = read_entries(connection, run_id, kind="closed")
    if closed and (by_call := closed[-1].meta.get("answered_by")):
        return read_answer(connection, child_run_id_of(connection, by_call))
    for entry in reversed(read_entries(connection, run_id, kind="turn")):
        if entry.content is None:
            continue
        text = "\n".join(part["text"] for part in entry.content["message"]["parts"] if part["kind"] == "text")
        if text:
            return text, entry.content.get("output")
    return "", None


def child_run_id_of(connection: Connection, operation_id: str) -> str:
    """The id of the run that carries out a call."""
    child = find_child(connection, operation_id)
    return child_run_id("", operation_id) if child is None else str(child.run_id)
