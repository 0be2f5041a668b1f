"""What travels over Temporal of undoing."""

from handfast.contracts.wire import CallInput
from handfast.contracts.wire_model import Anchor, Wire


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
