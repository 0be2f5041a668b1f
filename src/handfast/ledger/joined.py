"""What a plan writes down one after the other with nothing in between, in one commit."""

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from handfast.contracts.effects import Outcome
from handfast.contracts.errors import LedgerConflict
from handfast.contracts.wire import CloseInput, TurnResult
from handfast.contracts.wire_model import Anchor
from handfast.ledger.children import close_with_left, hold_parent
from handfast.ledger.late import Settlement
from handfast.ledger.operations import Settled, settle
from handfast.ledger.runs import NewOpening, OpenedRow, RunRow, open_run
from handfast.ledger.statement import Statement
from handfast.ledger.tables import operations
from handfast.ledger.turns import NewTurn, settle_turn


class SettledTurn(NamedTuple):
    """What stands of a turn."""

    result: TurnResult
    mine: bool
    """It is the one that was to be settled, not one of before."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A run that was opened, and its first turn, if that was settled with it."""

    row: OpenedRow
    first: SettledTurn | None = None


@dataclass(frozen=True, kw_only=True)
class LastTurn:
    """What stands of a turn, and how the run was closed, if that turn was its last."""

    turn: SettledTurn
    closed: tuple[RunRow, Anchor] | None = None


@dataclass(frozen=True, kw_only=True)
class SettledCall:
    """What stands of a call, and of the turn that followed, if that was settled with it."""

    call: Settled
    next: LastTurn | None = None


@dataclass(frozen=True, kw_only=True)
class TurnAhead:
    """A turn that is ready to be settled with the last call of the one before."""

    new: NewTurn
    close: CloseInput | None = None
    """How the run is closed with it, if it is the last."""
    execution: str = ""
    """Of the workflow: whose word on the close it is."""
    joins: bool = False
    """There are other calls in the turn before."""


NOT_SUCCEEDED = Statement(
    select(operations.c.operation_id)
    .where(operations.c.run_id == bindparam("run"), operations.c.left_by == 0, operations.c.turn == bindparam("number"))
    .where(operations.c.undoes == "", operations.c.outcome.is_(None) | (operations.c.outcome != Outcome.SUCCEEDED))
    .limit(1)
)


def open_and_ask(connection: Connection, run_id: str, opening: NewOpening, first: NewTurn) -> Opened:
    """Open a run, and settle its first turn; see `runs.open_run` and `turns.settle_turn`."""
    return Opened(row=open_run(connection, run_id, opening), first=_settled_turn(connection, run_id, first))


def settle_and_ask(
    connection: Connection, run_id: str, operation_id: str, owner: str, new: Settlement, ahead: TurnAhead
) -> SettledCall:
    """Settle a call, and if with it every call of its turn stands as having succeeded, the turn that follows.

    It was made for what this attempt has found: it is left to whoever comes later if something else stands of the call.
    """
    call = settle(connection, run_id, operation_id, owner, new)
    return SettledCall(call=call, next=ask_ahead(connection, run_id, ahead) if call.mine else None)


def ask_ahead(connection: Connection, run_id: str, ahead: TurnAhead) -> LastTurn | None:
    """Settle the turn that follows one all of whose calls have succeeded; None if they have not, or the run has branched since."""
    before = {"run": run_id, "number": ahead.new.turn - 1}
    if ahead.joins and NOT_SUCCEEDED.first(connection, before) is not None:
        return None
    turn = _settled_turn(connection, run_id, ahead.new)
    if turn is None or not turn.mine or ahead.close is None:
        return None if turn is None else LastTurn(turn=turn)
    return LastTurn(turn=turn, closed=close_with_left(connection, run_id, ahead.close, execution=ahead.execution))


def ask_and_close(connection: Connection, run_id: str, new: NewTurn, close: CloseInput, *, execution: str) -> LastTurn:
    """Settle a turn, and if it asks for nothing more, close the run; see `children.close_with_left`."""
    hold_parent(connection, run_id)
    turn = SettledTurn(*settle_turn(connection, run_id, new))
    if not turn.result.answered:
        return LastTurn(turn=turn)
    return LastTurn(turn=turn, closed=close_with_left(connection, run_id, close, execution=execution))


def _settled_turn(connection: Connection, run_id: str, new: NewTurn) -> SettledTurn | None:
    """None if the run has branched since: the rest of the commit stands, for of a turn without a budget nothing is written then."""
    try:
        return SettledTurn(*settle_turn(connection, run_id, new))
    except LedgerConflict:
        return None
