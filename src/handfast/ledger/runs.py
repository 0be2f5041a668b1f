"""Runs: how they come into the ledger, how they close, and the list of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, case, func, insert, select

from handfast.contracts.called_from import NOWHERE, CalledFrom
from handfast.contracts.effects import Outcome, RunStatus
from handfast.contracts.errors import LedgerConflict, RunIdTaken, RunNotFound
from handfast.contracts.identity import canonical_json, digest, new_chain_id
from handfast.contracts.limits import Limits
from handfast.contracts.provenance import CLEAN, Labels
from handfast.contracts.results import RunSummary
from handfast.contracts.wire import CloseInput
from handfast.contracts.wire_model import Anchor
from handfast.ledger.entries import NEW_HEAD, NewEntry, append, find, moment, now_ms
from handfast.ledger.reasons import reason_at
from handfast.ledger.statement import Statement
from handfast.ledger.tables import operations, runs


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A request for a run."""

    run_id: str
    agent: str
    text: str
    user: str
    tenant: str
    trace_id: str = ""
    again: str = ""
    """The operation that the run begins with: one of another run, which failed for good."""
    plan: str = ""
    """The plan that is carried out and what it is given, as JSON; empty for a request to a model."""
    parent: str = ""
    """The run that has begun it; empty if a person, or a program, has."""
    by_call: str = ""
    """That run's call, which is this one's chain id."""
    limits: Limits | None = None
    """What it may use of what its parent may; else its agent says."""
    labels: Labels = CLEAN
    """What is in it from the start: then its text is nobody's whose words count."""
    called_from: CalledFrom = NOWHERE

    signed: str = ""
    """The signature of the client that asks for it; see `contracts.words`."""

    @property
    def told(self) -> dict[str, str]:
        """What is signed of it."""
        meta = {"agent": self.agent, "user": self.user, "tenant": self.tenant, "again": self.again}
        return words_of_request(meta, {"text": self.text, "plan": self.plan, "called_from": self.called_from.text})

    @property
    def digest(self) -> str:
        """What a run id is bound to."""
        asked = [self.text, self.user, self.tenant]
        return digest(self.agent, 0, [*asked, *filter(None, (self.again, self.plan))])


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run as it stands in the ledger."""

    run_id: str
    chain_id: str
    execution: str
    agent: str
    agent_version: str
    model: str
    user: str
    tenant: str
    status: RunStatus
    trace_id: str
    head_seq: int
    turns: int
    calls: int
    tokens: int
    cost_micros: int
    contracts: Mapping[str, str]
    """The versions of the agent's tools when the run began, by name."""
    branches: tuple[int, ...] = ()
    """The first turn of each branch but the first one: how often the run was reset to think again, and to where."""
    parent: str = ""
    """The run that has begun it."""
    limits: Limits | None = None
    """What it may use, if it is a child; else its agent says."""
    turns_below: int = 0
    """Turns of the runs that it has begun. Their tokens and cost are among its own."""
    calls_below: int = 0
    labels: Labels = CLEAN
    """What is in it besides what its user wants, as of its last settled turn."""
    called_from: CalledFrom = NOWHERE

    @property
    def branch(self) -> int:
        """The number of the branch that goes on."""
        return len(self.branches)


REQUEST = (
    "run_id", "chain_id", "agent", "user", "tenant", "request_digest", "status", "trace_id", "requested_at", "parent", "limits",
    "labels", "called_from",
)  # fmt: skip
INSERT = Statement(insert(runs), columns=REQUEST)
REQUESTED = Statement(select(runs.c.request_digest).where(runs.c.run_id == bindparam("id")))


def request_run(connection: Connection, new: NewRun) -> RunRow:
    """Write down a request, once.

    Raises:
        RunIdTaken: The run id belongs to another request.
    """
    row = REQUESTED.first(connection, {"id": new.run_id})
    if row is not None:
        if row.request_digest != new.digest:
            raise RunIdTaken(
                f"run id {new.run_id!r} already belongs to another request (other agent, text, user or tenant). "
                "A run id is never reused: start this request under a new id"
            )
        return read_run(connection, new.run_id)
    row = {
        "run_id": new.run_id,
        "chain_id": new.by_call or new_chain_id(),
        "agent": new.agent,
        "user": new.user,
        "tenant": new.tenant,
        "request_digest": new.digest,
        "status": RunStatus.REQUESTED,
        "trace_id": new.trace_id,
        "requested_at": now_ms(),
        "parent": new.parent,
        "limits": "" if new.limits is None else new.limits.model_dump_json(),
        "labels": labels_text(new.labels),
        "called_from": new.called_from.text,
    }
    INSERT.run_many(connection, [row])
    meta: dict[str, Any] = {"agent": new.agent, "user": new.user, "tenant": new.tenant}
    if new.parent:
        meta["parent"] = new.parent
    if new.again:
        meta["again"] = new.again
    if new.signed:
        meta["signed"] = new.signed
    if new.labels != CLEAN:
        meta["labels"] = new.labels.model_dump(exclude_defaults=True)
    content = {"text": new.text, **({"plan": new.plan} if new.plan else {})}
    if new.called_from != NOWHERE:
        content["called_from"] = new.called_from.text
    append(connection, new.run_id, [NewEntry(kind="requested", ref="", meta=meta, content=content)])
    return read_run(connection, new.run_id)


def words_of_request(meta: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, str]:
    """What a request says, and for whom, as it is signed: from its entry."""
    told = {name: str(meta.get(name, "")) for name in ("agent", "user", "tenant", "again")}
    return told | {name: str(content.get(name, "")) for name in ("text", "plan", "called_from")}


def labels_text(labels: Labels) -> str:
    """Labels as the run's row has them."""
    return "" if labels == CLEAN else labels.model_dump_json(exclude_defaults=True)


def labels_of_text(text: str) -> Labels:
    """Labels of the run's row."""
    return Labels.model_validate_json(text) if text else CLEAN


OPEN = Statement(
    NEW_HEAD.values(
        execution=bindparam("by"),
        model=bindparam("pinned"),
        agent_version=bindparam("version"),
        status=RunStatus.RUNNING,
        trace_id=bindparam("trace"),
        contracts=bindparam("tools"),
    )
)
CLOSE = Statement(NEW_HEAD.values(status=bindparam("became"), closed_at=bindparam("at")))


@dataclass(frozen=True, kw_only=True)
class NewOpening:
    """What a run is opened with."""

    execution: str
    """Of the workflow: the first one's id."""
    model: str
    agent_version: str
    trace_id: str = ""
    contracts: Mapping[str, str] = field(default_factory=dict[str, str])
    """The versions of the agent's tools, by name."""


class OpenedRow(NamedTuple):
    """A run that was opened."""

    anchor: Anchor
    limits: Limits | None
    """What it may use, if it is a child; else its agent says."""


def open_run(connection: Connection, run_id: str, new: NewOpening) -> OpenedRow:
    """Bind a requested run to its workflow execution, and pin the model and the versions of the tools, once.

    Raises:
        LedgerConflict: Another execution already has this run id, or its parent does not need it any more.
    """
    run = read_run(connection, run_id)
    if run.status.closed and not run.execution:
        raise LedgerConflict(f"run {run_id!r} was closed as {run.status} before it was opened: nothing is done")
    if run.execution:
        opened = find(connection, run_id, "opened", "")
        if run.execution != new.execution or opened is None:
            raise LedgerConflict(
                f"run id {run_id!r} was already run by execution {run.execution}; a run id is never reused, "
                "not even after its run has closed: start again under a new id"
            )
        return OpenedRow(opened.anchor, run.limits)
    meta = {
        "model": new.model,
        "agent_version": new.agent_version,
        "execution": new.execution,
        "contracts": dict(new.contracts),
    }
    [anchor] = append(
        connection,
        run_id,
        [NewEntry(kind="opened", ref="", meta=meta)],
        OPEN,
        by=new.execution,
        pinned=new.model,
        version=new.agent_version,
        trace=run.trace_id or new.trace_id,
        tools=canonical_json(dict(new.contracts)),
    )
    return OpenedRow(anchor, run.limits)


def close_run(connection: Connection, run_id: str, close: CloseInput) -> tuple[RunRow, Anchor]:
    """Write down how a run ended, once for each of its branches. The first word stands."""
    run = read_run(connection, run_id)
    ref = str(run.branch or "")
    found = find(connection, run_id, "closed", ref)
    if found is not None:
        return run, found.anchor
    meta: dict[str, Any] = {"status": close.status, "limit": close.limit, "work_seconds": round(close.work_seconds, 3)}
    if close.answered_by:
        meta["answered_by"] = close.answered_by
    reason = (reason_at(connection, run_id, close.entry) if close.entry else "") or close.reason
    entry = NewEntry(kind="closed", ref=ref, meta=meta, content={"reason": reason} if reason else None)
    [anchor] = append(connection, run_id, [entry], CLOSE, became=close.status, at=now_ms())
    return read_run(connection, run_id), anchor


FIELDS = (
    runs.c.run_id, runs.c.chain_id, runs.c.execution, runs.c.agent, runs.c.agent_version, runs.c.model, runs.c.user,
    runs.c.tenant, runs.c.status, runs.c.trace_id, runs.c.head_seq, runs.c.turns, runs.c.calls, runs.c.tokens,
    runs.c.cost_micros, runs.c.contracts, runs.c.branches, runs.c.parent, runs.c.limits, runs.c.turns_below,
    runs.c.calls_below, runs.c.labels, runs.c.called_from,
)  # fmt: skip


READ = Statement(select(*FIELDS).where(runs.c.run_id == bindparam("id")))


def read_run(connection: Connection, run_id: str) -> RunRow:
    """One run.

    Raises:
        RunNotFound: There is none of that id.
    """
    row = READ.first(connection, {"id": run_id})
    if row is None:
        raise RunNotFound(f"the ledger has no run {run_id!r}; `handfast runs` lists those it has")
    fields: dict[str, Any] = {column.name: value for column, value in zip(FIELDS, row, strict=True)}
    fields["status"] = RunStatus(row.status)
    fields["contracts"] = json.loads(row.contracts)
    fields["branches"] = tuple(json.loads(row.branches))
    fields["limits"] = Limits.model_validate_json(row.limits) if row.limits else None
    fields["labels"] = labels_of_text(row.labels)
    fields["called_from"] = CalledFrom.of_text(row.called_from)
    return RunRow(**fields)


BLOCKED = operations.c.undoing == "blocked"
"""Of which rows of `operations` that is true: a call that could not be undone, and waits for a person."""


def list_runs(
    connection: Connection,
    *,
    limit: int | None,
    waiting: bool = False,
    blocked: bool = False,
    run_id: str | None = None,
    parent: str | None = None,
) -> list[RunSummary]:
    """The newest runs first; with `waiting`, only those that wait for a person, with `blocked` those that could not be undone.

    With `parent` those that it has begun, the oldest first.
    """
    pending = (
        select(
            operations.c.run_id,
            func.sum(case((operations.c.state == "waiting", 1), else_=0)).label("waiting"),
            func.sum(case((operations.c.outcome == Outcome.UNKNOWN, 1), else_=0)).label("unknown"),
            func.sum(case((BLOCKED, 1), else_=0)).label("blocked"),
        )
        .where((operations.c.left_by == 0) | BLOCKED)
        .where((operations.c.state == "waiting") | (operations.c.outcome == Outcome.UNKNOWN) | BLOCKED)
        .group_by(operations.c.run_id)
        .subquery()
    )
    query = select(
        *FIELDS, runs.c.requested_at, runs.c.closed_at, pending.c.waiting, pending.c.unknown, pending.c.blocked
    )
    query = query.select_from(runs.join(pending, pending.c.run_id == runs.c.run_id, isouter=not (waiting or blocked)))
    when = runs.c.requested_at.desc() if parent is None else runs.c.requested_at
    query = query.order_by(when, runs.c.run_id).limit(limit)
    if parent is not None:
        query = query.where(runs.c.parent == parent)
    if waiting:
        query = query.where(runs.c.closed_at.is_(None))
    if blocked:
        query = query.where(pending.c.blocked > 0)
    if run_id is not None:
        query = query.where(runs.c.run_id == run_id)
    return [
        RunSummary(
            run_id=row.run_id,
            agent=row.agent,
            status=RunStatus(row.status),
            user=row.user,
            tenant=row.tenant,
            model=row.model,
            turns=row.turns,
            calls=row.calls,
            tokens=row.tokens,
            cost_usd=row.cost_micros / 1e6,
            requested_at=moment(row.requested_at),
            closed_at=None if row.closed_at is None else moment(row.closed_at),
            waiting=int(row.waiting or 0),
            unknown=int(row.unknown or 0),
            blocked=int(row.blocked or 0),
            parent=row.parent,
            called_from=CalledFrom.of_text(row.called_from),
        )
        for row in connection.execute(query)
    ]
