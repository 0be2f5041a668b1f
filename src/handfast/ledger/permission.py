"""What becomes of permission once it was asked for: words that don't count, approvals that no longer do, a policy that changes."""

import hashlib
import json
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, update

from handfast.contracts.authority import Word
from handfast.contracts.effects import Outcome, Tier, Verdict
from handfast.contracts.grants import read_grant
from handfast.contracts.wire import CallResult
from handfast.ledger.decisions import Judge, asked_of, decided_by, decision_ref, refs_of, row_of_call
from handfast.ledger.entries import NewEntry, append, find
from handfast.ledger.keys import list_keys
from handfast.ledger.late import Settlement
from handfast.ledger.operations import OperationMoved, settle
from handfast.ledger.tables import entries, operations

MOST_REFUSED = 20
"""Words on one call that are kept although they don't count. Further ones are only logged."""


def record_refused(connection: Connection, run_id: str, operation_id: str, word: Word, why: str) -> None:
    """Keep that somebody has said a word on a call that does not count."""
    row = connection.execute(select(operations.c.run_id).where(operations.c.operation_id == operation_id)).first()
    if row is None or row.run_id != run_id:
        return
    said = hashlib.sha256(f"{word.grant} {word.said} {why}".encode()).hexdigest()[:8]
    ref = f"{operation_id}#{said}"
    before = refs_of(connection, run_id, "refused", operation_id)
    if ref in before or len(before) >= MOST_REFUSED:
        return
    meta = {"word": word.said, "claimed": word.by[:200], "why": why[:300]}
    append(connection, run_id, [NewEntry(kind="refused", ref=ref, meta=meta)])


def check_granted(connection: Connection, run_id: str, operation_id: str, judge: Judge) -> str:
    """Why the grants of an approved call don't count any more; empty if they do. Asked right before the effect."""
    row = row_of_call(connection, run_id, operation_id)
    entry = find(connection, run_id, "decided", decision_ref(connection, run_id, operation_id))
    if entry is None:
        return "nobody has approved it"
    content: dict[str, Any] = entry.content or {}
    grants: list[str] | None = content.get("grants")
    if grants is None:
        # Approved before there were grants.
        return "" if row.tier != Tier.PRIVILEGED else "it was approved without a grant"
    asked, known = asked_of(connection, row), list_keys(connection)
    by: set[str] = set()
    for grant in grants:
        judged = judge(asked, Word(grant=grant, said="approve"), known)
        if judged.fault:
            return judged.fault
        by.add(judged.by)
        if len(by) >= judged.needed:
            return ""
    return "another person must agree, too"


def withdraw(connection: Connection, run_id: str, operation_id: str, why: str) -> None:
    """Let a call that was approved wait again: the approval does not count any more, and nothing was done by it."""
    row = row_of_call(connection, run_id, operation_id)
    if not row.approved or row.attempts or row.state != "asked":
        return
    ref = f"{operation_id}#{len(refs_of(connection, run_id, 'withdrawn', operation_id)) + 1}"
    append(connection, run_id, [NewEntry(kind="withdrawn", ref=ref, meta={"why": why[:300], "tool": row.tool})])
    connection.execute(
        update(operations)
        .where(operations.c.operation_id == operation_id)
        .values(state="waiting", approved=0, reason=why[:300])
    )


def deny(
    connection: Connection, run_id: str, operation_id: str, rule: str, content: dict[str, Any], *, policy: int = 0
) -> CallResult:
    """Refuse a call that was asked for and has not begun: by what that version of the policy says now.

    Raises:
        OperationMoved: It has begun, or has ended.
    """
    row = row_of_call(connection, run_id, operation_id)
    if row.state not in {"asked", "waiting"} or row.attempts:
        raise OperationMoved(f"operation {operation_id!r} is {row.state} after {row.attempts} attempts")
    connection.execute(update(operations).where(operations.c.operation_id == operation_id).values(reason=rule[:300]))
    new = Settlement(outcome=Outcome.DENIED, content=content, meta=decided_by(rule, policy))
    return settle(connection, run_id, operation_id, "", new).result


def release_waiting(
    connection: Connection, run_id: str, operation_id: str, rule: str, *, policy: int = 0
) -> CallResult:
    """Let a call run that waits for a person, because by what the policy says now it need not."""
    row = row_of_call(connection, run_id, operation_id)
    if row.state == "waiting":
        meta = {**decided_by(rule, policy), "tool": row.tool}
        ref = f"{operation_id}#{len(refs_of(connection, run_id, 'unheld', operation_id)) + 1}"
        append(connection, run_id, [NewEntry(kind="unheld", ref=ref, meta=meta)])
        connection.execute(
            update(operations)
            .where(operations.c.operation_id == operation_id)
            .values(state="asked", verdict=Verdict.RUN, reason=rule[:300])
        )
    return CallResult()


class Remembered(NamedTuple):
    """An approval that counts for later calls of the tool in its run."""

    tool: str
    conditions: str
    """On the arguments, as the grant has them."""
    by: str
    operation_id: str
    """The call that was decided on."""


def list_remembered(connection: Connection, run_id: str, judge: Judge) -> list[Remembered]:
    """The approvals of a run that are remembered and still count, oldest first."""
    query = (
        select(entries.c.ref, entries.c.body)
        .where(entries.c.run_id == run_id, entries.c.kind == "decided", entries.c.meta.contains('"remember":true'))
        .order_by(entries.c.seq)
    )
    known = list_keys(connection)
    found: list[Remembered] = []
    for ref, body in connection.execute(query).all():
        row = row_of_call(connection, run_id, ref.partition("#")[0])
        for grant in json.loads(body)["grants"]:
            judged = judge(asked_of(connection, row), Word(grant=grant, said="approve"), known)
            conditions = read_grant(grant).remember
            if not judged.fault and conditions is not None:
                found.append(Remembered(row.tool, conditions, judged.by, row.operation_id))
    return found
