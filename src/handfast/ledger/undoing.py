"""What the ledger keeps of undoing: what a run owes, what was found, what stands in the way, and what became of it."""

from typing import TYPE_CHECKING, Any

from handfast.contracts.effects import Outcome
from handfast.contracts.results import Undo
from handfast.contracts.wire_undo import UndoInput, Undone, UndoPlan
from handfast.contracts.wire_words import UndoWord
from handfast.ledger import undo, undo_listing
from handfast.ledger.decisions import Judge
from handfast.ledger.undo import ToUndo

if TYPE_CHECKING:
    from handfast.ledger.ledger import Ledger


class Undoing:
    """The undoing of runs."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger

    async def begin(self, run_id: str, given: UndoInput, ref: str) -> UndoPlan:
        """Write down that a run is undone; see `undo.begin_undo`."""
        return await self._ledger.write(undo.begin_undo, run_id, given, ref)

    async def owed(self, run_id: str, to: str = "") -> list[tuple[str, str, int]]:
        """What would be undone now; see `undo.list_owed`."""
        return await self._ledger.read(undo.list_owed, run_id, to)

    async def to_undo(self, run_id: str, operation_id: str) -> ToUndo:
        """The call that an operation undoes; see `undo.read_to_undo`."""
        return await self._ledger.read(undo.read_to_undo, run_id, operation_id)

    async def record_found(self, run_id: str, operation_id: str, *, happened: bool, result: Any) -> bool:
        """Write down what was found of a call in doubt; see `undo.record_found`."""
        return await self._ledger.write(undo.record_found, run_id, operation_id, happened=happened, result=result)

    async def block(
        self, run_id: str, operation_id: str, compensation: str, reason: str, *, seen: Outcome | None = None
    ) -> bool:
        """Write down that a call could not be undone; see `undo.block`."""
        return await self._ledger.write(undo.block, run_id, operation_id, compensation, reason, seen=seen)

    async def unblock(self, run_id: str, word: UndoWord, judge: Judge | None = None) -> Undone:
        """Write down a person's word on it; see `undo.unblock`."""
        return await self._ledger.write(undo.unblock, run_id, word, judge)

    async def undone(self, run_id: str) -> list[Undo]:
        """What became of undoing a run; see `undo_listing.list_undo`."""
        return await self._ledger.read(undo_listing.list_undo, run_id)

    async def rolled_back(self, run_id: str, operation_id: str) -> list[Undo] | None:
        """What became of one `roll_back`; see `undo_listing.list_rolled_back`."""
        return await self._ledger.read(undo_listing.list_rolled_back, run_id, operation_id)
