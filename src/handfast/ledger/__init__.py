"""The append-only, hash-chained record of runs, turns, calls, decisions and outcomes, in SQLite or PostgreSQL."""

from handfast.ledger.branches import Orphan
from handfast.ledger.children import NewChild
from handfast.ledger.decisions import Judge, Judged
from handfast.ledger.joined import LastTurn, SettledTurn, TurnAhead
from handfast.ledger.late import Settlement
from handfast.ledger.ledger import Ledger
from handfast.ledger.looked import Looked, NotAskedFor, State
from handfast.ledger.operations import DuplicateSuspected, OperationMoved, Settled
from handfast.ledger.plans import PlanContext, StepResults
from handfast.ledger.provenance import Material, Returned
from handfast.ledger.reasons import Failure
from handfast.ledger.runs import NewOpening, NewRun, RunRow
from handfast.ledger.throttle import Throttle, Throttled
from handfast.ledger.transcript import Heard, PastTurn, ToldResult, TurnContext
from handfast.ledger.turns import AskedCall, NewTurn
from handfast.ledger.undo import ToUndo
from handfast.ledger.unfinished import Unfinished
from handfast.ledger.unsettled import FailedSettlement, StoredAnswer
from handfast.ledger.verify import Verification

__all__ = [
    "AskedCall",
    "DuplicateSuspected",
    "FailedSettlement",
    "Failure",
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
    "StoredAnswer",
    "Throttle",
    "Throttled",
    "ToUndo",
    "ToldResult",
    "TurnAhead",
    "TurnContext",
    "Unfinished",
    "Verification",
]
