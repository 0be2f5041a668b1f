"""Turns: settling what a model answered, together with the operations it asked for, and reading transcripts back."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, insert, select, update

from holdfast.contracts.effects import Outcome, Tier, Verdict
from holdfast.contracts.messages import Message
from holdfast.contracts.wire import Anchor, Head, Said, TurnInput, TurnResult
from holdfast.ledger.branches import Orphan, read_orphans, require_lineage
from holdfast.ledger.entries import COLUMNS, NEW_HEAD, NewEntry, append, entry_of, find, now_ms, read_entries
from holdfast.ledger.lineage import branch_of, turn_of, turn_ref
from holdfast.ledger.listing import read_call
from holdfast.ledger.pending import receipt
from holdfast.ledger.runs import RunRow, read_run
from holdfast.ledger.statement import Statement
from holdfast.ledger.tables import entries, operations, runs


@dataclass(frozen=True, kw_only=True)
class AskedCall:
    """A tool call of a turn that is about to be settled: its head, and what only the ledger keeps."""

    head: Head
    call_id: str
    version: str
    tier: Tier | None
    """None for a call of an unknown tool."""
    intent: str = ""
    error: dict[str, Any] | None = None
    """For a denied call: what the model is told."""
    taken_over: bool = False
    """It is a call that a branch left behind had asked for: what became of that stands."""


@dataclass(frozen=True, kw_only=True)
class NewTurn:
    """A complete answer of a model, ready to be settled."""

    turn: int
    heard: tuple[str, ...]
    """What the user or the engine said to the model right before, besides tool results."""
    message: Message
    calls: tuple[AskedCall, ...]
    result: TurnResult
    meta: dict[str, Any] = field(default_factory=dict[str, Any])
    note: str = ""
    """What the model is told next if this is no final answer and asks for nothing."""
    output: Any = None
    """The final answer as data, if the agent declares its type."""
    branches: tuple[int, ...] = ()
    """The run's branches when the model was asked."""


@dataclass(frozen=True, kw_only=True)
class ToldResult:
    """What became of one call, as the next turn tells the model."""

    operation_id: str
    call_id: str
    tool: str
    outcome: Outcome
    content: Any
    warning: str = ""
    """About the contract that served it."""


@dataclass(frozen=True, kw_only=True)
class PastTurn:
    """A settled turn with the outcomes of its calls: one step of the transcript."""

    heard: tuple[str, ...]
    message: Message
    note: str
    results: tuple[ToldResult, ...]


ADD_TURN = Statement(
    NEW_HEAD.values(
        turns=runs.c.turns + 1,
        calls=runs.c.calls + bindparam("more_calls"),
        tokens=runs.c.tokens + bindparam("more_tokens"),
        cost_micros=runs.c.cost_micros + bindparam("more_cost"),
    )
)
ADD_TOKENS = Statement(NEW_HEAD.values(tokens=runs.c.tokens + bindparam("more_tokens")))


def settle_turn(connection: Connection, run_id: str, new: NewTurn) -> tuple[TurnResult, bool]:
    """Write down an answer and the operations it asks for, once. The first settlement of a turn stands.

    Returns what stands, and whether it is this answer.

    Raises:
        LedgerConflict: The run has branched since the model was asked.
    """
    taken_over = [(index, asked) for index, asked in enumerate(new.calls) if asked.taken_over]
    if taken_over:
        _lock(connection, [asked.head.id for _, asked in taken_over])
    require_lineage(connection, run_id, new.branches)
    settled = read_turn_result(connection, run_id, new.turn, new.branches)
    if settled is not None:
        return settled, False
    stored = new.result.model_dump(mode="json")
    content = {"heard": new.heard, "message": new.message.model_dump(mode="json"), "note": new.note}
    if new.output is not None:
        content["output"] = new.output
    denied = [asked for asked in new.calls if asked.error is not None]
    result = new.result
    anchors = append(
        connection,
        run_id,
        [
            NewEntry(
                kind="turn", ref=turn_ref(new.branches, new.turn), meta={**new.meta, "result": stored}, content=content
            ),
            *(
                NewEntry(
                    kind="settled",
                    ref=asked.head.id,
                    meta={"outcome": Outcome.DENIED, "tool": asked.head.tool},
                    content=asked.error,
                )
                for asked in denied
            ),
        ],
        ADD_TURN,
        more_calls=len(new.calls),
        more_tokens=result.tokens,
        more_cost=round(result.cost_usd * 1e6),
    )
    if rows := _operation_rows(run_id, new, anchors):
        INSERT_OPERATION.run_many(connection, rows)
    for index, asked in taken_over:
        place = {"left_by": 0, "turn": new.turn, "idx": index, "call_id": asked.call_id, "turn_seq": anchors[0][0]}
        connection.execute(update(operations).where(operations.c.operation_id == asked.head.id).values(**place))
    return new.result.model_copy(update={"anchor": anchors[0]}), True


def _lock(connection: Connection, operation_ids: Sequence[str]) -> None:
    """Before the run's row, which every writer locks last."""
    query = select(operations.c.operation_id).where(operations.c.operation_id.in_(operation_ids))
    connection.execute(query.order_by(operations.c.operation_id).with_for_update()).all()


INSERT_OPERATION = Statement(
    insert(operations),
    columns=(
        "operation_id", "run_id", "turn", "idx", "call_id", "tool", "version", "digest", "effect", "tier", "verdict",
        "reason", "intent", "state", "outcome", "turn_seq", "settled_seq", "asked_at", "settled_at",
    ),
)  # fmt: skip


def _operation_rows(run_id: str, new: NewTurn, anchors: Sequence[Anchor]) -> list[dict[str, Any]]:
    at = now_ms()
    denied_at = iter(anchors[1:])
    rows: list[dict[str, Any]] = []
    for index, asked in enumerate(new.calls):
        if asked.taken_over:
            continue
        settled_seq = next(denied_at)[0] if asked.error is not None else None
        rows.append(
            {
                "operation_id": asked.head.id,
                "run_id": run_id,
                "turn": new.turn,
                "idx": index,
                "call_id": asked.call_id,
                "tool": asked.head.tool,
                "version": asked.version,
                "digest": asked.head.digest,
                "effect": asked.head.effect if asked.version else "",
                "tier": asked.tier or "",
                "verdict": asked.head.verdict,
                "reason": asked.head.reason,
                "intent": asked.intent,
                "state": "settled" if settled_seq else "waiting" if asked.head.verdict is Verdict.ASK else "asked",
                "outcome": Outcome.DENIED if settled_seq else None,
                "turn_seq": anchors[0][0],
                "settled_seq": settled_seq,
                "asked_at": at,
                "settled_at": at if settled_seq else None,
            }
        )
    return rows


def read_turn_result(connection: Connection, run_id: str, turn: int, branches: tuple[int, ...]) -> TurnResult | None:
    """What `model_turn` returned for a turn that is settled, or None. Nobody is asked again about what was decided."""
    entry = find(connection, run_id, "turn", turn_ref(branches, turn))
    if entry is None:
        return None
    result = TurnResult.model_validate(entry.meta["result"]).model_copy(update={"anchor": entry.anchor})
    if any(head.verdict is Verdict.ASK for head in result.heads):
        result = result.model_copy(update={"heads": _with_decisions(connection, run_id, turn, result.heads)})
    return result


def _with_decisions(connection: Connection, run_id: str, turn: int, heads: Sequence[Head]) -> tuple[Head, ...]:
    """The heads of a turn's calls, those that no longer wait for a person as free to run: the call finds what stands."""
    here = (operations.c.run_id == run_id, operations.c.left_by == 0, operations.c.turn == turn)
    where = (*here, operations.c.state == "waiting")
    waiting = set(connection.execute(select(operations.c.operation_id).where(*where)).scalars())
    return tuple(
        head.model_copy(update={"verdict": Verdict.RUN})
        if head.verdict is Verdict.ASK and head.id not in waiting
        else head
        for head in heads
    )


def record_repeat(
    connection: Connection, run_id: str, turn: int, attempt: int, tokens: int, branches: Sequence[int] = ()
) -> None:
    """Count a model call whose earlier attempt may have been paid for without being settled."""
    ref = f"{turn_ref(branches, turn)}#{attempt}"
    if find(connection, run_id, "repeated", ref) is None:
        entry = NewEntry(kind="repeated", ref=ref, meta={"turn": turn, "tokens": tokens})
        append(connection, run_id, [entry], ADD_TOKENS, more_tokens=tokens)


def read_request_text(connection: Connection, run_id: str) -> str:
    """The text the run was asked with; empty once erased."""
    entry = find(connection, run_id, "requested", "")
    return "" if entry is None or entry.content is None else str(entry.content["text"])


OUTCOME_COLUMNS = (
    operations.c.operation_id, operations.c.turn, operations.c.call_id, operations.c.tool, operations.c.outcome,
    operations.c.receipt_seq, entries.c.body, entries.c.meta,
)  # fmt: skip
RESULTS = Statement(
    select(*OUTCOME_COLUMNS)
    .select_from(
        operations.join(
            entries,
            and_(
                entries.c.run_id == operations.c.run_id,
                entries.c.seq == func.coalesce(operations.c.receipt_seq, operations.c.settled_seq),
            ),
        )
    )
    .where(
        operations.c.run_id == bindparam("run"),
        operations.c.left_by == 0,
        operations.c.turn >= bindparam("first"),
        operations.c.turn <= bindparam("last"),
    )
    .order_by(operations.c.turn, operations.c.idx)
)  # fmt: skip


def read_results(connection: Connection, run_id: str, first: int, last: int) -> dict[int, tuple[ToldResult, ...]]:
    """What the model was told of the calls of the turns from `first` to `last`, in the order it asked.

    That is what became of each, or a receipt where its work went on in the background.
    """
    told: dict[int, list[ToldResult]] = {}
    for row in RESULTS.all(connection, {"run": run_id, "first": first, "last": last}):
        result = _told(row)
        if row.receipt_seq is not None and row.body is not None:
            given = receipt(row.operation_id, result.content["reference"])
            result = replace(result, outcome=Outcome.SUCCEEDED, content=given)
        told.setdefault(row.turn, []).append(result)
    return {turn: tuple(results) for turn, results in told.items()}


def _told(row: Any) -> ToldResult:
    return ToldResult(
        operation_id=row.operation_id,
        call_id=row.call_id,
        tool=row.tool,
        outcome=Outcome(row.outcome or Outcome.UNKNOWN),
        content=None if row.body is None else json.loads(row.body),
        warning=json.loads(row.meta)["warning"] if '"warning":' in row.meta else "",
    )


def read_ended(connection: Connection, run_id: str, operation_ids: Sequence[str]) -> tuple[ToldResult, ...]:
    """What became of background work that has ended, in the order given."""
    if not operation_ids:
        return ()
    settled = and_(entries.c.run_id == operations.c.run_id, entries.c.seq == operations.c.settled_seq)
    query = (
        select(*OUTCOME_COLUMNS)
        .select_from(operations.join(entries, settled))
        .where(operations.c.run_id == run_id, operations.c.operation_id.in_(operation_ids))
    )
    found = {row.operation_id: _told(row) for row in connection.execute(query)}
    return tuple(found[one] for one in operation_ids if one in found)


def read_past(connection: Connection, run_id: str, branches: Sequence[int], *, before: int) -> list[PastTurn]:
    """The settled turns before a turn number, with their outcomes, along the branches that lead there."""
    results = read_results(connection, run_id, 1, before - 1)
    past: list[PastTurn] = []
    for entry in read_entries(connection, run_id, kind="turn"):
        turn, branch = turn_of(entry.ref)
        if turn >= before or branch != branch_of(branches, turn):
            continue
        content: dict[str, Any] = entry.content or {
            "heard": (),
            "message": {"role": "assistant", "parts": []},
            "note": "",
        }
        past.append(
            PastTurn(
                heard=tuple(content["heard"]),
                message=Message.model_validate(content["message"]),
                note=content["note"],
                results=results.get(turn, ()),
            )
        )
    return past


def read_intents(connection: Connection, run_id: str) -> set[str]:
    """The intents of this run's operations that happened, may have happened or may still happen."""
    query = select(operations.c.intent).where(
        operations.c.run_id == run_id,
        operations.c.intent != "",
        operations.c.outcome.is_(None) | operations.c.outcome.in_([Outcome.SUCCEEDED, Outcome.UNKNOWN]),
    )
    return set(connection.execute(query).scalars())


def record_said(connection: Connection, run_id: str, said_id: str, text: str) -> Said:
    """Write down something the user says during a run, and give its reference."""
    found = find(connection, run_id, "said", said_id)
    if found is not None:
        return Said(ref=found.seq)
    [anchor] = append(connection, run_id, [NewEntry(kind="said", ref=said_id, content={"text": text})])
    return Said(ref=anchor[0])


def read_said(connection: Connection, run_id: str, said: Sequence[Said]) -> tuple[str, ...]:
    """The texts behind references; text that came through Temporal is taken as it is."""
    texts: list[str] = []
    for one in said:
        if not one.ref:
            texts.append(one.text)
            continue
        where = (entries.c.run_id == run_id, entries.c.seq == one.ref, entries.c.kind == "said")
        row = connection.execute(select(*COLUMNS).where(*where)).one_or_none()
        entry = None if row is None else entry_of(row)
        if entry is not None and entry.content is not None:
            texts.append(str(entry.content["text"]))
    return tuple(texts)


@dataclass(frozen=True, kw_only=True)
class TurnContext:
    """Everything a turn needs to know, read in one go."""

    run: RunRow
    settled: TurnResult | None
    """The turn was settled before: this is its result, and the model is not asked again."""
    request: str
    past: list[PastTurn]
    """Settled turns behind `known`."""
    results: tuple[ToldResult, ...]
    """The outcomes of the last turn's calls."""
    said: tuple[str, ...]
    intents: set[str]
    ended: tuple[ToldResult, ...] = ()
    """Background work that has ended since."""
    orphans: tuple[Orphan, ...] = ()
    """What branches left behind have done, for the calls that this one asks for again."""
    again: tuple[str, dict[str, Any]] | None = None
    """Tool and arguments of the call that the run begins with, instead of asking the model."""


def read_context(connection: Connection, run_id: str, given: TurnInput, *, known: int, intents: bool) -> TurnContext:
    """What `model_turn` needs; `known` is the last turn whose conversation the process still has, 0 for none.

    Raises:
        RunNotFound: There is no such run.
    """
    turn, run = given.turn, read_run(connection, run_id)
    past = [] if known else read_past(connection, run_id, run.branches, before=turn)
    results = read_results(connection, run_id, known, known).get(known, ()) if known else ()
    return TurnContext(
        run=run,
        settled=read_turn_result(connection, run_id, turn, run.branches),
        request="" if known else read_request_text(connection, run_id),
        past=past,
        results=past[-1].results if past else results,
        said=read_said(connection, run_id, given.said),
        ended=read_ended(connection, run_id, given.jobs),
        intents=read_intents(connection, run_id) if intents else set(),
        again=_again(connection, run_id) if turn == 1 else None,
        orphans=read_orphans(connection, run_id) if run.branches else (),
    )


def _again(connection: Connection, run_id: str) -> tuple[str, dict[str, Any]] | None:
    requested = find(connection, run_id, "requested", "")
    operation_id = "" if requested is None else requested.meta.get("again", "")
    return read_call(connection, operation_id) if operation_id else None
