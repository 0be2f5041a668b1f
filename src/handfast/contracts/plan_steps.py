"""What travels over Temporal of a plan's steps: ids and flags, never arguments or results."""

from handfast.contracts.wire_model import Wire


class PlanStep(Wire):
    """What a plan's workflow sees of a step: enough to decide and schedule, never the arguments."""

    id: str
    after: tuple[str, ...] = ()
    """The steps that must have ended before."""
    any_of: tuple[str, ...] = ()
    """Of those, the ones of which the first success is enough."""
    each: bool = False
    parallel: int = 1
    ways: int = 1
    retries: int = 0
    go_on: bool = False
    """If it fails, the plan goes on without its result."""
    instead: str = ""
    """The step that is taken if it fails."""
    owner: str = ""
    """The step instead of which it is taken, if it is an alternative."""


class PlanProgress(Wire):
    """How far one step has come, as a plan's run takes it along."""

    id: str
    state: str = ""
    next: int = 0
    total: int = 0
    failed: int = 0


class StepAsk(Wire):
    """Calls of one step that are about to be asked for."""

    step: str
    first: int = 0
    """The first item of a `for_each`."""
    count: int = 1
    retry: int = 0
    """Which time a single call is asked for again; 0 for the first time."""


class StepAsked(StepAsk):
    """What became of that. It is what stands: a turn that was settled before may have asked for other calls than those wanted now."""

    heads: int = 0
    """How many calls it has in this turn."""
    total: int = 0
    """How many items there are."""
    skipped: bool = False
    fault: str = ""
    """Why it can't be asked for."""


class PlanTurnInput(Wire):
    """The input of `plan_turn`."""

    turn: int
    asks: tuple[StepAsk, ...] = ()
    """None to write down what the plan returns."""
    branch: int = 0
    closes: float | None = None
    """The run ends with this turn, and is closed with it: the seconds it has worked; before the calls, if they are to settle it."""
