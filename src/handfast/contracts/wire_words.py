"""What travels over Temporal of what people say to a run, and of what waits for their word."""

from typing import Literal

from handfast.contracts.wire_model import Wire


class Said(Wire):
    """Something the user says during a run: by reference to the ledger, or (through plain Temporal) as text."""

    ref: int = 0
    text: str = ""


class Waiting(Wire):
    """A call that waits for a person."""

    operation: str
    digest: str
    tool: str
    show: str = ""
    reason: str = ""
    unknown: bool = False
    """It waits for a resolution, not for an approval."""


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


class Blocked(Wire):
    """A call that could not be undone, and waits for a person."""

    operation: str
    tool: str
    show: str = ""
    reason: str


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
