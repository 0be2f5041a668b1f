"""What a plan writes down one after the other with nothing in between, in one commit."""

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from holdfast.contracts.effects import Outcome
from holdfast.contracts.errors import LedgerConflict
from holdfast.contracts.wire import CloseInput, TurnResult
from holdfast.contracts.wire_model import Anchor
from holdfast.ledger.children import close_with_left
from holdfast.ledger.late import Settlement
from holdfast.ledger.operations import Settled, settle
from holdfast.ledger.runs import NewOpening, OpenedRow, RunRow, open_run
from holdfast.ledger.turns import NewTurn, settle_turn


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
class SettledCall:
    """What stands of a call, and the turn that followed, if that was settled with it."""

    call: Settled
    next: SettledTurn | None = None


@dataclass(frozen=True, kw_only=True)
class LastTurn:
    """What stands of a turn, and how the run was closed, if that turn was its last."""

    turn: SettledTurn
    closed: tuple[RunRow, Anchor] | None = None


def open_and_ask(connection: Connection, run_id: str, opening: NewOpening, first: NewTurn) -> Opened:
    """Open a run, and settle its first turn; see `runs.open_run` and `turns.settle_turn`."""
    return Opened(row=open_run(connection, run_id, opening), first=_settled_turn(connection, run_id, first))


def settle_and_ask(
    connection: Connection, run_id: str, operation_id: str, owner: str, new: Settlement, ahead: NewTurn
) -> SettledCall:
    """Settle a call, and if it stands as it was found to have succeeded here, the turn that follows it."""
    call = settle(connection, run_id, operation_id, owner, new)
    stands = call.mine and new.outcome is Outcome.SUCCEEDED
    return SettledCall(call=call, next=_settled_turn(connection, run_id, ahead) if stands else None)


def ask_and_close(connection: Connection, run_id: str, new: NewTurn, close: CloseInput, *, execution: str) -> LastTurn:
    """Settle a turn, and if it asks for nothing more, close the run; see `children.close_with_left`."""
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
