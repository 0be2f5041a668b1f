"""Why something failed, in the words that Temporal does not get: written down here, and found again by its entry's number."""

from dataclasses import dataclass

from sqlalchemy import Connection

from handfast.ledger.entries import AT, NewEntry, append, entry_of, find

FAILED = "failed"
"""The kind of these entries."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One failed attempt of an activity."""

    ref: str
    """Of this attempt, within the run."""
    activity: str
    attempt: int
    code: str
    message: str


def record_failure(connection: Connection, run_id: str, failure: Failure) -> int:
    """Write down what an error said, once for each attempt; the number of the entry.

    Raises:
        RunNotFound: There is no such run.
    """
    found = find(connection, run_id, FAILED, failure.ref)
    if found is not None:
        return found.seq
    meta = {"activity": failure.activity, "attempt": failure.attempt, "code": failure.code}
    entry = NewEntry(kind=FAILED, ref=failure.ref, meta=meta, content={"message": failure.message})
    [anchor] = append(connection, run_id, [entry])
    return anchor[0]


def reason_at(connection: Connection, run_id: str, seq: int) -> str:
    """What an entry says of why something failed: an error's message, or what a plan's turn notes; empty once erased."""
    row = AT.first(connection, {"run": run_id, "seq": seq})
    entry = None if row is None else entry_of(row)
    if entry is None or entry.content is None:
        return ""
    if entry.kind == "turn":
        return "; ".join(entry.content.get("heard", ()))
    return str(entry.content.get("message", "")) if entry.kind == FAILED else ""
