"""Calls that are runs of their own: begun once, and settled with what the ledger says of that run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from handfast.contracts.effects import Outcome, RunStatus, Verdict
from handfast.contracts.errors import ErrorCode
from handfast.contracts.limits import Limits, Used, part_of
from handfast.contracts.provenance import CLEAN, Labels
from handfast.contracts.wire import CallInput, CallResult, CloseInput
from handfast.contracts.wire_model import Anchor
from handfast.ledger import branches
from handfast.ledger.entries import NewEntry, anchor_at, append, read_entries
from handfast.ledger.family import find_child, list_children, read_answer
from handfast.ledger.late import Settlement
from handfast.ledger.looked import NotAskedFor
from handfast.ledger.operations import fence, settle
from handfast.ledger.plans import read_steps
from handfast.ledger.provenance import read_labels
from handfast.ledger.runs import NewRun, RunRow, close_run, read_run, request_run
from handfast.ledger.statement import Statement
from handfast.ledger.tables import operations, runs
from handfast.ledger.turns import read_turn_result
from handfast.ledger.undo import child_owes
from handfast.ledger.undo_listing import list_standing, list_undo

PARENT = Statement(select(runs.c.parent).where(runs.c.run_id == bindparam("run")))
CODES = {
    RunStatus.LIMIT_REACHED: ErrorCode.LIMIT_REACHED,
    RunStatus.CANCELLED: ErrorCode.CANCELLED,
    RunStatus.REFUSED: ErrorCode.DENIED,
}


@dataclass(frozen=True, kw_only=True)
class NewChild:
    """A child that is about to be begun."""

    run: NewRun
    """What is asked of it; its limits are what it would use at most."""
    limits: Limits
    """What its parent may use, with all its children, unless it is itself a child."""
    left: float
    """Seconds of work that the parent has left."""
    plan: bool = False
    """The parent carries out a plan."""


def begin_child(connection: Connection, call: CallInput, new: NewChild) -> CallResult | None:
    """Write down that a call is begun as a run of its own, with a part of what its parent has left; what stands if it has ended.

    Begun again, it is the same run.

    Raises:
        RunIdTaken: The child's id belongs to another run.
    """
    run_id = new.run.parent
    row = _lock(connection, run_id, call.id)
    if row.state == "settled":
        return CallResult(outcome=Outcome(row.outcome), anchor=anchor_at(connection, run_id, row.settled_seq))
    if find_child(connection, call.id) is not None:
        return None
    part = _part(connection, call, new)
    if isinstance(part, str):
        return _refuse(connection, run_id, call, part)
    child = replace(new.run, limits=part, by_call=call.id)
    request_run(connection, child)
    meta = {"tool": row.tool, "run": child.run_id, "agent": child.agent, "limits": part.model_dump(mode="json")}
    append(connection, run_id, [NewEntry(kind="child", ref=call.id, meta=meta)])
    connection.execute(update(operations).where(operations.c.operation_id == call.id).values(state="pending"))
    return None


def _lock(connection: Connection, run_id: str, operation_id: str) -> Any:
    """The row of a call of a run.

    Raises:
        NotAskedFor: It is none of that run.
    """
    where = (operations.c.operation_id == operation_id, operations.c.run_id == run_id)
    row = connection.execute(select(operations).where(*where).with_for_update()).one_or_none()
    if row is None:
        raise NotAskedFor(f"no settled turn of run {run_id!r} asked for operation {operation_id!r}")
    return row


def _part(connection: Connection, call: CallInput, new: NewChild) -> Limits | str:
    """What the child may use; the name of the limit of which nothing is left."""
    run_id = new.run.parent
    # Children that are begun at once must not count on the same rest.
    connection.execute(select(runs.c.run_id).where(runs.c.run_id == run_id).with_for_update())
    parent = read_run(connection, run_id)
    limits = parent.limits or new.limits
    used = Used(
        turns=parent.turns + parent.turns_below,
        calls=parent.calls + parent.calls_below,
        tokens=parent.tokens,
        cost_usd=parent.cost_micros / 1e6,
        work_seconds=max(limits.wall_time.total_seconds() - new.left, 0.0),
    )
    for child in list_children(connection, run_id):
        if child.closed_at is None:
            may = Limits.model_validate_json(child.limits)
            used += Used(turns=may.turns, calls=may.calls, tokens=may.tokens, cost_usd=may.cost_usd)
    wanted = new.run.limits or limits
    return part_of(limits, used, wanted, among=_begun_together(connection, parent, call), plan=new.plan)


def _begun_together(connection: Connection, parent: Any, call: CallInput) -> int:
    """How many children of the call's turn are not begun yet, this one included."""
    turn = read_turn_result(connection, parent.run_id, call.turn, parent.branches)
    heads = () if turn is None else turn.heads
    ids = [head.id for head in heads if head.child and head.verdict is not Verdict.DENY]
    where = (operations.c.operation_id.in_(ids), operations.c.state.in_(["asked", "waiting"]))
    return max(len(connection.execute(select(operations.c.operation_id).where(*where)).all()), 1)


def _refuse(connection: Connection, run_id: str, call: CallInput, limit: str) -> CallResult:
    content = {
        "code": ErrorCode.LIMIT_REACHED,
        "message": f"nothing of this run's limit of {limit} is left for a run of its own; it was not begun",
        "hint": "answer with what you have",
        "operation": call.id,
    }
    new = Settlement(outcome=Outcome.FAILED, content=content, meta={})
    return settle(connection, run_id, call.id, "", new).result


Marks = Callable[[str, str, Outcome, Any], Mapping[str, Any]]
"""What the contract of a call says of its result; given the tool's name and version, the outcome and the content."""


def end_child(
    connection: Connection, run_id: str, call: CallInput, *, unstarted: bool, marks: Marks | None = None
) -> CallResult | None:
    """Settle a call with what became of its run, and count what that has used for the parent; None as long as it goes on.

    `unstarted` closes a run that was never started and is not needed any more.
    """
    row = _lock(connection, run_id, call.id)
    child = find_child(connection, call.id)
    if child is None:
        return fence(connection, run_id, call.id, "its run was never begun")
    if row.state == "settled":
        result = CallResult(outcome=Outcome(row.outcome), anchor=anchor_at(connection, run_id, row.settled_seq))
        return result.model_copy(update={"spent": _spent(connection, child)})
    if child.closed_at is None:
        if not unstarted or child.execution:
            return None
        close_run(connection, child.run_id, CloseInput(status=RunStatus.CANCELLED, reason="it was not needed any more"))
        child = find_child(connection, call.id)
    status, spent = RunStatus(child.status), _spent(connection, child)
    outcome = Outcome.SUCCEEDED if status is RunStatus.COMPLETED else Outcome.FAILED
    content = _answer(connection, child) if outcome is Outcome.SUCCEEDED else _error(connection, row, child, status)
    connection.execute(
        update(runs)
        .where(runs.c.run_id == run_id)
        .values(
            tokens=runs.c.tokens + spent.tokens,
            cost_micros=runs.c.cost_micros + child.cost_micros,
            turns_below=runs.c.turns_below + spent.turns,
            calls_below=runs.c.calls_below + spent.calls,
        )
    )
    said: Mapping[str, Any] = {} if marks is None else marks(row.tool, row.version, outcome, content)
    meta: dict[str, Any] = {**said, "child": child.run_id}
    labels = read_labels(connection, child.run_id).within(child.agent) | Labels.model_validate(said.get("labels", {}))
    if labels != CLEAN:
        meta["labels"] = labels.said
    new = Settlement(outcome=outcome, content=content, meta=meta)
    result = settle(connection, run_id, call.id, row.owner, new).result
    return result.model_copy(update={"spent": spent})


def _spent(connection: Connection, child: Any) -> Used:
    closed = read_entries(connection, child.run_id, kind="closed")
    return Used(
        turns=child.turns + child.turns_below,
        calls=child.calls + child.calls_below,
        tokens=child.tokens,
        cost_usd=child.cost_micros / 1e6,
        work_seconds=closed[-1].meta["work_seconds"] if closed else 0.0,
    )


def _answer(connection: Connection, child: Any) -> Any:
    text, output = read_answer(connection, child.run_id)
    return output if _is_plan(connection, child) or output is not None else text


def _is_plan(connection: Connection, child: Any) -> bool:
    requested = read_entries(connection, child.run_id, kind="requested")[0]
    return bool(requested.content and requested.content.get("plan"))


def _error(connection: Connection, row: Any, child: Any, status: RunStatus) -> dict[str, Any]:
    """What the model is told of a child that did not come to its goal: why, and what it has left in the world."""
    closed = read_entries(connection, child.run_id, kind="closed")[-1]
    reason = "" if closed.content is None else str(closed.content["reason"])
    why = reason or closed.meta["limit"]
    text, _ = read_answer(connection, child.run_id)
    told = list_undo(connection, child.run_id)
    undone = [one for one in told if one.undone]
    stands = [one for one in told if not one.undone] if told else list_standing(connection, child.run_id)
    content: dict[str, Any] = {
        "code": CODES.get(status, ErrorCode.TOOL_FAILED),
        "message": f"{row.tool} ended as {status}{f': {why}' if why else ''}",
        "hint": _hint(len(undone), len(stands)),
        "operation": row.operation_id,
        "run": child.run_id,
    }
    if _is_plan(connection, child):
        content["steps"] = read_steps(connection, child.run_id)
    elif text:
        # Not cut here: what the model is shown of it is searched as a whole, and cut then.
        content["last_words"] = text
    if stands:
        content["stands"] = [
            {"tool": one.tool, "operation": one.operation, **({"reason": one.reason} if one.reason else {})}
            for one in stands[:50]
        ]
    return content


def _hint(undone: int, stands: int) -> str:
    if stands:
        return f"{undone} of its calls were undone, {stands} stand"
    return "what it did was undone" if undone else "nothing of it stands"


def undo_child(connection: Connection, run_id: str, call: CallInput) -> bool:
    """Settle what undoes a call that is a run of its own, once nothing of that run is owed any more; False before that."""
    row = _lock(connection, run_id, call.id)
    if row.state == "settled":
        return True
    if child_owes(connection, row.undoes):
        return False
    end_child(connection, run_id, call.model_copy(update={"id": row.undoes}), unstarted=True)
    content = {"message": "what its run did is undone, as far as it can be"}
    settle(connection, run_id, call.id, row.owner, Settlement(outcome=Outcome.SUCCEEDED, content=content, meta={}))
    return True


def close_with_left(
    connection: Connection, run_id: str, close: CloseInput, *, execution: str = ""
) -> tuple[RunRow, Anchor]:
    """Write down how a run ended; see `branches.close_run`. What a reset has left behind is settled with it.

    That is a call whose run goes on, or has ended, and nobody waits for it: the last of parent and child to close settles it. A child
    takes the parent's row first, so that one of both is the last.
    """
    hold_parent(connection, run_id)
    run, anchor = branches.close_run(connection, run_id, close, execution=execution)
    for parent in filter(None, (run_id if run.branches else "", run.parent)):
        _settle_left(connection, parent)
    return run, anchor


def hold_parent(connection: Connection, run_id: str) -> None:
    """Take the row of a run's parent, if it has one: before its own, where both are taken."""
    row = PARENT.first(connection, {"run": run_id})
    if row is not None and row.parent:
        connection.execute(select(runs.c.run_id).where(runs.c.run_id == row.parent).with_for_update())


def _settle_left(connection: Connection, run_id: str) -> None:
    if not read_run(connection, run_id).status.closed:
        return
    ended = [child.chain_id for child in list_children(connection, run_id) if child.closed_at is not None]
    where = (operations.c.operation_id.in_(ended), operations.c.state == "pending")
    for operation_id in connection.execute(select(operations.c.operation_id).where(*where)).scalars().all():
        end_child(connection, run_id, CallInput(id=operation_id, turn=0, digest=""), unstarted=False)


def list_left(connection: Connection, run_id: str) -> list[str]:
    """The children of a run that go on although it waits for none of them."""
    return [child.run_id for child in list_children(connection, run_id) if child.closed_at is None]
