"""Words that come late, from attempts that were given up: what was found out, and whether it speaks against what stands."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from handfast.contracts.effects import Effect, Outcome
from handfast.contracts.results import Notice
from handfast.ledger.entries import NewEntry, append, entry_at, find
from handfast.ledger.notices import record_notice
from handfast.ledger.undone import stands_again

RECONCILE = "reconcile"
"""The owner of a settlement that was looked up, not carried out."""
OUTSIDE = "outside"
"""The owner of a settlement that is the other side's word: posted by it, or asked of it."""


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What an attempt found out."""

    outcome: Outcome
    content: Any
    """The result, or the error for the model."""
    meta: dict[str, Any]
    acted: bool = True
    """Of an UNKNOWN outcome: this attempt may itself have had an effect."""
    invalidates: tuple[str, ...] = ()
    """Names of kept results that are no longer true if it happened, or may have."""


def is_news(connection: Connection, run_id: str, row: Any, owner: str, late: Settlement) -> bool:
    """Whether a late word matters: the settlement says otherwise, or two attempts may have had an effect each."""
    if late.outcome not in {Outcome.SUCCEEDED, Outcome.UNKNOWN} or row.outcome == late.outcome == Outcome.UNKNOWN:
        return False
    undone = row.outcome == Outcome.COMPENSATED
    if undone and entry_at(connection, run_id, row.settled_seq).meta["outcome"] != Outcome.SUCCEEDED:
        # It was undone although nobody knew whether it had happened: this attempt may have acted since.
        return late.outcome is Outcome.SUCCEEDED or late.acted
    if late.outcome is Outcome.UNKNOWN and (Effect(row.effect).repeatable or not late.acted):
        return False
    if row.state != "settled":
        return not Effect(row.effect).repeatable and row.owner != owner
    if row.outcome != Outcome.SUCCEEDED and not undone:
        return True
    if Effect(row.effect).repeatable or owner in {row.owner, RECONCILE, OUTSIDE}:
        return False
    if row.owner in {RECONCILE, OUTSIDE}:
        # What was found may be this attempt's own effect, unless another one has tried since.
        return bool(row.attempts > late.meta.get("attempt", row.attempts))
    return late.outcome is Outcome.UNKNOWN or bool(
        entry_at(connection, run_id, row.settled_seq).content != late.content
    )


def keep_evidence(
    connection: Connection, run_id: str, operation_id: str, row: Any, owner: str, new: Settlement
) -> None:
    """Write a late word beside what stands, and tell the owner. A call that was undone is in doubt again."""
    ref = f"{operation_id}#{owner[:8]}"
    if find(connection, run_id, "late", ref) is not None:
        return
    append(connection, run_id, [NewEntry(kind="late", ref=ref, meta={"outcome": new.outcome}, content=new.content)])
    word = "reports that it happened" if new.outcome is Outcome.SUCCEEDED else "may have acted"
    text = (
        f"{row.tool} in run {run_id}: an attempt that was given up {word}, and another word on the call stands "
        f"({row.outcome or 'a newer attempt is under way'}). Look how often it happened"
    )
    record_notice(connection, Notice(kind="late_effect", subject=operation_id, text=text))
    if row.outcome == Outcome.COMPENSATED:
        stands_again(connection, run_id, operation_id)
