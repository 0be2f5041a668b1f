"""Does the ledger still say what was written? Recomputes every hash and compares the look-up tables with the chain."""

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, select

from handfast.contracts.identity import digest
from handfast.contracts.messages import Frozen
from handfast.contracts.wire_model import Anchor
from handfast.ledger.chain import ANCHOR_CHARACTERS, content_hash, entry_hash
from handfast.ledger.looked import arguments_of
from handfast.ledger.tables import entries, operations, runs


class Verification(Frozen):
    """What `verify_run` found in one run."""

    run_id: str
    entries: int
    erased: int
    """Entries whose content was erased on demand."""
    anchors: int = 0
    """Entries that were compared with Temporal's history."""
    faults: tuple[str, ...] = ()


def verify_run(connection: Connection, run_id: str) -> Verification:
    """Check one run's chain, contents, head and operations; each fault names the row."""
    rows = list(connection.execute(select(entries).where(entries.c.run_id == run_id).order_by(entries.c.seq)))
    faults = [
        *_chain_faults(run_id, rows),
        *_head_faults(connection, run_id, rows),
        *_operation_faults(connection, run_id, rows),
    ]
    erased = sum(1 for row in rows if row.content_hash and row.body is None)
    return Verification(run_id=run_id, entries=len(rows), erased=erased, faults=tuple(faults))


def anchor_faults(connection: Connection, run_id: str, anchors: list[Anchor]) -> list[str]:
    """Compare the anchors that Temporal's history holds with the chain."""
    query = select(entries.c.seq, entries.c.hash).where(entries.c.run_id == run_id)
    hashes = {row.seq: row.hash[:ANCHOR_CHARACTERS] for row in connection.execute(query)}
    return [
        f"entry {seq}: Temporal's history holds hash {expected}, the ledger {hashes.get(seq, 'no such entry')}"
        for seq, expected in anchors
        if hashes.get(seq) != expected
    ]


def _chain_faults(run_id: str, rows: list[Row[Any]]) -> Iterator[str]:
    previous, expected = "", 1
    erased_up_to = max((row.seq for row in rows if row.kind == "erased"), default=0)
    for row in rows:
        where = f"entry {row.seq} ({row.kind} {row.ref})".replace(" )", ")")
        if row.seq != expected:
            yield f"entry {expected} is missing: the next one is {row.seq}"
        if row.body is not None and content_hash(row.salt or "", row.body) != row.content_hash:
            yield f"{where}: its content was changed"
        if row.body is None and row.content_hash and row.seq > erased_up_to:
            yield f"{where}: its content was removed, and not by `handfast ledger erase`"
        computed = entry_hash(previous, run_id, row.seq, row.kind, row.ref, row.at, row.meta, row.content_hash)
        if computed != row.hash:
            yield f"{where}: its hash does not follow from it and its predecessor: it was edited, or entries were reordered"
        previous, expected = row.hash, row.seq + 1


def _head_faults(connection: Connection, run_id: str, rows: list[Row[Any]]) -> Iterator[str]:
    run = connection.execute(select(runs).where(runs.c.run_id == run_id)).one()
    last = (rows[-1].seq, rows[-1].hash) if rows else (0, "")
    if (run.head_seq, run.head_hash) != last:
        yield f"run row: its head is entry {run.head_seq}, the last entry is {last[0]}: entries were added or removed at the end"
    ends = [row for row in rows if row.kind in {"closed", "branch"}]
    closed = json.loads(ends[-1].meta)["status"] if ends and ends[-1].kind == "closed" else None
    begun = [json.loads(row.meta)["turn"] for row in rows if row.kind == "branch"]
    if begun != json.loads(run.branches):
        yield f"run row: its branches begin at turns {run.branches}, the chain says {begun}"
    if closed is not None and closed != run.status:
        yield f"run row: its status is {run.status!r}, the chain says {closed!r}"
    requested = next((json.loads(row.meta) for row in rows if row.kind == "requested"), None)
    told = next((row.body for row in rows if row.kind == "requested"), None)
    if told is not None and json.loads(told).get("called_from", "") != run.called_from:
        yield "run row: where it was asked for from differs from what the chain says"
    row = {"agent": run.agent, "user": run.user, "tenant": run.tenant}
    if requested is not None and {name: requested.get(name) for name in row} != row:
        yield "run row: agent, user or tenant differ from what the chain says"


def _operation_faults(connection: Connection, run_id: str, rows: list[Row[Any]]) -> Iterator[str]:
    by_seq = {row.seq: row for row in rows}
    reservations: dict[str, int] = {}
    settled: dict[str, Row[Any]] = {}
    for row in rows:
        if row.kind == "reserved":
            operation_id = row.ref.split("#")[0]
            reservations[operation_id] = reservations.get(operation_id, 0) + 1
        if row.kind in {"settled", "resolved", "undone"}:
            settled[row.ref.split("#")[0]] = row
    known: set[str] = set()
    for operation in connection.execute(select(operations).where(operations.c.run_id == run_id)):
        known.add(operation.operation_id)
        where = f"operation {operation.operation_id} ({operation.tool})"
        entry = settled.get(operation.operation_id)
        outcome = json.loads(entry.meta)["outcome"] if entry is not None else None
        if outcome != operation.outcome:
            yield f"{where}: its outcome is {operation.outcome}, the chain says {outcome}"
        if operation.attempts != reservations.get(operation.operation_id, 0):
            yield f"{where}: it counts {operation.attempts} attempts, the chain {reservations.get(operation.operation_id, 0)}"
        turn = by_seq.get(operation.turn_seq)
        if turn is None:
            yield f"{where}: the turn that asked for it (entry {operation.turn_seq}) is missing"
        elif turn.body is not None and _digest(turn, operation) != operation.digest:
            yield f"{where}: its digest is not that of the call in entry {operation.turn_seq}"
    for operation_id in sorted(settled.keys() - known):
        yield f"operation {operation_id}: the chain settles it, but its row is missing"


def _digest(turn: Row[Any], operation: Row[Any]) -> str | None:
    told = json.loads(turn.body)
    calls = [part for part in told["message"]["parts"] if part["kind"] == "tool_call"]
    if operation.idx >= len(calls):
        return None
    major = int(operation.version.split(".")[0]) if operation.version else 0
    return digest(calls[operation.idx]["tool"], major, arguments_of(turn.body, operation.idx).stored)
