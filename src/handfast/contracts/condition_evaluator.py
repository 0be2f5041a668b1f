"""Evaluates conditions. Also a program: a worker runs this file in a process of its own, which it can lose without harm.

It imports nothing of Handfast, so that the process starts at once. It reads one JSON object a line,
`{"text": ..., "given": {...}}`, and answers each with `{"holds": true}` or `{"fault": "..."}`. The kernel ends it when an
evaluation uses more processor time than it may, and gives it no more memory than it may have: the library's own budget counts
the items that macros go through, not what is done with each.
"""

import importlib
import json
import math
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

MAX_ITEMS = 10_000
"""Items that the macros of one evaluation may go through, all together; the library's own budget."""
CPU_SECONDS = 1.0
MAX_MEMORY = 1 << 30
"""Bytes of address space that the process may have."""
WHOLE = (-(1 << 63), (1 << 63) - 1)


class Undecided(Exception):
    """A condition is neither true nor false of what it was given; says why."""


def load_cel() -> Any:
    """The CEL library. It has no type information, and is loaded only where it is needed.

    Raises:
        ImportError: The extra `plans` is not installed.
    """
    return importlib.import_module("cel_expr_python.cel")


@lru_cache(maxsize=512)
def _program(names: tuple[str, ...], text: str) -> Any:
    cel = load_cel()
    # What a condition is given has no declared types, so that CEL's rules for dynamic values hold: any two values can be compared for
    # equality, and numbers of all types with each other.
    return cel.NewEnv(variables=dict.fromkeys(names, cel.Type.DYN)).compile(text, disable_check=True)


def evaluate(text: str, given: Mapping[str, Any]) -> Any:
    """The value of an expression, given JSON values by name.

    Raises:
        Undecided: It has none: it speaks of what is not there, or applies an operator to values that it does not take.
    """
    cel = load_cel()
    try:
        value = _program(tuple(sorted(given)), text).eval(data=_representable(given))
    except (RuntimeError, MemoryError) as error:
        raise Undecided(_plain(str(error))) from error
    if value.type() == cel.Type.ERROR:
        raise Undecided(_plain(str(value.value())))
    return value.plain_value()


def decide(text: str, given: Mapping[str, Any]) -> bool:
    """Whether a condition is true.

    Raises:
        Undecided: It is neither true nor false.
    """
    found = evaluate(text, given)
    if not isinstance(found, bool):
        msg = f"its value is {found!r:.100}, and must be true or false"
        raise Undecided(msg)
    return found


def _representable(value: Any) -> Any:
    """A JSON value as CEL can have it: a whole number beyond 64 bits is a double, as CEL says of numbers from JSON."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int) and not WHOLE[0] <= value <= WHOLE[1]:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, Mapping):
        return {name: _representable(inner) for name, inner in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [_representable(inner) for inner in cast("list[object]", value)]
    return value


def _plain(fault: str) -> str:
    """The library's error without its codes."""
    if "budget exceeded" in fault:
        return (
            f"its macros (all, exists, map, filter) go through more than {MAX_ITEMS} items; "
            "let a tool work out the value, and compare its result"
        )
    if "bad_alloc" in fault:
        return "it needs more memory than there is; let a tool work out the value, and compare its result"
    code, _, rest = fault.partition(": ")
    return (rest if rest and code.isupper() else fault).strip()


def main() -> None:
    """Answer the conditions on standard input until it ends."""
    import resource
    import signal

    load_cel()  # before the time of the first condition is counted
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _program(("request", "steps"), "true")
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        asked = json.loads(line)
        try:
            answer: dict[str, Any] = {"holds": decide(asked["text"], asked["given"])}
        except Undecided as error:
            answer = {"fault": str(error)}
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
