"""Reserve, settle and settle a turn on PostgreSQL: one statement each, so one way there and back instead of seven.

A statement does what `operations.reserve`, `operations.settle` and `turns.settle_turn` do where nothing stands in the way. Where
anything does, it changes nothing and has no row: then those take the long way and find out what it is. The chain's
hash is made by the database, since only it knows the entry before.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import asyncpg

from handfast.contracts.identity import canonical_json
from handfast.ledger.chain import entry_frame
from handfast.ledger.entries import NewEntry, row_of
from handfast.ledger.late import Settlement
from handfast.ledger.operations import reserved_entry, settled_entry
from handfast.ledger.statement import DriverCall
from handfast.ledger.turns import ASKED, NewTurn, added_by, operation_rows, turn_entry

DIALECT = asyncpg.dialect()  # type: ignore[no-untyped-call]


class AtOnce:
    """A statement that appends one entry to a run's chain, and changes what belongs to it.

    Args:
        found: What has to be so: the tables and the condition of a query whose rows are locked, `runs` as the last one.
        change: What else is written. It reads `new`, which has one row with the entry's `seq`, or none.
        counts: Further columns of the run.
    """

    def __init__(self, found: str, change: str, counts: str = "") -> None:
        self._sql = f"""
            WITH found AS MATERIALIZED (
                SELECT runs.head_seq + 1 AS seq, runs.head_hash AS previous FROM {found} FOR UPDATE
            ), new AS (
                SELECT seq, encode(sha256(convert_to(
                    '["' || previous || CAST(:before AS text) || seq || CAST(:after AS text), 'UTF8')), 'hex') AS hash
                FROM found
            ), change AS (
                {change}
            ), entry AS (
                INSERT INTO entries (run_id, seq, kind, ref, at, meta, salt, body, content_hash, hash)
                SELECT CAST(:run_id AS varchar), seq, CAST(:kind AS varchar), CAST(:ref AS varchar), CAST(:at AS bigint),
                    CAST(:meta AS text), CAST(:salt AS varchar), CAST(:body AS text), CAST(:content_hash AS varchar), hash
                FROM new
            )
            UPDATE runs SET head_seq = new.seq, head_hash = new.hash {counts}
            FROM new WHERE runs.run_id = CAST(:run_id AS varchar)
            RETURNING new.seq, new.hash"""  # noqa: S608 - made of constants of this module

    def call(self, run_id: str, entry: NewEntry, values: Mapping[str, Any]) -> DriverCall:
        """The statement with this entry and these values."""
        row = row_of(run_id, entry)
        before, after = entry_frame(run_id, row["kind"], row["ref"], row["at"], row["meta"], row["content_hash"])
        sql, names = self._compiled
        given = {**row, "before": before, "after": after, **values}
        return DriverCall(sql=sql, values=tuple(given[name] for name in names))

    @cached_property
    def _compiled(self) -> tuple[str, tuple[str, ...]]:
        compiled = text(self._sql).compile(dialect=DIALECT)
        return str(compiled), tuple(compiled.positiontup or ())


OPERATION = """operations JOIN runs ON runs.run_id = operations.run_id
    WHERE operations.operation_id = :operation AND operations.run_id = CAST(:run_id AS varchar)"""

RESERVE = AtOnce(
    f"""{OPERATION} AND operations.attempts = CAST(:seen AS integer) AND operations.owner <> CAST(:owner AS varchar)
        AND operations.state IN ('asked', 'reserved')""",
    """UPDATE operations SET state = 'reserved', attempts = attempts + 1, owner = CAST(:owner AS varchar),
        lease_until = CAST(:until AS bigint)
        FROM new WHERE operation_id = :operation""",
)
SETTLE = AtOnce(
    f"""{OPERATION} AND operations.owner = CAST(:owner AS varchar) AND operations.tool = :tool AND operations.undoes = ''
        AND operations.state IN ('asked', 'reserved')""",
    """UPDATE operations SET state = 'settled', outcome = :outcome, settled_seq = new.seq, settled_at = CAST(:at AS bigint)
        FROM new WHERE operation_id = :operation""",
)
OTHERS = [name for name in ASKED if name != "turn_seq"]
SETTLE_TURN = AtOnce(
    """runs WHERE runs.run_id = CAST(:run_id AS varchar) AND runs.branches = '[]' AND NOT EXISTS (
        SELECT FROM entries AS earlier
        WHERE earlier.run_id = CAST(:run_id AS varchar) AND earlier.kind = 'turn' AND earlier.ref = CAST(:ref AS varchar))""",
    f"""INSERT INTO operations ({", ".join(OTHERS)}, turn_seq) SELECT {", ".join(f"asked.{name}" for name in OTHERS)}, new.seq
        FROM new, json_populate_recordset(CAST(NULL AS operations), CAST(:asked AS json)) AS asked""",  # noqa: S608 - the same
    """, turns = turns + 1, calls = calls + CAST(:more_calls AS integer), tokens = tokens + CAST(:more_tokens AS bigint),
        cost_micros = cost_micros + CAST(:more_cost AS bigint), labels = CAST(:labels AS text)""",
)


def reserve(
    run_id: str, operation_id: str, owner: str, lease_until: int, tool_version: str, *, seen: int
) -> DriverCall:
    """`operations.reserve`, for a tool that nothing holds back."""
    entry = reserved_entry(operation_id, seen + 1, lease_until, tool_version)
    return RESERVE.call(run_id, entry, {"operation": operation_id, "owner": owner, "seen": seen, "until": lease_until})


def settle(run_id: str, operation_id: str, owner: str, new: Settlement, tool: str) -> DriverCall | None:
    """`operations.settle`, of a tool that is known and a call that changes no kept results."""
    if new.invalidates or not tool:
        return None
    values = {"operation": operation_id, "owner": owner, "tool": tool, "outcome": new.outcome.value}
    return SETTLE.call(run_id, settled_entry(operation_id, tool, new), values)


def settle_turn(run_id: str, new: NewTurn) -> DriverCall | None:
    """`turns.settle_turn`, on the first branch, with no calls that are settled with it and no budget."""
    if new.branches or new.budgets or any(asked.outcome is not None or asked.taken_over for asked in new.calls):
        return None
    rows = operation_rows(run_id, new, [(0, "")])
    return SETTLE_TURN.call(run_id, turn_entry(new), {"asked": canonical_json(rows), **added_by(new)})
