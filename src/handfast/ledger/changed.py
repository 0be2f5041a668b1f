"""Calls that a person wants with other arguments: refused as they are, and approved as the person wants them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from handfast.contracts.authority import Word
from handfast.contracts.errors import DecisionRefused, ErrorCode
from handfast.contracts.identity import digest
from handfast.contracts.versions import version_numbers
from handfast.contracts.wire import CallInput
from handfast.ledger.decisions import Judge, asked_of, row_of_call
from handfast.ledger.entries import COLUMNS as ENTRY
from handfast.ledger.entries import NewEntry, append, entry_of, find
from handfast.ledger.keys import list_keys
from handfast.ledger.tables import entries, operations

CHANGED = "changed: "
"""How the reason begins of a call that runs because a person wanted it in the place of another one."""


class Wanted(NamedTuple):
    """Who has approved a call in the place of another one."""

    by: str
    operation_id: str
    """The other one."""

    @property
    def rule(self) -> str:
        """What decided, as it is recorded with the call."""
        return f"{CHANGED}{self.by} has approved it in the place of {self.operation_id}"


def propose_change(connection: Connection, run_id: str, operation_id: str, arguments: dict[str, Any]) -> str:
    """Write down with which arguments a call is wanted, for somebody to sign; their digest.

    Raises:
        DecisionRefused: There is no such call.
    """
    row = row_of_call(connection, run_id, operation_id)
    wanted = digest(row.tool, version_numbers(row.version or "0.0.0")[0], arguments)
    if wanted == row.digest:
        msg = f"these are the arguments that operation {operation_id!r} has: approve it as it is"
        raise DecisionRefused(msg)
    ref = _ref(operation_id, wanted)
    if find(connection, run_id, "change", ref) is None:
        append(connection, run_id, [NewEntry(kind="change", ref=ref, meta={"digest": wanted}, content=arguments)])
    return wanted


def refusal_with_change(connection: Connection, run_id: str, row: Any, wanted: str) -> dict[str, Any]:
    """What the model is told of a call that is wanted with other arguments.

    Raises:
        DecisionRefused: Nobody has written down which.
    """
    entry = find(connection, run_id, "change", _ref(row.operation_id, wanted))
    if entry is None or entry.content is None:
        msg = f"nobody has written down the arguments with digest {wanted!r}: decide with `changed=`"
        raise DecisionRefused(msg)
    return {
        "code": ErrorCode.CHANGED,
        "message": "a person wants this call with other arguments, and has approved it with these",
        "arguments": entry.content,
        "hint": f"call {row.tool} again with exactly these arguments, or go on without it",
        "operation": row.operation_id,
    }


def find_wanted(
    connection: Connection,
    run_id: str,
    call: CallInput,
    tool: str,
    judge: Judge,
    digest_of: Callable[[dict[str, Any]], str],
) -> Wanted | None:
    """Who has approved a call with just these arguments in the place of another one, if that counts and no other has used it.

    Args:
        connection: A transaction.
        run_id: The run.
        call: The call that waits.
        tool: Its tool.
        judge: Judges the words of people.
        digest_of: The digest of a call with arguments as somebody wrote them, once the contract has read them.
    """
    query = (
        select(*ENTRY)
        .where(entries.c.run_id == run_id, entries.c.kind == "decided", entries.c.meta.contains('"changed":"'))
        .order_by(entries.c.seq)
    )
    known = list_keys(connection)
    for entry in map(entry_of, connection.execute(query).all()):
        row = row_of_call(connection, run_id, entry.ref.partition("#")[0])
        if row.tool != tool or entry.content is None or _is_used(connection, run_id, row.operation_id, but=call.id):
            continue
        wanted, reason = str(entry.meta["changed"]), str(entry.content.get("reason", ""))
        proposed = find(connection, run_id, "change", _ref(row.operation_id, wanted))
        if proposed is None or proposed.content is None or digest_of(proposed.content) != call.digest:
            continue
        for grant in entry.content["grants"]:
            word = Word(grant=grant, said="change", changed=wanted, reason=reason)
            judged = judge(asked_of(connection, row), word, known)
            if not judged.fault:
                return Wanted(judged.by, row.operation_id)
    return None


def _is_used(connection: Connection, run_id: str, operation_id: str, *, but: str) -> bool:
    """Whether another call runs already in the place of one: it is approved for one."""
    query = (
        select(func.count())
        .select_from(operations)
        .where(
            operations.c.run_id == run_id,
            operations.c.operation_id != but,
            operations.c.reason.like(f"{CHANGED}%{operation_id}"),
        )
    )
    return bool(connection.execute(query).scalar_one())


def _ref(operation_id: str, wanted: str) -> str:
    return f"{operation_id}#{wanted[:16]}"
