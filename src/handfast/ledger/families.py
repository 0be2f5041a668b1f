"""What the ledger keeps of calls that are runs of their own: their beginning, their end, and their undoing."""

from typing import TYPE_CHECKING

from handfast.contracts.results import RunSummary
from handfast.contracts.wire import CallInput, CallResult
from handfast.ledger import children, runs
from handfast.ledger.children import Marks, NewChild

if TYPE_CHECKING:
    from handfast.ledger.ledger import Ledger


class Families:
    """Runs and those they have begun."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger

    async def children(self, run_id: str) -> list[RunSummary]:
        """The runs that a run has begun, the oldest first."""
        return await self._ledger.read(runs.list_runs, limit=None, parent=run_id)

    async def begin(self, call: CallInput, new: NewChild) -> CallResult | None:
        """Write down that a call is begun as a run of its own; see `children.begin_child`."""
        return await self._ledger.write(children.begin_child, call, new)

    async def end(
        self, run_id: str, call: CallInput, *, unstarted: bool, marks: Marks | None = None
    ) -> CallResult | None:
        """Settle a call with what became of its run; see `children.end_child`."""
        return await self._ledger.write(children.end_child, run_id, call, unstarted=unstarted, marks=marks)

    async def undo(self, run_id: str, call: CallInput) -> bool:
        """Settle what undoes a call that is a run of its own; see `children.undo_child`."""
        return await self._ledger.write(children.undo_child, run_id, call)

    async def left(self, run_id: str) -> list[str]:
        """The children of a run that go on; see `children.list_left`."""
        return await self._ledger.read(children.list_left, run_id)
