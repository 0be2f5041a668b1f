"""What travels over Temporal: one frozen model per activity, signal and update.

Everything here ends up in workflow history, so it holds decisions and references, never contents, and fields that
have their default value are not written. A new field always has a default, so that old histories can be read.
"""

from typing import Literal

from pydantic import Field

from handfast.contracts.effects import Effect, Lane, Outcome, RunStatus, Verdict
from handfast.contracts.limits import Limits, Used
from handfast.contracts.plan_steps import PlanProgress, PlanStep, PlanTurnInput, StepAsk, StepAsked
from handfast.contracts.wire_model import Anchor, Wire
from handfast.contracts.wire_words import Blocked, Decision, Resolution, Said, Waiting

ChildKind = Literal["", "AgentRun", "PlanRun"]


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
    failed: str = ""
    """Why the run fails: an answer that can't be used, after the model was told so."""
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
    entry: int = 0
    """The ledger's entry that says why the run failed, in the place of `reason`; 0 for none."""


class RunClosed(Wire):
    """The result of the workflow. The answer is in the ledger; `Client` and `handfast show` read it there."""

    status: RunStatus
    limit: str = ""
    turns: int = 0
    calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    left: tuple[str, ...] = ()
    """Children that go on and that nobody waits for any more: a reset has left their calls behind."""
    anchor: Anchor = (0, "")


class RunState(Wire):
    """The answer to the query `state`."""

    status: RunStatus = RunStatus.RUNNING
    turn: int = 0
    used: Used = Used()
    paused: bool = False
    waiting: tuple[Waiting, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    """Calls that could not be undone."""
    stalled: dict[str, str] = Field(default_factory=dict[str, str])
    """By activity of the engine that keeps failing, and is tried again until it succeeds: why it failed first."""


for _model in (Carried, PlanCarried, PlanRequest, OpenedPlan, TurnResult, CallInput, CallResult, Job):
    _model.model_rebuild()
