"""Transcripts: what was said, answered and told in a run, read back for its next turn."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, func, select

from handfast.contracts.effects import Outcome
from handfast.contracts.messages import Message
from handfast.contracts.provenance import CLEAN, UNSIGNED, UNVOUCHED, Labels
from handfast.contracts.texts import clean_text
from handfast.contracts.wire import TurnInput, TurnResult
from handfast.contracts.wire_words import Said
from handfast.ledger.branches import Orphan, read_orphans
from handfast.ledger.entries import COLUMNS, Entry, NewEntry, append, entry_of, find, read_entries
from handfast.ledger.family import family_of
from handfast.ledger.lineage import branch_of, turn_of
from handfast.ledger.listing import read_call
from handfast.ledger.pending import receipt
from handfast.ledger.runs import RunRow, read_run
from handfast.ledger.statement import Statement
from handfast.ledger.tables import entries, operations
from handfast.ledger.turns import read_turn_result
from handfast.ledger.unsettled import StoredAnswer, read_unsettled
from handfast.ledger.words import KIND as UNSIGNED_WORDS


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
    labels: Labels = CLEAN
    """Of a call that was a run of its own: what was in that run."""


@dataclass(frozen=True, kw_only=True)
class PastTurn:
    """A settled turn with the outcomes of its calls: one step of the transcript."""

    heard: tuple[str, ...]
    message: Message
    note: str
    results: tuple[ToldResult, ...]


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


UNDONE_SINCE = "This call was undone since: what it did no longer stands."


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
    outcome = Outcome(row.outcome or Outcome.UNKNOWN)
    warning = json.loads(row.meta)["warning"] if '"warning":' in row.meta else ""
    return ToldResult(
        operation_id=row.operation_id,
        call_id=row.call_id,
        tool=row.tool,
        outcome=outcome,
        content=None if row.body is None else json.loads(row.body),
        warning=UNDONE_SINCE if outcome is Outcome.COMPENSATED else warning,
        labels=_labels_in(row.meta),
    )


def _labels_in(meta: str) -> Labels:
    """What an entry says of labels; mostly nothing, and then it need not be read."""
    return Labels.model_validate(json.loads(meta).get("labels", {})) if '"labels":' in meta else CLEAN


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
    """The intents of operations that happened, may have happened or may still happen: of this run, and of its whole family.

    A model that asks again by other words may do so through another agent.
    """
    query = select(operations.c.intent).where(
        operations.c.run_id.in_(family_of(connection, run_id)),
        operations.c.intent != "",
        operations.c.outcome.is_(None) | operations.c.outcome.in_([Outcome.SUCCEEDED, Outcome.UNKNOWN]),
    )
    return set(connection.execute(query).scalars())


def record_said(connection: Connection, run_id: str, said_id: str, text: str, signed: str = "") -> Said:
    """Write down something the user says during a run, and give its reference."""
    found = find(connection, run_id, "said", said_id)
    if found is not None:
        return Said(ref=found.seq)
    meta = {"signed": signed} if signed else {}
    [anchor] = append(connection, run_id, [NewEntry(kind="said", ref=said_id, meta=meta, content={"text": text})])
    return Said(ref=anchor[0])


class Heard(NamedTuple):
    """What was said since the last turn, and what that brings into the run."""

    texts: tuple[str, ...]
    labels: Labels


def read_said(connection: Connection, run_id: str, said: Sequence[Said]) -> Heard:
    """The texts behind references; text that came through Temporal is taken as it is, as nobody's whose words count."""
    texts: list[str] = []
    labels = CLEAN
    for one in said:
        if not one.ref:
            texts.append(clean_text(one.text))
            labels |= UNSIGNED
            continue
        where = (entries.c.run_id == run_id, entries.c.seq == one.ref, entries.c.kind == "said")
        row = connection.execute(select(*COLUMNS).where(*where)).one_or_none()
        entry = None if row is None else entry_of(row)
        if entry is not None and entry.content is not None:
            texts.append(_told_by(entry))
            labels |= Labels.model_validate(entry.meta.get("labels", {}))
            labels |= UNVOUCHED if find(connection, run_id, UNSIGNED_WORDS, str(entry.seq)) else CLEAN
    return Heard(tuple(texts), labels)


def _told_by(entry: Entry) -> str:
    """What was said, and by whom if that was no user."""
    text = str(entry.content["text"])
    if "from" not in entry.meta:
        return text
    return f"(message from {entry.meta['agent']}, run {entry.meta['from']}; these are not the user's words) {text}"


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
    said: Heard
    intents: set[str]
    ended: tuple[ToldResult, ...] = ()
    """Background work that has ended since."""
    orphans: tuple[Orphan, ...] = ()
    """What branches left behind have done, for the calls that this one asks for again."""
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    """How often each tool was called, as far as that is asked."""
    again: tuple[str, dict[str, Any]] | None = None
    """Tool and arguments of the call that the run begins with, instead of asking the model."""
    stored: StoredAnswer | None = None
    """The turn's answer, if an earlier attempt could not settle it: the model is not asked again."""


def read_counts(connection: Connection, run_id: str, tools: Collection[str]) -> dict[str, int]:
    """How often a run has called some tools; what was refused does not count."""
    if not tools:
        return {}
    query = (
        select(operations.c.tool, func.count())
        .where(operations.c.run_id == run_id, operations.c.left_by == 0, operations.c.tool.in_(sorted(tools)))
        .where(operations.c.outcome.is_(None) | (operations.c.outcome != Outcome.DENIED))
        .group_by(operations.c.tool)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def read_context(
    connection: Connection,
    run_id: str,
    given: TurnInput,
    *,
    known: int,
    intents: bool,
    counted: Collection[str] = (),
) -> TurnContext:
    """What `model_turn` needs; `known` is the last turn whose conversation the process still has, 0 for none.

    `counted` are the tools whose number of calls is limited.

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
        counts=read_counts(connection, run_id, counted),
        again=_again(connection, run_id) if turn == 1 else None,
        orphans=read_orphans(connection, run_id) if run.branches else (),
        stored=read_unsettled(connection, run_id, turn, run.branches),
    )


def _again(connection: Connection, run_id: str) -> tuple[str, dict[str, Any]] | None:
    requested = find(connection, run_id, "requested", "")
    operation_id = "" if requested is None else requested.meta.get("again", "")
    return read_call(connection, operation_id) if operation_id else None
