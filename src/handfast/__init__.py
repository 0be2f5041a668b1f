"""Durable tool-using AI agents on Temporal: a crash never repeats a side effect.

Declaring agents imports no Temporal and no database; `Client` and `Script` are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

from handfast.contracts.agent import Agent
from handfast.contracts.backoff import Backoff, BackoffKind
from handfast.contracts.called_from import CalledFrom
from handfast.contracts.clauses import Cache, Deprecation, Rate
from handfast.contracts.compensation import Compensation, compensation
from handfast.contracts.context import ToolContext
from handfast.contracts.effects import Effect, Lane, Outcome, RunStatus, Tier, Verdict
from handfast.contracts.endpoint import Endpoint
from handfast.contracts.errors import (
    ContractError,
    DecisionRefused,
    EngineUnavailable,
    HandfastError,
    LedgerUnavailable,
    ModelError,
    RunFailed,
    RunIdTaken,
    RunNotFound,
    SettingsError,
    ToolError,
)
from handfast.contracts.grants import SigningKey
from handfast.contracts.limits import Limits
from handfast.contracts.model import Model
from handfast.contracts.pending import Pending
from handfast.contracts.plan import Plan
from handfast.contracts.plan_file import read_plan
from handfast.contracts.policy import Condition, HookWord, Policy, ProposedCall, Rule, read_policy
from handfast.contracts.price import Price
from handfast.contracts.results import Event, Operation, RunResult, RunSummary, Undo
from handfast.contracts.tool import Tool, tool

if TYPE_CHECKING:
    from handfast.client import Client, Run
    from handfast.llm import Script, ask

_LAZY = {
    "Client": "handfast.client",
    "Run": "handfast.client",
    "Script": "handfast.llm",
    "ask": "handfast.llm",
}

__all__ = [
    "Agent",
    "Backoff",
    "BackoffKind",
    "Cache",
    "CalledFrom",
    "Client",
    "Compensation",
    "Condition",
    "ContractError",
    "DecisionRefused",
    "Deprecation",
    "Effect",
    "Endpoint",
    "EngineUnavailable",
    "Event",
    "HandfastError",
    "HookWord",
    "Lane",
    "LedgerUnavailable",
    "Limits",
    "Model",
    "ModelError",
    "Operation",
    "Outcome",
    "Pending",
    "Plan",
    "Policy",
    "Price",
    "ProposedCall",
    "Rate",
    "Rule",
    "Run",
    "RunFailed",
    "RunIdTaken",
    "RunNotFound",
    "RunResult",
    "RunStatus",
    "RunSummary",
    "Script",
    "SettingsError",
    "SigningKey",
    "Tier",
    "Tool",
    "ToolContext",
    "ToolError",
    "Undo",
    "Verdict",
    "ask",
    "compensation",
    "read_plan",
    "read_policy",
    "tool",
]


def __getattr__(name: str) -> Any:
    """Import what needs Temporal or a provider's SDK when it is first used."""
    if name not in _LAZY:
        msg = f"module 'handfast' has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
