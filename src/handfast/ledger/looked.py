"""What stands in the ledger about a call when an attempt of it looks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from sqlalchemy import Connection, and_, bindparam, select

from handfast.contracts.arguments import StoredArguments
from handfast.contracts.called_from import NOWHERE, CalledFrom
from handfast.contracts.effects import Outcome, Verdict
from handfast.contracts.errors import LedgerConflict
from handfast.contracts.parts import FieldPath, Step
from handfast.contracts.wire import CallInput, CallResult
from handfast.ledger.entries import anchor_at, entry_at, find
from handfast.ledger.runs import labels_of_text
from handfast.ledger.statement import Statement
from handfast.ledger.tables import entries, operations, runs


class State(Enum):
    """What an attempt finds when it looks up its operation."""

    FREE = auto()
    """No attempt is known, or the last one surely had no effect."""
    RESERVED = auto()
    """An earlier attempt reserved and never settled: nobody knows what became of it."""
    WAITING = auto()
    """It needs an approval that is not there."""
    PENDING = auto()
    """An attempt has begun work that goes on elsewhere."""
    SETTLED = auto()


@dataclass(frozen=True, kw_only=True)
class Looked:
    """An operation as an attempt finds it."""

    state: State
    tool: str
    version: str
    arguments: dict[str, Any]
    """As its contract has them."""
    defaulted: tuple[FieldPath, ...] = ()
    """The fields of them that defaults have filled in."""
    verdict: Verdict
    """What the gate said when the turn was settled."""
    approved: bool
    reason: str = ""
    """Why it waits, or what decided on it."""
    changed: bool = False
    """Its arguments are not those that the model wrote: a rule has changed them."""
    agent: str
    user: str
    tenant: str
    attempts: int
    """Reservations so far."""
    lease_until: int
    checkpoint: Any
    """What an earlier attempt left to go on from."""
    sent: int
    """How many unsafe requests were sent before that."""
    began_at: int = 0
    """When its first attempt was reserved, of a call in doubt whose key may be forgotten by now."""
    reference: str = ""
    """The other side's name for work that goes on there."""
    receipt: bool = False
    """The model has a receipt for that work, and hears of its end in a later turn."""
    undoes: str = ""
    """The operation that it undoes; empty for a call."""
    parent: str = ""
    """The run that has begun the call's run."""
    untrusted: bool = False
    """Somebody else's words are in its run."""
    called_from: CalledFrom = NOWHERE
    """From where its run was asked for."""
    settled: CallResult | None = None
    judged_at: float = 0.0
    """When this process has judged it, by the monotonic clock; 0 if another one may have."""
    judged_by: int = 0
    """The version of the installation's policy that it went by."""


class NotAskedFor(LedgerConflict):
    """No settled turn of this run asked for exactly this call."""


LOOK = Statement(
    select(
        operations,
        entries.c.body,
        runs.c.agent,
        runs.c.user,
        runs.c.tenant,
        runs.c.parent,
        runs.c.labels,
        runs.c.called_from,
    )
    .select_from(
        operations.join(
            entries, and_(entries.c.run_id == operations.c.run_id, entries.c.seq == operations.c.turn_seq)
        ).join(runs, runs.c.run_id == operations.c.run_id)
    )
    .where(operations.c.operation_id == bindparam("id"), operations.c.run_id == bindparam("run"))
)


def look_up(connection: Connection, run_id: str, call: CallInput) -> Looked:
    """What stands in the ledger about a call.

    Raises:
        NotAskedFor: No settled turn of this run asked for exactly this: operation, turn, index and digest.
    """
    row = LOOK.first(connection, {"id": call.id, "run": run_id})
    if row is None or (row.turn, row.idx, row.digest) != (call.turn, call.index, call.digest):
        raise NotAskedFor(f"no settled turn of run {run_id!r} asked for operation {call.id!r} with this digest")
    settled = None
    if row.state == "settled":
        settled = CallResult(
            outcome=Outcome(row.outcome),
            anchor=anchor_at(connection, run_id, row.settled_seq),
            background=row.receipt_seq is not None,
        )
    checkpoint, sent = None, 0
    if row.checkpoint_seq is not None:
        kept = entry_at(connection, run_id, row.checkpoint_seq)
        checkpoint, sent = kept.content, int(kept.meta.get("sent", 0))
    arguments = arguments_of(row.body, row.idx)
    states = {
        "settled": State.SETTLED,
        "waiting": State.WAITING,
        "reserved": State.RESERVED,
        "asked": State.FREE,
        "pending": State.PENDING,
    }
    return Looked(
        state=states[row.state],
        tool=row.tool,
        version=row.version,
        arguments=arguments.stored,
        defaulted=arguments.defaulted,
        verdict=Verdict(row.verdict),
        approved=bool(row.approved),
        reason=row.reason,
        changed=arguments.changed,
        agent=row.agent,
        user=row.user,
        tenant=row.tenant,
        attempts=row.attempts,
        lease_until=row.lease_until,
        checkpoint=checkpoint,
        sent=sent,
        began_at=_began_at(connection, run_id, row) if row.state == "reserved" else 0,
        reference=_reference(connection, run_id, row) if row.state == "pending" else "",
        receipt=row.receipt_seq is not None,
        undoes=row.undoes,
        parent=row.parent,
        untrusted=bool(labels_of_text(row.labels).untrusted),
        called_from=CalledFrom.of_text(row.called_from),
        settled=settled,
    )


def _began_at(connection: Connection, run_id: str, row: Any) -> int:
    first = find(connection, run_id, "reserved", f"{row.operation_id}#1")
    return 0 if first is None else first.at


def _reference(connection: Connection, run_id: str, row: Any) -> str:
    begun = find(connection, run_id, "pending", row.operation_id)
    return "" if begun is None or begun.content is None else str(begun.content["reference"])


ASKED_IN = and_(entries.c.run_id == operations.c.run_id, entries.c.seq == operations.c.turn_seq)
"""Joins an operation with the turn that asked for it."""


def arguments_of(body: str | None, index: int) -> StoredArguments:
    """The arguments of a call, from the turn that asked for it; empty once erased."""
    if body is None:
        return StoredArguments({})
    turn = json.loads(body)
    changed = index in turn.get("changed", ())
    if (written := turn.get("arguments", {}).get(str(index))) is not None:
        paths: Sequence[Sequence[Step]] = written.get("defaulted", ())
        return StoredArguments(written["stored"], tuple(tuple(path) for path in paths), changed)
    parts = turn["message"]["parts"]
    calls = [part for part in parts if part["kind"] == "tool_call"]
    return StoredArguments(dict(calls[index]["arguments"]), changed=changed)
