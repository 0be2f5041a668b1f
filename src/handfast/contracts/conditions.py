"""Conditions of plans, in the Common Expression Language (CEL): no loops, no side effects, no way out of what it is given."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from handfast.contracts.condition_evaluator import Undecided, decide, load_cel
from handfast.contracts.condition_syntax import Loop, Name, Node, children, nodes, read_tree
from handfast.contracts.errors import SettingsError

MAX_LENGTH = 1000
MAX_NESTED_MACROS = 2
MAX_QUOTED = 100
NAMES = frozenset({"request", "steps"})
"""What a condition may speak of."""
ITEM_NAMES = frozenset({"item", "index"})
"""What it may not speak of: they stand for one item of a list, and a condition is decided once for the whole step."""
NUMBER = r"(?:int|uint|double)"
DEFINED = re.compile(
    r"found no matching overload for '(?:(?:_==_|_!=_|@in)' applied to .*"
    rf"|_(?:<|<=|>|>=)_' applied to '\({NUMBER}, {NUMBER}\)')",
)
"""What CEL's type checker refuses of literals although its evaluation defines it: `3 > 2.5`, `'a' != null`, `3 in [3.0]`."""
FAULT = re.compile(r"ERROR: <input>:-?\d+:-?\d+: (.*)")


class ConditionFailed(Exception):
    """A condition has no truth value for what it was given."""


class BudgetExceeded(ConditionFailed):
    """A condition took more time or memory than it may have."""


def require_cel() -> None:
    """Find out now whether conditions can be read here.

    Raises:
        SettingsError: They can't.
    """
    try:
        load_cel()
    except ImportError as error:
        msg = f"conditions of plans need the extra `plans`: pip install 'handfast[plans]' ({error})"
        raise SettingsError(msg) from error


def is_cel_there() -> bool:
    """Whether conditions can be read here."""
    try:
        load_cel()
    except ImportError:
        return False
    return True


@lru_cache(maxsize=512)
def syntax(text: str) -> Node:
    """The syntax tree of a condition.

    Raises:
        SettingsError: The extra `plans` is not installed.
        ValueError: It is no CEL expression, or names what there is not; says why.
    """
    require_cel()
    cel = load_cel()
    environment = cel.NewEnv(variables=dict.fromkeys(NAMES | ITEM_NAMES, cel.Type.DYN))
    try:
        tree = environment.compile(text, disable_check=True).serialize()
    except RuntimeError as error:
        raise ValueError(_told(str(error))) from error
    try:
        environment.compile(text)
    except RuntimeError as error:
        faults = [one for one in FAULT.findall(str(error)) if not DEFINED.match(one)]
        if faults:
            raise ValueError(faults[0]) from error
    return read_tree(tree)


def condition_fault(text: str) -> str:
    """Why a text is no condition; empty if it is one."""
    if len(text) > MAX_LENGTH:
        return f"it has {len(text)} characters, allowed are {MAX_LENGTH}"
    try:
        tree = syntax(text)
    except ValueError as error:
        return f"it is no CEL expression: {error}"
    nested = _nested_macros(tree)
    if nested > MAX_NESTED_MACROS:
        return (
            f"its macros (all, exists, map, filter) are {nested} deep in each other, allowed are {MAX_NESTED_MACROS}: "
            "let a tool work out the value, and compare its result"
        )
    return ""


def names_in(tree: Node) -> frozenset[str]:
    """What a condition speaks of, of what it is given."""
    bound = {name for node in nodes(tree) if isinstance(node, Loop) for name in (node.variable, node.accumulator)}
    return frozenset(node.name for node in nodes(tree) if isinstance(node, Name)) - bound


def holds(text: str, given: Mapping[str, Any]) -> bool:
    """Whether a condition is true of what is given, as JSON values by name. A worker uses `ConditionProcess` instead.

    Raises:
        ConditionFailed: It speaks of what is not there, applies an operator to what it does not take, or is neither true nor false.
    """
    require_cel()
    try:
        return decide(text, given)
    except Undecided as error:
        raise undecided(text, str(error)) from error


def undecided(text: str, reason: str, kind: type[ConditionFailed] = ConditionFailed) -> ConditionFailed:
    """What is raised where a condition has no truth value. A long one is cut, so that the reason is not."""
    told = text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."
    return kind(f"the condition {told!r} can't be decided: {reason}")


def _told(fault: str) -> str:
    if "recursion" in fault:
        return "it is nested more than 32 deep"
    found = FAULT.search(fault)
    return found[1] if found else fault.splitlines()[0]


def _nested_macros(tree: Node) -> int:
    """How many macros are within each other; one that goes through what another one made is beside it."""
    if isinstance(tree, Loop):
        return max(_nested_macros(tree.items), 1 + _nested_macros(tree.step))
    return max(map(_nested_macros, children(tree)), default=0)
