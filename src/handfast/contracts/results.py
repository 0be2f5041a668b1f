"""What a caller gets back: operations, events, the result of a run."""

from datetime import datetime
from typing import Any

from handfast.contracts.called_from import NOWHERE, CalledFrom
from handfast.contracts.effects import Effect, Outcome, RunStatus, Tier
from handfast.contracts.messages import Frozen, Usage


class Operation(Frozen):
    """One intended tool call, from the ledger."""

    operation_id: str
    turn: int
    index: int
    tool: str
    version: str
    digest: str
    effect: Effect | None
    tier: Tier | None
    state: str
    """`asked`, `waiting`, `reserved`, `pending` or `settled`."""
    outcome: Outcome | None
    reason: str
    attempts: int
    arguments: Any
    result: Any
    """What the tool returned, or the error `{code, message, hint, fields, operation}`; None if erased or not settled."""
    asked_at: datetime
    settled_at: datetime | None
    left_by: int = 0
    """The branch that has left it behind: the run was reset, and did not ask for it again. 0 for none."""
    child: str = ""
    """The run that carries it out, if it is one."""


class WaitingCall(Frozen):
    """A call that waits for a person's decision, from the ledger."""

    run_id: str
    operation_id: str
    digest: str
    """What a decision is bound to."""
    tool: str
    version: str
    tier: Tier
    arguments: Any
    reason: str
    """Why it waits: what of a policy, or which suspicion."""
    agent: str
    user: str
    tenant: str
    parent: str
    """The run that has begun its run, if one has."""
    turn: int
    asked_at: datetime
    agreed: tuple[str, ...] = ()
    """Who has approved it already, where one more must."""


class Origin(Frozen):
    """Where one value among the arguments of a call came from, as far as it stands anywhere."""

    path: str
    """Of the argument: `to`, or `items.price`."""
    value: Any
    where: str
    """`the user's words`, or a tool and its field; empty if it stands nowhere: the model's own."""
    trusted: bool
    """Not among words of others."""


class Event(Frozen):
    """One ledger entry, as `run.events()` yields it."""

    run_id: str
    sequence: int
    kind: str
    """`requested`, `opened`, `turn`, `repeated`, `said`, `held`, `granted`, `decided`, `refused`, `withdrawn`, `unheld`, `reserved`,
    `released`, `failed`, `checkpoint`, `pending`, `child`, `settled`, `resolved`, `late`, `branch`, `undo`, `undone`, `blocked`,
    `unblocked`, `closed` or `erased`."""
    at: datetime
    reference: str
    data: dict[str, Any]
    """What is not content: tool names, outcomes, usage, cost."""
    content: Any
    """Text, arguments and results; None once erased."""


class Notice(Frozen):
    """Something the owner of a tool should know; told by the engine, not by a run."""

    kind: str
    """`upstream_deprecated`: a service announced its end; `late_effect`: a call may have happened although, or more often
    than, its outcome says; `drift`: what does not fit a tool's contract happens more often than it did."""
    subject: str
    """What it is about; one notice stands for each kind and subject."""
    text: str
    owner: str = ""
    """Who answers for the tool, by its contract."""
    first_at: datetime | None = None
    last_at: datetime | None = None
    count: int = 1
    """How often it was told."""


class Undo(Frozen):
    """What became of undoing one call."""

    operation: str
    """The call that was to be undone."""
    tool: str
    turn: int
    undone: bool
    reason: str = ""
    """Why what it did stands: nothing undoes such a call, somebody left it, or what undoes it has not succeeded."""
    blocked: bool = False
    """It waits for a person."""
    attempts: int = 0
    """How often it was tried."""
    child: str = ""
    """The run whose call it was, where that is a child of the one that was undone."""


class RunResult(Frozen):
    """How a run ended."""

    run_id: str
    status: RunStatus
    text: str
    """The final answer, or the last words so far if the run ended without one."""
    output: Any = None
    """The typed answer as plain data, if the agent declares an output type."""
    limit: str = ""
    """The limit that ended the run, if one did."""
    reason: str = ""
    turns: int
    calls: int
    tokens: int
    """All tokens, those of repeated model calls and of children included."""
    usage: Usage
    """Tokens of its own settled model calls, by kind."""
    cost_usd: float
    """With that of its children."""
    operations: tuple[Operation, ...]
    undone: tuple[Undo, ...] = ()
    """What was undone since the run ended badly, in the order in which it was."""
    not_undone: tuple[Undo, ...] = ()
    """What stands although it was to be undone, with the reasons."""


class Stalled(Frozen):
    """An activity of a run that keeps failing, and is tried again until it succeeds."""

    activity: str
    attempts: int
    """How often it was tried."""
    reason: str
    """Why it failed the last time."""


class RunSummary(Frozen):
    """One line of the list of runs."""

    run_id: str
    agent: str
    status: RunStatus
    user: str
    tenant: str
    model: str
    turns: int
    calls: int
    tokens: int
    cost_usd: float
    requested_at: datetime
    closed_at: datetime | None
    waiting: int
    """Calls that wait for an approval."""
    unknown: int
    """Calls whose outcome a person must resolve."""
    blocked: int = 0
    """Calls that could not be undone: a person must say `retry`, `skip` or `done`."""
    parent: str = ""
    """The run that has begun it, as a call of its model or its plan."""
    called_from: CalledFrom = NOWHERE
    """From where it was asked for."""
