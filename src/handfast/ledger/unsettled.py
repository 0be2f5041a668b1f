"""Answers that were paid for and could not be settled. The next attempt of the turn judges what is here, and asks no model again.

Mostly an answer is judged and settled in one transaction, and nothing of this is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam

from handfast.contracts.policy.budgets import Spending
from handfast.ledger.budgets import settle as settle_budgets
from handfast.ledger.entries import NEW_HEAD, NewEntry, append, find
from handfast.ledger.lineage import turn_ref
from handfast.ledger.statement import Statement
from handfast.ledger.tables import runs

KIND = "unsettled"


@dataclass(frozen=True, kw_only=True)
class StoredAnswer:
    """What a model answered in an earlier attempt of the turn, and what it was told then."""

    response: dict[str, Any]
    """The `ModelResponse`, as JSON."""
    near: str
    """The limit for which the model was asked for its final answer; empty if it was not."""


@dataclass(frozen=True, kw_only=True)
class FailedSettlement:
    """An answer whose judgement or settlement failed."""

    turn: int
    branches: Sequence[int]
    error: str
    """The type of what was raised."""
    detail: str
    """Its words."""
    answer: StoredAnswer
    spent: Spending = field(default_factory=Spending)
    """What the model call used. It counts with the first failure, and not again with the settlement."""
    budgets: Sequence[str] = ()
    """The keys of the budgets of which something was held back for it."""
    holder: str = ""
    """By whom."""


ADD_SPENT = Statement(
    NEW_HEAD.values(
        tokens=runs.c.tokens + bindparam("more_tokens"), cost_micros=runs.c.cost_micros + bindparam("more_cost")
    )
)


def record_unsettled(connection: Connection, run_id: str, new: FailedSettlement) -> int:
    """Write down that an answer could not be settled, the first time with the answer; how often that was so by now."""
    ref, failures = turn_ref(new.branches, new.turn), 1
    while find(connection, run_id, KIND, f"{ref}#{failures}") is not None:
        failures += 1
    content: dict[str, Any] = {"detail": new.detail}
    spent = new.spent if failures == 1 else Spending()
    if failures == 1:
        content |= {"answer": new.answer.response, "near": new.answer.near}
        if new.budgets:
            settle_budgets(connection, new.budgets, new.holder, spent)
    meta = {"turn": new.turn, "error": new.error, "tokens": spent.tokens, "cost_micros": spent.cost_micros}
    entry = NewEntry(kind=KIND, ref=f"{ref}#{failures}", meta=meta, content=content)
    append(connection, run_id, [entry], ADD_SPENT, more_tokens=spent.tokens, more_cost=spent.cost_micros)
    return failures


def read_unsettled(connection: Connection, run_id: str, turn: int, branches: Sequence[int]) -> StoredAnswer | None:
    """The answer of an earlier attempt of a turn that could not be settled, if there is one."""
    entry = find(connection, run_id, KIND, f"{turn_ref(branches, turn)}#1")
    if entry is None or entry.content is None:
        return None
    return StoredAnswer(response=entry.content["answer"], near=entry.content["near"])
