"""A person's word on an operation: approval, rejection, and what became of a call whose outcome is UNKNOWN."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from handfast.contracts.authority import Asked, Word, word_of
from handfast.contracts.effects import Outcome, Tier
from handfast.contracts.errors import DecisionRefused, ErrorCode
from handfast.contracts.grants import Approver
from handfast.contracts.wire import CallResult
from handfast.contracts.wire_words import Decision, Resolution
from handfast.ledger.entries import NewEntry, append, entry_at, find, now_ms
from handfast.ledger.keys import list_keys
from handfast.ledger.late import Settlement
from handfast.ledger.operations import settle
from handfast.ledger.tables import entries, operations, runs


def decided_by(rule: str, policy: int) -> dict[str, Any]:
    """What an entry says of a decision: the rule, its reason, and the version of the installation's policy, if there was one."""
    return {**({"rule": rule[:300]} if rule else {}), **({"policy": policy} if policy else {})}


def hold(connection: Connection, run_id: str, operation_id: str, reason: str = "", *, policy: int = 0) -> None:
    """Make an operation wait for a person that was free to run when its turn was settled, and is not any more."""
    row = row_of_call(connection, run_id, operation_id)
    if row.state != "asked" or row.attempts:
        return
    before = len(refs_of(connection, run_id, "held", operation_id, sign=""))
    values = {"state": "waiting", **({"reason": reason} if reason else {})}
    connection.execute(update(operations).where(operations.c.operation_id == operation_id).values(**values))
    ref = f"{operation_id}#{before + 1}" if before else operation_id
    append(connection, run_id, [NewEntry(kind="held", ref=ref, meta={"tool": row.tool, **decided_by(reason, policy)})])


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a grant is worth."""

    by: str = ""
    """Who has signed it."""
    key: str = ""
    fault: str = ""
    """Why it does not count; empty if it does."""
    needed: int = 1
    """How many people must agree to the call."""


Wanted = Callable[[Connection, str, Any, str], dict[str, Any]]
"""What the model is told of a call that is wanted with the arguments of that digest."""
Judge = Callable[[Asked, Word, Sequence[Approver]], Judged]
"""What a word on a call is worth, given the keys that are known. Pure."""


def judge_word(connection: Connection, row: Any, word: Word, judge: Judge) -> Judged:
    """What a word on a call is worth.

    Raises:
        DecisionRefused: Nothing, and why.
    """
    judged = judge(asked_of(connection, row), word, list_keys(connection))
    if judged.fault:
        raise DecisionRefused(judged.fault)
    return judged


def record_decision(
    connection: Connection, run_id: str, decision: Decision, judge: Judge, *, wanted: Wanted
) -> CallResult:
    """Write down an approval or a rejection, once, if it counts. `waiting` says that somebody else must agree, too.

    Raises:
        DecisionRefused: It does not count, no such call waits, it waits with other arguments, or it was decided otherwise.
    """
    row = row_of_call(connection, run_id, decision.operation)
    if row.digest != decision.digest:
        raise DecisionRefused(f"operation {decision.operation!r} has digest {row.digest}, not {decision.digest!r}")
    told = wanted(connection, run_id, row, decision.changed) if decision.changed else None
    ref = decision_ref(connection, run_id, decision.operation)
    found = find(connection, run_id, "decided", ref)
    if found is None and row.state != "waiting":
        raise DecisionRefused(f"operation {decision.operation!r} does not wait for a decision: it is {row.state}")
    if found is not None and found.meta["approve"] != decision.approve:
        raise DecisionRefused(
            f"operation {decision.operation!r} was already decided by {found.meta['by'] or 'somebody'!r}"
        )
    if found is None:
        judged = judge_word(connection, row, word_of(decision), judge)
        before = _granted(connection, run_id, ref) if decision.approve else {}
        given = {**before, judged.key: (judged.by, decision.grant)}
        agreed = sorted({by for by, _ in given.values()})
        if decision.approve and len(agreed) < judged.needed:
            if judged.key not in before:
                append(connection, run_id, [_granted_entry(ref, decision, judged)])
            return CallResult(waiting=True)
        grants = [grant for _, grant in given.values()]
        meta: dict[str, Any] = {"approve": decision.approve, "by": ", ".join(agreed), "digest": decision.digest}
        if decision.remember and decision.approve:
            meta["remember"] = True
        if decision.changed:
            meta["changed"] = decision.changed
        content = {"grants": grants, **({"reason": decision.reason} if decision.reason else {})}
        append(connection, run_id, [NewEntry(kind="decided", ref=ref, meta=meta, content=content)])
        connection.execute(
            update(operations)
            .where(operations.c.operation_id == decision.operation)
            .values(state="asked", approved=int(decision.approve))
        )
    if decision.approve:
        return CallResult()
    if told is not None:
        new = Settlement(outcome=Outcome.DENIED, content=told, meta={})
        return settle(connection, run_id, decision.operation, "", new).result
    content = {
        "code": ErrorCode.DENIED,
        "message": f"a person rejected this call{f': {decision.reason}' if decision.reason else ''}",
        "hint": "do not ask for it again; go on without it, or tell the user",
        "operation": decision.operation,
    }
    new = Settlement(outcome=Outcome.DENIED, content=content, meta={})
    return settle(connection, run_id, decision.operation, "", new).result


def asked_of(connection: Connection, row: Any) -> Asked:
    """A call as whoever judges words on it sees it."""
    run = connection.execute(select(runs.c.user, runs.c.tenant).where(runs.c.run_id == row.run_id)).one()
    return Asked(
        run=row.run_id,
        operation=row.operation_id,
        digest=row.digest,
        tool=row.tool,
        tier=Tier(row.tier or Tier.PRIVILEGED),
        user=run.user,
        tenant=run.tenant,
    )


def _granted_entry(ref: str, decision: Decision, judged: Judged) -> NewEntry:
    """That somebody has agreed, and somebody else must, too."""
    meta = {"by": judged.by, "digest": decision.digest}
    return NewEntry(kind="granted", ref=f"{ref}@{judged.key}", meta=meta, content={"grant": decision.grant})


def _granted(connection: Connection, run_id: str, ref: str) -> dict[str, tuple[str, str]]:
    """By key: who has agreed so far, and the grant."""
    found = [find(connection, run_id, "granted", one) for one in refs_of(connection, run_id, "granted", ref, sign="@")]
    return {
        entry.ref.rpartition("@")[2]: (str(entry.meta["by"]), str(entry.content["grant"]))
        for entry in found
        if entry is not None and entry.content is not None
    }


def decision_ref(connection: Connection, run_id: str, operation_id: str) -> str:
    """What the decision on a call is filed under: another one after each withdrawal."""
    withdrawn = len(refs_of(connection, run_id, "withdrawn", operation_id))
    return f"{operation_id}#{withdrawn}" if withdrawn else operation_id


def refs_of(connection: Connection, run_id: str, kind: str, operation_id: str, sign: str = "#") -> list[str]:
    """What is filed of a call under a kind of entry, oldest first."""
    query = (
        select(entries.c.ref)
        .where(entries.c.run_id == run_id, entries.c.kind == kind)
        .where(entries.c.ref.startswith(f"{operation_id}{sign}", autoescape=True))
        .order_by(entries.c.seq)
    )
    return list(connection.execute(query).scalars())


def record_resolution(
    connection: Connection, run_id: str, resolution: Resolution, judge: Judge | None = None
) -> CallResult:
    """Write down a person's word on an operation whose outcome is UNKNOWN, once. Without `judge` it comes from who may write here.

    Raises:
        DecisionRefused: Its outcome is not UNKNOWN, or it was resolved otherwise.
    """
    row = row_of_call(connection, run_id, resolution.operation)
    outcome = Outcome.SUCCEEDED if resolution.happened else Outcome.FAILED
    found = find(connection, run_id, "resolved", resolution.operation)
    if found is not None and found.meta["outcome"] == outcome:
        return CallResult(outcome=outcome, anchor=found.anchor)
    if found is not None or row.outcome != Outcome.UNKNOWN:
        state = (
            f"it was resolved as {found.meta['outcome']}"
            if found
            else f"its outcome is {row.outcome or 'not known yet'}"
        )
        raise DecisionRefused(f"operation {resolution.operation!r} has nothing to resolve: {state}")
    by = resolution.by if judge is None else judge_word(connection, row, word_of(resolution), judge).by
    if not resolution.happened:
        require_over(connection, row)
    said = word_of(resolution).said
    content: dict[str, Any] = {"message": f"a person looked: this call {said}", "note": resolution.note}
    if not resolution.happened:
        content |= {"code": ErrorCode.NOT_EXECUTED, "operation": resolution.operation}
    meta = {"outcome": outcome, "by": by}
    [anchor] = append(
        connection, run_id, [NewEntry(kind="resolved", ref=resolution.operation, meta=meta, content=content)]
    )
    connection.execute(
        update(operations)
        .where(operations.c.operation_id == resolution.operation)
        .values(outcome=outcome, settled_seq=anchor[0])
    )
    return CallResult(outcome=outcome, anchor=anchor)


def require_over(connection: Connection, row: Any) -> None:
    """Refuse a word by which a call may be done once more while an attempt of it, of which nobody has heard, may still act.

    It may until its lease is over: its worker may be frozen, and wake up.

    Raises:
        DecisionRefused: It may.
    """
    left = (row.lease_until - now_ms()) / 1000
    if left <= 0 or find(connection, row.run_id, "pending", row.operation_id) is not None:
        return
    if row.state == "settled" and not entry_at(connection, row.run_id, row.settled_seq).meta.get("fenced"):
        # The attempt itself has said how it ended.
        return
    if row.state in {"settled", "reserved"}:
        msg = (
            f"operation {row.operation_id!r}: its last attempt left no word, and may still act for {left:.1f} s if its worker is "
            "only frozen: look again after that, and say it then"
        )
        raise DecisionRefused(msg)


def row_of_call(connection: Connection, run_id: str, operation_id: str) -> Any:
    """A call of the run, locked.

    Raises:
        DecisionRefused: The run has no such call.
    """
    where = (operations.c.operation_id == operation_id, operations.c.run_id == run_id)
    row = connection.execute(select(operations).where(*where).with_for_update()).one_or_none()
    if row is None:
        raise DecisionRefused(f"run {run_id!r} has no operation {operation_id!r}; `handfast show {run_id}` lists them")
    return row
