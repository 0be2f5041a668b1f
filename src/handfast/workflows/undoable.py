"""What every workflow has that undoes something: its saga, and a person's word on what could not be undone."""

from temporalio import workflow

from handfast.workflows.saga import Saga
from handfast.workflows.words import require_short

with workflow.unsafe.imports_passed_through():
    from handfast.contracts import names
    from handfast.contracts.wire_words import UndoWord


class Undoable:
    """A workflow with a saga."""

    _saga: Saga
    stalled: dict[str, str]
    """What it can't get done at the moment, see `book`."""

    @workflow.update(name=names.UNBLOCK)
    async def unblock(self, word: UndoWord) -> None:
        """Say what becomes of a call that could not be undone."""
        await self._saga.take(word)

    @unblock.validator
    def _check_unblock(self, word: UndoWord) -> None:
        require_short(word.grant, word.by, word.reason)
        self._saga.require_owed(word)
