"""Appending to a run's chain and reading it back."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from handfast.contracts.errors import LedgerConflict, RunNotFound
from handfast.contracts.identity import canonical_json
from handfast.contracts.wire_model import Anchor
from handfast.ledger.chain import ANCHOR_CHARACTERS, content_hash, entry_hash, new_salt
from handfast.ledger.statement import Statement
from handfast.ledger.tables import entries, runs


@dataclass(frozen=True, kw_only=True)
class NewEntry:
    """Something to append."""

    kind: str
    ref: str
    """Unique within the run and the kind: what makes an append idempotent."""
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What may stay when contents are erased."""
    content: Any = None
    """What is erased on demand: texts, arguments, results."""


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def moment(ms: int) -> datetime:
    """The UTC time behind a column."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def row_of(run_id: str, entry: NewEntry) -> dict[str, Any]:
    """An entry as a row, but for its number and its hash."""
    body = None if entry.content is None else canonical_json(entry.content)
    salt = None if body is None else new_salt()
    return {
        "run_id": run_id,
        "kind": entry.kind,
        "ref": entry.ref,
        "at": now_ms(),
        "meta": canonical_json(dict(entry.meta)),
        "salt": salt,
        "body": body,
        "content_hash": "" if body is None or salt is None else content_hash(salt, body),
    }


HEAD = Statement(
    select(runs.c.head_seq, runs.c.head_hash, runs.c.branches).where(runs.c.run_id == bindparam("id")).with_for_update()
)
INSERT = Statement(insert(entries), columns=[column.name for column in entries.c])
NEW_HEAD = (
    update(runs).where(runs.c.run_id == bindparam("id")).values(head_seq=bindparam("seq"), head_hash=bindparam("hash"))
)
UPDATE_HEAD = Statement(NEW_HEAD)


def append(
    connection: Connection,
    run_id: str,
    new: Sequence[NewEntry],
    change: Statement = UPDATE_HEAD,
    *,
    branches: Sequence[int] | None = None,
    **values: Any,
) -> list[Anchor]:
    """Append to the run's chain and update its row, after every other row is locked: here the run's row is.

    `change` is `NEW_HEAD` with further columns, and `values` are its parameters.

    Raises:
        RunNotFound: There is no such run.
        LedgerConflict: `branches` is given, and the run has branched since they were read.
    """
    head = HEAD.first(connection, {"id": run_id})
    if head is None:
        raise RunNotFound(f"the ledger has no run {run_id!r}")
    if branches is not None and json.loads(head.branches) != list(branches):
        raise LedgerConflict(f"run {run_id!r} was reset since: what the branch left behind thinks is not written down")
    seq, previous = head.head_seq, head.head_hash
    rows: list[dict[str, Any]] = []
    for entry in new:
        seq += 1
        row = row_of(run_id, entry)
        previous = entry_hash(
            previous, run_id, seq, row["kind"], row["ref"], row["at"], row["meta"], row["content_hash"]
        )
        rows.append({**row, "seq": seq, "hash": previous})
    INSERT.run_many(connection, rows)
    change.run(connection, {"id": run_id, "seq": seq, "hash": previous, **values})
    return [(row["seq"], row["hash"][:ANCHOR_CHARACTERS]) for row in rows]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry as it stands in the ledger."""

    seq: int
    kind: str
    ref: str
    at: int
    meta: dict[str, Any]
    content: Any
    anchor: Anchor


COLUMNS = (
    entries.c.seq, entries.c.kind, entries.c.ref, entries.c.at, entries.c.meta, entries.c.body, entries.c.hash,
)  # fmt: skip
BY_REF = Statement(
    select(*COLUMNS).where(
        entries.c.run_id == bindparam("run"), entries.c.kind == bindparam("kind"), entries.c.ref == bindparam("ref")
    )
)


def entry_of(row: Any) -> Entry:
    """An entry from a row of `COLUMNS`."""
    return Entry(
        seq=row.seq,
        kind=row.kind,
        ref=row.ref,
        at=row.at,
        meta=json.loads(row.meta),
        content=None if row.body is None else json.loads(row.body),
        anchor=(row.seq, row.hash[:ANCHOR_CHARACTERS]),
    )


def find(connection: Connection, run_id: str, kind: str, ref: str) -> Entry | None:
    """The entry of that kind and reference, if there is one."""
    row = BY_REF.first(connection, {"run": run_id, "kind": kind, "ref": ref})
    return None if row is None else entry_of(row)


AT = Statement(select(*COLUMNS).where(entries.c.run_id == bindparam("run"), entries.c.seq == bindparam("seq")))


def entry_at(connection: Connection, run_id: str, seq: int) -> Entry:
    """The entry of that number, which is there."""
    return entry_of(AT.one(connection, {"run": run_id, "seq": seq}))


def anchor_at(connection: Connection, run_id: str, seq: int) -> Anchor:
    """Its anchor."""
    return entry_at(connection, run_id, seq).anchor


def read_entries(connection: Connection, run_id: str, *, after: int = 0, kind: str | None = None) -> list[Entry]:
    """The run's entries behind `after`, oldest first."""
    query = select(*COLUMNS).where(entries.c.run_id == run_id, entries.c.seq > after).order_by(entries.c.seq)
    if kind is not None:
        query = query.where(entries.c.kind == kind)
    return [entry_of(row) for row in connection.execute(query)]
