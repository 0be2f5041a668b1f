"""Conditions of plans, in the Common Expression Language (CEL): no loops, no side effects, no way out of what it is given."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from handfast.contracts.errors import SettingsError

LONGEST = 1000
NAMES = frozenset({"request", "steps", "item", "index"})
"""What a condition may speak of."""


class ConditionFailed(Exception):
    """A condition has no truth value for what it was given."""


@lru_cache(maxsize=512)
def _program(text: str) -> Any:
    try:
        import celpy
    except ImportError as error:
        msg = "conditions need the extra `plans`: pip install 'handfast[plans]'"
        raise SettingsError(msg) from error
    environment = celpy.Environment()
    return environment.program(environment.compile(text))


def condition_fault(text: str) -> str:
    """Why a text is no condition; empty if it is one."""
    from celpy.celparser import CELParseError

    if len(text) > LONGEST:
        return f"it has {len(text)} characters, allowed are {LONGEST}"
    try:
        _program(text)
    except CELParseError as error:
        return f"it is no CEL expression: {str(error).splitlines()[0]}"
    return ""


def holds(text: str, given: Mapping[str, Any]) -> bool:
    """Whether a condition is true of what is given, as JSON values by name.

    Raises:
        ConditionFailed: It speaks of what is not there, compares what can't be compared, or is neither true nor false.
    """
    from celpy.adapter import json_to_cel
    from celpy.evaluation import CELEvalError

    program = _program(text)
    try:
        found = program.evaluate({name: json_to_cel(value) for name, value in given.items()})
    except CELEvalError as error:
        msg = f"the condition {text!r} can't be decided: {error.args[0] if error.args else error}"
        raise ConditionFailed(msg) from error
    if type(found).__name__ not in {"BoolType", "bool"}:
        msg = f"the condition {text!r} is neither true nor false"
        raise ConditionFailed(msg)
    return bool(found)
