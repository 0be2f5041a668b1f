"""The append-only, hash-chained record of runs, turns, calls, decisions and outcomes, in SQLite or PostgreSQL."""

from holdfast.ledger.branches import Orphan
from holdfast.ledger.children import NewChild
from holdfast.ledger.decisions import Judge, Judged
from holdfast.ledger.joined import LastTurn, SettledTurn, TurnAhead
from holdfast.ledger.late import Settlement
from holdfast.ledger.ledger import Ledger
from holdfast.ledger.looked import Looked, NotAskedFor, State
from holdfast.ledger.operations import DuplicateSuspected, OperationMoved, Settled
from holdfast.ledger.plans import PlanContext, StepResults
from holdfast.ledger.provenance import Material, Returned
from holdfast.ledger.runs import NewOpening, NewRun, RunRow
from holdfast.ledger.throttle import Throttle, Throttled
from holdfast.ledger.transcript import Heard, PastTurn, ToldResult, TurnContext
from holdfast.ledger.turns import AskedCall, NewTurn
from holdfast.ledger.undo import ToUndo
from holdfast.ledger.unfinished import Unfinished
from holdfast.ledger.verify import Verification

__all__ = [
    "AskedCall",
    "DuplicateSuspected",
    "Heard",
    "Judge",
    "Judged",
    "LastTurn",
    "Ledger",
    "Looked",
    "Material",
    "NewChild",
    "NewOpening",
    "NewRun",
    "NewTurn",
    "NotAskedFor",
    "OperationMoved",
    "Orphan",
    "PastTurn",
    "PlanContext",
    "Returned",
    "RunRow",
    "Settled",
    "SettledTurn",
    "Settlement",
    "State",
    "StepResults",
    "Throttle",
    "Throttled",
    "ToUndo",
    "ToldResult",
    "TurnAhead",
    "TurnContext",
    "Unfinished",
    "Verification",
]
