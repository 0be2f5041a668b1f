"""What travels over Temporal: one frozen model per activity, signal and update.

Everything here ends up in workflow history, so it holds decisions and references, never contents, and fields that
have their default value are not written. A new field always has a default, so that old histories can be read.
"""

from typing import Literal

from holdfast.contracts.effects import Effect, Lane, Outcome, RunStatus, Verdict
from holdfast.contracts.limits import Limits, Used
from holdfast.contracts.plan_steps import PlanProgress, PlanStep, PlanTurnInput, StepAsk, StepAsked
from holdfast.contracts.wire_model import Anchor, Wire

ChildKind = Literal["", "AgentRun", "PlanRun"]


class Said(Wire):
    """Something the user says during a run: by reference to the ledger, or (through plain Temporal) as text."""

    ref: int = 0
    text: str = ""


class Carried(Wire):
    """What a run takes along when it continues as new."""

    turn: int = 0
    used: Used = Used()
    said: tuple[Said, ...] = ()
    paused: bool = False
    opened: "Opened | None" = None
    runs: int = 0
    """How often it has continued as new."""
    branch: int = 0
    jobs: "tuple[Job, ...]" = ()
    """Calls whose work goes on in the background."""
    news: tuple[str, ...] = ()
    """Those that have ended, and the model was not told yet."""
    words: "tuple[Decision | Resolution, ...]" = ()
    """What people have said of them, and nobody has acted on yet."""
    resting: bool = False
    """The model has answered, and is asked again when there is news."""
    heard: tuple[int, ...] = ()
    """The references of what was said so far: said again, it is the same."""
    reviews: int = 0
    """How often something has changed for which calls that wait are looked at again."""
    worked: float = 0.0
    """Seconds that its calls have taken since the last turn."""


class RunRequest(Wire):
    """The input of `AgentRun`. With `text` it can be started by any Temporal client; ours sends `by_reference`."""

    agent: str
    text: str = ""
    user: str = ""
    tenant: str = "default"
    by_reference: bool = False
    """The request's text is in the ledger, under the run id."""
    continue_after_turns: int = 0
    """Continue as new after so many turns even if the server does not suggest it; 0 means never."""
    carried: Carried | None = None


class OpenInput(Wire):
    """The input of `open_run`."""

    request: RunRequest
    execution: str = ""
    """The first execution's id, which stays the same when the run continues as new or is reset."""


class Opened(Wire):
    """What `open_run` read from the agent and wrote down: everything the workflow decides with."""

    model: str
    agent_version: str = "1.0.0"
    limits: Limits = Limits()
    heartbeat_seconds: float = 5.0
    undo_on: tuple[RunStatus, ...] = ()
    """The endings after which what the run did is undone."""
    keeps: bool = False
    """Of a plan: if it fails, what it did stands, and whoever had it carried out decides."""
    closes: bool = False
    """Of a plan: its last turn closes it, if asked to. Runs of before this was so have it done by itself."""
    model_lane: Lane = Lane.STANDARD
    """Where its turns run. Only a model that answers at once may be asked in a local activity."""
    anchor: Anchor = (0, "")


class TurnInput(Wire):
    """The input of `model_turn`. The transcript and the outcomes of the last turn are read from the ledger."""

    turn: int
    said: tuple[Said, ...] = ()
    left: float = 0.0
    """Seconds of work left to the run: a model that fails is not asked again after that."""
    answer_now: str = ""
    """The limit that is nearly used up: the model is asked for its answer and may call no tools."""
    jobs: tuple[str, ...] = ()
    """Background operations that have ended since: the model is told what became of them."""
    branch: int = 0
    """Of the turn before: how often the run had been reset to think again, as far as the workflow knows."""
    undone: bool = False
    """Calls were undone since the last turn: what the model was told of them no longer holds."""
    worked: float = 0.0
    """Seconds that its calls have taken since the last turn, without those of runs that it has begun."""


class Head(Wire):
    """What the workflow sees of a tool call: enough to decide and schedule, never the contents."""

    id: str
    """The operation id."""
    tool: str
    digest: str
    show: str = ""
    verdict: Verdict = Verdict.RUN
    reason: str = ""
    effect: Effect = Effect.READ
    lane: Lane = Lane.STANDARD
    queue: str = ""
    timeout: float = 30.0
    """Seconds of one attempt."""
    conflict: str = ""
    pivot: bool = False
    """It commits the job: it is carried out once what was asked for before it in the turn has succeeded."""
    stoppable: bool = False
    """If it is stopped halfway, what it did can be looked up, or undone without knowing."""
    child: ChildKind = ""
    """It is a run of its own, of this workflow type; `queue` is then where that runs."""
    hand_off: bool = False
    """If it succeeds, its answer is the run's."""


class TurnResult(Wire):
    """The output of `model_turn`."""

    heads: tuple[Head, ...] = ()
    answered: bool = False
    """The message is the final answer; else the loop goes on."""
    refused: bool = False
    """The model declined."""
    full: bool = False
    """The conversation no longer fits the model's context."""
    calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    jobs: tuple[str, ...] = ()
    """The background operations whose end the model was told in this turn."""
    branch: int = 0
    asked: tuple[StepAsked, ...] = ()
    """Of a plan: what became of the steps that were asked for. Their heads are in the same order."""
    budget: str = ""
    """The budget of a policy that leaves no room for another turn: the run ends with this one."""
    closed: "RunClosed | None" = None
    """Of a plan: it was closed with this turn."""
    anchor: Anchor = (0, "")


class PlanCarried(Wire):
    """What a plan's run takes along when it continues as new."""

    opened: "Opened"
    steps: tuple[PlanStep, ...]
    progress: tuple[PlanProgress, ...] = ()
    again: tuple[StepAsk, ...] = ()
    """Calls that are to be asked for again."""
    turn: int = 0
    used: Used = Used()
    paused: bool = False
    committed: bool = False
    runs: int = 0
    reviews: int = 0


class PlanRequest(Wire):
    """The input of `PlanRun`. With `text`, the plan and its request as JSON, it can be started by any Temporal client."""

    agent: str
    text: str = ""
    user: str = ""
    tenant: str = "default"
    by_reference: bool = False
    continue_after_turns: int = 0
    """Continue as new after so many turns even if the server does not suggest it; 0 means never."""
    carried: PlanCarried | None = None


class OpenedPlan(Wire):
    """The output of `open_plan`."""

    opened: "Opened"
    steps: tuple[PlanStep, ...]
    first: "TurnResult | None" = None
    """The first turn, which was settled on the way."""


class CallInput(Wire):
    """The input of every tool's activity. The arguments are in the ledger."""

    id: str
    turn: int
    index: int = 0
    digest: str
    look: int = 0
    """Which look this is at work that an earlier execution left pending; 0 for none."""
    then: PlanTurnInput | None = None
    """Of a plan, where nothing but its turn goes on: what follows if all calls of that succeed, so that it is settled on the way."""
    beside: bool = False
    """There are other calls in its turn: the last of them settles what follows."""


class CallResult(Wire):
    """The output of every tool's activity and of `fence`. The result is in the ledger."""

    outcome: Outcome = Outcome.SUCCEEDED
    waiting: bool = False
    """The call needs an approval that the ledger does not have: it goes on waiting."""
    pending: float = 0.0
    """Its work goes on elsewhere: look again after so many seconds, or when woken. 0 if it has ended."""
    background: bool = False
    """The model has a receipt for it and goes on meanwhile. Its end is news, for a later turn."""
    next: "TurnResult | None" = None
    """The turn that followed, if it was settled on the way."""
    spent: Used | None = None
    """What a child has used, which counts for its parent, too."""
    anchor: Anchor = (0, "")


class ChildInput(Wire):
    """The input of `begin_child` and `end_child`: a call that is a run of its own."""

    call: CallInput
    left: float = 0.0
    """Seconds of work left to the parent."""
    look: int = 0
    """Which look this is at a child that has not ended in the ledger; 0 for the first."""
    unstarted: bool = False
    """Its workflow was not started from here, and is not needed any more."""


class ChildBegun(Wire):
    """The output of `begin_child`."""

    run_id: str = ""
    """Of the child, whose workflow may be started; empty if the call has come to its end without one, or waits."""
    agent: str = ""
    tenant: str = "default"
    user: str = ""
    result: CallResult | None = None
    """What stands about the call, if there is no child to start."""


class Job(Wire):
    """A call whose work goes on in the background, as a run takes it along."""

    head: Head
    call: CallInput


class Decision(Wire):
    """An approval or rejection of one operation, bound to its digest."""

    operation: str
    digest: str
    approve: bool
    by: str = ""
    reason: str = ""
    grant: str = ""
    """The same, signed by whoever decides. What is not signed does not count."""
    remember: bool = False
    """It counts for later calls, too: for which, the grant says."""
    changed: str = ""
    """The digest of the arguments that are approved in the place of these. They are in the ledger."""


class Resolution(Wire):
    """A person's word on what became of an operation whose outcome is UNKNOWN."""

    operation: str
    happened: bool
    by: str = ""
    note: str = ""
    grant: str = ""
    """The same, signed. What is not signed does not count."""


class UndoWord(Wire):
    """A person's word on a call that could not be undone."""

    operation: str
    """The call that was to be undone."""
    action: Literal["retry", "skip", "done"]
    """Try it again; leave what it did as it is; or it was undone by hand."""
    by: str = ""
    reason: str = ""
    grant: str = ""
    """The same, signed. What is not signed does not count."""


class Stuck(Wire):
    """A call that could not be undone, and for a reason that no worker has written down."""

    operation: str
    compensation: str
    """The operation that was to undo it."""
    reason: str


class RecordDecision(Wire):
    """The input of `record_decision`: exactly one of them."""

    decision: Decision | None = None
    resolution: Resolution | None = None
    unblock: UndoWord | None = None
    stuck: Stuck | None = None


class UndoInput(Wire):
    """The input of `begin_undo`."""

    cause: str
    """The ending for which what the run did is undone; `rollback` for an operator's word, `roll_back` for the model's, `pivot` where
    a person refused what would have committed the job."""
    reason: str = ""
    by: str = ""
    to: str = ""
    """Only the calls after this operation; all of them if empty."""
    by_call: str = ""
    """The call that asks for it: one of the model, which names the savepoint to go back to, or the pivot that was refused."""
    only: tuple[str, ...] = ()
    """Only these operations: the ways of a step that another one has won."""


class RollbackRequest(Wire):
    """The input of `RollbackRun`."""

    cause: str = "rollback"
    by: str = ""
    reason: str = ""
    to: str = ""
    """Only the calls after this operation; all of them if empty."""
    ends: bool = False
    """The run may go on: it is cancelled first, and comes to its end."""


class UndoStep(Wire):
    """One call that is to be undone."""

    call: CallInput
    """The operation that undoes it, with the place of the call it undoes."""
    undoes: str
    """That call's operation."""
    tool: str
    show: str = ""
    group: int
    """Calls of one turn have the same; later turns have higher ones."""
    queue: str = ""
    timeout: float = 30.0
    """Seconds of one attempt of the call itself."""
    conflict: str = ""
    pivot: bool = False
    """Nothing undoes it: what there is to do is to find out whether it has happened."""
    child: str = ""
    """The run that carried it out, which is undone as a whole."""


class UndoPlan(Wire):
    """The output of `begin_undo`: what is owed, the last call first."""

    steps: tuple[UndoStep, ...] = ()
    heartbeat_seconds: float = 5.0


class Undone(Wire):
    """The output of `compensate`, and of a person's word on one."""

    blocked: str = ""
    """Why it could not be undone; empty if it was, or need not be."""
    committed: bool = False
    """It turned out to have happened, and is a pivot: nothing before it is undone."""
    retry: str = ""
    """The operation that tries again."""
    owed: bool = False
    """Of a child: something of it is still owed. Nothing was settled."""
    anchor: Anchor = (0, "")


class Blocked(Wire):
    """A call that could not be undone, and waits for a person."""

    operation: str
    tool: str
    show: str = ""
    reason: str


class FenceInput(Wire):
    """The input of `fence`: close an operation to late attempts and say what became of it."""

    id: str
    reason: str = ""


class CloseInput(Wire):
    """The input of `close_run`."""

    status: RunStatus
    limit: str = ""
    reason: str = ""
    work_seconds: float = 0.0
    answered_by: str = ""
    """The operation whose result is the run's answer: it was handed over."""


class RunClosed(Wire):
    """The result of the workflow. The answer is in the ledger; `Client` and `holdfast show` read it there."""

    status: RunStatus
    limit: str = ""
    turns: int = 0
    calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    left: tuple[str, ...] = ()
    """Children that go on and that nobody waits for any more: a reset has left their calls behind."""
    anchor: Anchor = (0, "")


class Waiting(Wire):
    """A call that waits for a person."""

    operation: str
    digest: str
    tool: str
    show: str = ""
    reason: str = ""
    unknown: bool = False
    """It waits for a resolution, not for an approval."""


class RunState(Wire):
    """The answer to the query `state`."""

    status: RunStatus = RunStatus.RUNNING
    turn: int = 0
    used: Used = Used()
    paused: bool = False
    waiting: tuple[Waiting, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    """Calls that could not be undone."""


for _model in (Carried, PlanCarried, PlanRequest, OpenedPlan, TurnResult, CallInput, CallResult, Job):
    _model.model_rebuild()
