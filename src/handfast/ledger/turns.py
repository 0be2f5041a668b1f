"""Turns: settling what a model answered, together with the operations it asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from handfast.contracts.arguments import Arguments
from handfast.contracts.effects import Outcome, Tier, Verdict
from handfast.contracts.messages import Message
from handfast.contracts.policy.budgets import Spending
from handfast.contracts.provenance import CLEAN, Labels
from handfast.contracts.wire import Head, TurnResult
from handfast.contracts.wire_model import Anchor
from handfast.ledger.budgets import settle as settle_budgets
from handfast.ledger.entries import NEW_HEAD, NewEntry, append, find, now_ms
from handfast.ledger.lineage import turn_ref
from handfast.ledger.runs import labels_text
from handfast.ledger.statement import Statement
from handfast.ledger.tables import operations, runs


@dataclass(frozen=True, kw_only=True)
class AskedCall:
    """A tool call of a turn that is about to be settled: its head, and what only the ledger keeps."""

    head: Head
    call_id: str
    version: str
    tier: Tier | None
    """None for a call of an unknown tool."""
    intent: str = ""
    rule: str = ""
    """What decided on it: of a policy, a rule and why. Of an ASK, its head has only the rule, as that travels over Temporal."""
    named: str = ""
    """The tool as the model has named it, if there is none of that name."""
    arguments: Arguments | None = None
    """Its arguments as its contract has them; None if the model wrote them just so."""
    changed: bool = False
    """A hook has put other arguments in the place of the model's."""
    origins: Mapping[str, str] = field(default_factory=dict[str, str])
    """Where its arguments came from, as far as that was asked: by path, in words."""
    error: dict[str, Any] | None = None
    """For a denied call: what the model is told."""
    undo: str = ""
    """The effect class of what undoes it; empty if nothing does."""
    kept: tuple[Any] | None = None
    """Of a call that an earlier plan has carried out: its result."""
    taken_over: bool = False
    """It is a call that a branch left behind had asked for: what became of that stands."""

    @property
    def tool(self) -> str:
        """Its tool's name, as people and the model know it."""
        return self.named or self.head.tool

    @property
    def outcome(self) -> Outcome | None:
        """What it is settled with when it is asked for; None if it is yet to be carried out."""
        if self.kept is not None:
            return Outcome.SUCCEEDED
        return None if self.error is None else Outcome.DENIED


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
    labels: Labels = CLEAN
    """What was in the run when the model answered."""
    policy: int = 0
    """The version of the installation's policy that its calls were judged by; 0 where there was none."""
    budgets: tuple[str, ...] = ()
    """The keys of the budgets of which something was held back for it."""
    work_ms: int = 0
    """Time at work that counts for them."""
    holder: str = ""
    """By whom."""
    paid: bool = False
    """An earlier attempt got the answer: its tokens and its cost are counted. See `unsettled`."""


ADD_TURN = Statement(
    NEW_HEAD.values(
        turns=runs.c.turns + 1,
        calls=runs.c.calls + bindparam("more_calls"),
        tokens=runs.c.tokens + bindparam("more_tokens"),
        cost_micros=runs.c.cost_micros + bindparam("more_cost"),
        labels=bindparam("labels"),
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
    settled = read_turn_result(connection, run_id, new.turn, new.branches)
    if settled is not None:
        return settled, False
    if new.budgets:
        spent = Spending(
            turns=1,
            tokens=new.result.tokens,
            cost_micros=round(new.result.cost_usd * 1e6),
            calls=sum(asked.head.verdict is not Verdict.DENY for asked in new.calls),
            work_ms=new.work_ms,
        )
        settle_budgets(connection, new.budgets, new.holder, spent)
    over = [asked for asked in new.calls if asked.error is not None or asked.kept is not None]
    anchors = append(
        connection,
        run_id,
        [
            turn_entry(new),
            *(
                NewEntry(
                    kind="settled",
                    ref=asked.head.id,
                    meta={"outcome": asked.outcome, "tool": asked.tool},
                    content=asked.error if asked.kept is None else asked.kept[0],
                )
                for asked in over
            ),
        ],
        ADD_TURN,
        branches=new.branches,
        **added_by(new),
    )
    if rows := operation_rows(run_id, new, anchors):
        INSERT_OPERATION.run_many(connection, rows)
    for index, asked in taken_over:
        place = {"left_by": 0, "turn": new.turn, "idx": index, "call_id": asked.call_id, "turn_seq": anchors[0][0]}
        connection.execute(update(operations).where(operations.c.operation_id == asked.head.id).values(**place))
    return new.result.model_copy(update={"anchor": anchors[0]}), True


def turn_entry(new: NewTurn) -> NewEntry:
    """What the chain says of a turn."""
    content: dict[str, Any] = {
        "heard": new.heard,
        "message": new.message.model_dump(mode="json"),
        "note": new.note,
    }
    if arguments := {str(index): _written(asked.arguments) for index, asked in enumerate(new.calls) if asked.arguments}:
        content["arguments"] = arguments
    if changed := [index for index, asked in enumerate(new.calls) if asked.changed]:
        content["changed"] = changed
    if new.output is not None:
        content["output"] = new.output
    meta = {**new.meta, "result": new.result.model_dump(mode="json")}
    if rules := {str(index): asked.rule[:300] for index, asked in enumerate(new.calls) if asked.rule}:
        meta["rules"] = rules
    if new.policy and new.calls:
        meta["policy"] = new.policy
    if new.labels != CLEAN:
        meta["labels"] = new.labels.model_dump(exclude_defaults=True)
    if origins := {str(index): dict(asked.origins) for index, asked in enumerate(new.calls) if asked.origins}:
        meta["origins"] = origins
    return NewEntry(kind="turn", ref=turn_ref(new.branches, new.turn), meta=meta, content=content)


def _written(arguments: Arguments) -> dict[str, Any]:
    written: dict[str, Any] = {"stored": arguments.stored}
    return {**written, "defaulted": arguments.defaulted} if arguments.defaulted else written


def added_by(new: NewTurn) -> dict[str, Any]:
    """The parameters of `ADD_TURN`: what a turn adds to the run's totals, and what is in the run by now."""
    return {
        "more_calls": len(new.calls),
        "more_tokens": 0 if new.paid else new.result.tokens,
        "more_cost": 0 if new.paid else round(new.result.cost_usd * 1e6),
        "labels": labels_text(new.labels),
    }


def _lock(connection: Connection, operation_ids: Sequence[str]) -> None:
    """Before the run's row, which every writer locks last."""
    query = select(operations.c.operation_id).where(operations.c.operation_id.in_(operation_ids))
    connection.execute(query.order_by(operations.c.operation_id).with_for_update()).all()


ASKED = (
    "operation_id", "run_id", "turn", "idx", "call_id", "tool", "version", "digest", "effect", "tier", "verdict",
    "reason", "intent", "state", "outcome", "turn_seq", "settled_seq", "asked_at", "settled_at", "undo",
)  # fmt: skip
"""The columns of a call that is asked for."""
INSERT_OPERATION = Statement(insert(operations), columns=ASKED)


def operation_rows(run_id: str, new: NewTurn, anchors: Sequence[Anchor]) -> list[dict[str, Any]]:
    """The calls of a turn as rows, with the anchors of the turn and of each that is settled with it."""
    at = now_ms()
    settled_at = iter(anchors[1:])
    rows: list[dict[str, Any]] = []
    for index, asked in enumerate(new.calls):
        if asked.taken_over:
            continue
        settled_seq = None if asked.outcome is None else next(settled_at)[0]
        rows.append(
            {
                "operation_id": asked.head.id,
                "run_id": run_id,
                "turn": new.turn,
                "idx": index,
                "call_id": asked.call_id,
                "tool": asked.tool,
                "version": asked.version,
                "digest": asked.head.digest,
                "effect": asked.head.effect if asked.version else "",
                "tier": asked.tier or "",
                "verdict": asked.head.verdict,
                "reason": asked.rule or asked.head.reason,
                "intent": asked.intent,
                "state": "settled" if settled_seq else "waiting" if asked.head.verdict is Verdict.ASK else "asked",
                "outcome": asked.outcome,
                "turn_seq": anchors[0][0],
                "settled_seq": settled_seq,
                "asked_at": at,
                "settled_at": at if settled_seq else None,
                "undo": asked.undo,
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
