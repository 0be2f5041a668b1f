"""What became of undoing a run, as people are told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from handfast.contracts.effects import Effect, Outcome
from handfast.contracts.results import Undo
from handfast.ledger.entries import Entry, find, read_entries
from handfast.ledger.family import find_child
from handfast.ledger.tables import operations
from handfast.ledger.undone import ASKED_FOR, PIVOT, RUN, STANDS


def list_undo(connection: Connection, run_id: str) -> list[Undo]:
    """What became of what was to be undone, in the order in which that was tried; empty if nobody wanted anything undone."""
    begun = read_entries(connection, run_id, kind="undo")
    return _list(connection, run_id, begun) if begun else []


def list_standing(connection: Connection, run_id: str) -> list[Undo]:
    """What a run has done that stands, whether or not anybody wanted it undone."""
    return [one for one in _list(connection, run_id, None) if not one.undone]


def list_rolled_back(connection: Connection, run_id: str, operation_id: str) -> list[Undo] | None:
    """The same of one `roll_back`, whose operation that is; None if it named no savepoint of the run."""
    begun = find(connection, run_id, "undo", operation_id)
    return None if begun is None else _list(connection, run_id, [begun])


def _list(connection: Connection, run_id: str, entries: Sequence[Entry] | None) -> list[Undo]:
    """What became of the calls that some undoings were about; of all calls without any."""
    begun = None if entries is None else [_Begun.read(connection, entry) for entry in entries]
    whole = operations.c.undo == RUN
    effects = connection.execute(
        select(operations)
        .where(operations.c.run_id == run_id, operations.c.undoes == "", operations.c.effect.not_in([Effect.READ, ""]))
        .where(operations.c.outcome.in_([*STANDS, Outcome.COMPENSATED]) | (operations.c.undoing == "blocked") | whole)
        .order_by(operations.c.turn_seq.desc(), operations.c.idx.desc())
    ).all()
    blocked = {entry.meta["operation"]: entry for entry in read_entries(connection, run_id, kind="blocked")}
    words = {entry.meta["operation"]: entry for entry in read_entries(connection, run_id, kind="unblocked")}
    tries = select(operations.c.undoes, func.sum(operations.c.attempts)).where(operations.c.run_id == run_id)
    tried = {row[0]: int(row[1]) for row in connection.execute(tries.group_by(operations.c.undoes))}
    found: list[Undo] = []
    for row in effects:
        scopes = [] if begun is None else [one for one in begun if one.covers(row)]
        if begun is not None and not scopes:
            continue
        stands = scopes[-1].stands(row) if scopes else ""
        if row.undo == RUN:
            found.extend(_of_child(connection, row, stands))
            continue
        found.append(
            Undo(
                operation=row.operation_id,
                tool=row.tool,
                turn=row.turn,
                undone=row.outcome == Outcome.COMPENSATED,
                reason=_reason(row, blocked.get(row.operation_id), words.get(row.operation_id), stands),
                blocked=row.undoing == "blocked",
                attempts=tried.get(row.operation_id, 0),
            )
        )
    return found


def _of_child(connection: Connection, row: Any, stands: str) -> list[Undo]:
    """The same of a call that is a run of its own: what became of that run's calls."""
    child = find_child(connection, row.operation_id)
    if child is None:
        return []
    told = list_undo(connection, child.run_id) or list_standing(connection, child.run_id)
    return [
        one.model_copy(
            update={"child": one.child or child.run_id, "reason": one.reason if one.undone else stands or one.reason}
        )
        for one in told
    ]


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """One time that a run was undone, as a whole or from a call on."""

    entry: Entry
    to: Any
    """The row of the call after which everything was to be undone, if that was said."""
    pivot: Any
    """That of the call which had committed the job, if there was one."""

    @classmethod
    def read(cls, connection: Connection, entry: Entry) -> "_Begun":
        def read(name: str) -> Any:
            identity = entry.meta.get(name, "")
            return connection.execute(select(operations).where(operations.c.operation_id == identity)).one_or_none()

        return cls(entry=entry, to=read("to"), pivot=read("committed"))

    def covers(self, row: Any) -> bool:
        """Whether it was about this call."""
        only = self.entry.meta.get("only")
        if only:
            return row.operation_id in only
        return row.turn_seq < self.entry.seq and (self.to is None or _place(self.to) < _place(row))

    def stands(self, row: Any) -> str:
        """Why the call was not to be undone even so; empty if it was."""
        if self.pivot is None or (self.entry.meta["cause"] in ASKED_FOR and _place(self.pivot) < _place(row)):
            return ""
        return f"{self.pivot.tool} has committed the job"


def _place(row: Any) -> tuple[int, int]:
    return row.turn_seq, row.idx


def _reason(row: Any, blocked: Entry | None, word: Entry | None, stands: str) -> str:
    if word is not None and word.meta["action"] != "retry":
        by = word.meta["by"] or "somebody"
        said = "" if word.content is None else f": {word.content['reason']}"
        return f"left as it is by {by}{said}" if row.undoing == "skipped" else f"by hand, says {by}{said}"
    if row.outcome == Outcome.COMPENSATED:
        return ""
    if row.undo == PIVOT:
        return (
            "it commits the job"
            if row.outcome == Outcome.SUCCEEDED
            else "nobody knows whether it has committed the job"
        )
    if stands:
        return stands
    if not row.undo:
        return "nothing undoes such a call: its contract names no compensate="
    if blocked is not None:
        return "" if blocked.content is None else str(blocked.content["reason"])
    return "not tried yet"
