"""Durable tool-using AI agents on Temporal: a crash never repeats a side effect.

Declaring agents imports no Temporal and no database; `Client` and `Script` are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

from holdfast.contracts.agent import Agent
from holdfast.contracts.backoff import Backoff, BackoffKind
from holdfast.contracts.called_from import CalledFrom
from holdfast.contracts.clauses import Cache, Deprecation, Rate
from holdfast.contracts.compensation import Compensation, compensation
from holdfast.contracts.context import ToolContext
from holdfast.contracts.effects import Effect, Lane, Outcome, RunStatus, Tier, Verdict
from holdfast.contracts.endpoint import Endpoint
from holdfast.contracts.errors import (
    ContractError,
    DecisionRefused,
    EngineUnavailable,
    HoldfastError,
    LedgerUnavailable,
    ModelError,
    RunFailed,
    RunIdTaken,
    RunNotFound,
    SettingsError,
    ToolError,
)
from holdfast.contracts.grants import SigningKey
from holdfast.contracts.limits import Limits
from holdfast.contracts.model import Model
from holdfast.contracts.pending import Pending
from holdfast.contracts.plan import Plan
from holdfast.contracts.plan_file import read_plan
from holdfast.contracts.policy import Condition, HookWord, Policy, ProposedCall, Rule, read_policy
from holdfast.contracts.price import Price
from holdfast.contracts.results import Event, Operation, RunResult, RunSummary, Undo
from holdfast.contracts.tool import Tool, tool

if TYPE_CHECKING:
    from holdfast.client import Client, Run
    from holdfast.llm import Script, ask

_LAZY = {
    "Client": "holdfast.client",
    "Run": "holdfast.client",
    "Script": "holdfast.llm",
    "ask": "holdfast.llm",
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
    "HoldfastError",
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
        msg = f"module 'holdfast' has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
