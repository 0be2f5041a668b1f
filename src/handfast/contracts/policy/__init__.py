"""Policies: which calls run, which wait for a person, which are refused. Data and pure functions, no I/O but reading a file."""

from handfast.contracts.policy.arguments import Condition
from handfast.contracts.policy.file import parse_policy, read_policy
from handfast.contracts.policy.hooks import Hook, HookWord
from handfast.contracts.policy.hours import Hours
from handfast.contracts.policy.model import Blocked, Budget, Case, CaseCall, Limit, Policy, Rule
from handfast.contracts.policy.permit import Permit, Provenance, permit
from handfast.contracts.policy.proposed import Caller, ProposedCall, proposed
from handfast.contracts.policy.ruling import Ruling, judge, judge_all

__all__ = [
    "Blocked",
    "Budget",
    "Caller",
    "Case",
    "CaseCall",
    "Condition",
    "Hook",
    "HookWord",
    "Hours",
    "Limit",
    "Permit",
    "Policy",
    "ProposedCall",
    "Provenance",
    "Rule",
    "Ruling",
    "judge",
    "judge_all",
    "parse_policy",
    "permit",
    "proposed",
    "read_policy",
]
