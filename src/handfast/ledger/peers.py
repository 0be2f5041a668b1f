"""Messages between runs: who may be written to, and what was written."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from handfast.contracts.errors import ErrorCode, RunNotFound, ToolError
from handfast.ledger.entries import NewEntry, append, find
from handfast.ledger.family import family_of
from handfast.ledger.runs import labels_of_text
from handfast.ledger.tables import runs


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A message of one run to another."""

    id: str
    """The operation that writes it."""
    sender: str
    """The run that writes."""
    to: str
    """A run's id, or the name of an agent of which one run of the sender's family goes on."""
    text: str


def post(connection: Connection, letter: Letter, peers: Collection[str]) -> tuple[str, int]:
    """Write a message down for another run, once; that run, and the number of the entry.

    Only runs of the agents `peers` are written to: those of the sender's family, and by their id others of its tenant.

    Raises:
        ToolError: There is no such run, or more than one, or it is over.
    """
    sender = connection.execute(select(runs).where(runs.c.run_id == letter.sender)).one_or_none()
    if sender is None:
        raise RunNotFound(f"the ledger has no run {letter.sender!r}")
    to = _find(connection, letter, peers, sender.tenant)
    found = find(connection, to, "said", letter.id)
    if found is not None:
        return to, found.seq
    meta: dict[str, Any] = {"from": letter.sender, "agent": sender.agent}
    if sender.labels:
        meta["labels"] = labels_of_text(sender.labels).within(sender.agent).model_dump(exclude_defaults=True)
    [anchor] = append(connection, to, [NewEntry(kind="said", ref=letter.id, meta=meta, content={"text": letter.text})])
    return to, anchor[0]


def _find(connection: Connection, letter: Letter, peers: Collection[str], tenant: str) -> str:
    columns = (runs.c.run_id, runs.c.agent, runs.c.closed_at)
    family = [one for one in family_of(connection, letter.sender) if one != letter.sender]
    known = connection.execute(
        select(*columns).where(
            runs.c.tenant == tenant,
            runs.c.agent.in_(sorted(peers)),
            runs.c.run_id.in_([*family, letter.to]),
            runs.c.run_id != letter.sender,
        )
    ).all()
    named = [row for row in known if letter.to in {row.run_id, row.agent}]
    there = [row for row in named if row.closed_at is None]
    if len(there) == 1:
        return str(there[0].run_id)
    others = ", ".join(f"{row.agent} ({row.run_id})" for row in known if row.closed_at is None) or "nobody"
    if there:
        msg = f"{len(there)} runs of {letter.to!r} go on: name one by its id"
    elif named:
        msg = f"{letter.to!r} has ended, and reads nothing any more"
    else:
        msg = f"there is no run of {letter.to!r} that may be written to"
    # One that is yet to be begun may be there soon.
    raise ToolError(
        msg,
        code=ErrorCode.UNAVAILABLE if not named else ErrorCode.INVALID_ARGUMENTS,
        hint=f"those who read now: {others}",
        retryable=not named and letter.to in peers,
        happened="no",
    )
