"""What an exception that an author's code raised means: one rule for groups, for errors behind errors, and for cancellations.

| raised | what counts |
|---|---|
| `ToolError` | it |
| a group, however nested | of its leaves the one that knows least about the effect: unknown, then no, then never |
| `raise X from error` | `error` |
| X, by the code that caught `error` | `error`, as if X said `from`; if X is a bug: X |
| X, by what that code called | `error`, but the effect is unknown: what was called may have acted; if X is a bug: X |
| `asyncio.timeout` that ran out | what was being handled when it did, as in the row above; else the timeout |
| a cancellation that nobody requested | what is behind it, as above; beside other leaves it is their consequence, and left out |
| `LedgerError`, wherever it is | it, before everything else: nobody can write down what became of the attempt |
| anything else | it, as a bug: its effect is unknown |

Between leaves that know the same, one that no further attempt can heal counts before the others, and a `ToolError` before a bug.
`Retry-After` is the longest that any of them asks for. A `ToolError` that was raised because of another one, and does not say whether
it happened or when to come back, takes that from the other one.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import ValidationError

from handfast.contracts.errors import LedgerError, ToolError
from handfast.contracts.waits import bounded_wait

Happened = Literal["never", "no", "unknown"]
KNOWS: dict[str, int] = {"unknown": 2, "no": 1, "never": 0}
"""The more, the less is known about the effect."""
BUGS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, NotImplementedError, RecursionError,
    SyntaxError, TypeError, UnicodeError, ValidationError,
)  # fmt: skip
"""What Python itself raises where code is wrong or data is not as expected. Raised while another error was handled, they are news."""
MAX_DEPTH = 100
"""Groups in groups and errors behind errors that are looked through."""
Known = ToolError | LedgerError


@dataclass(frozen=True, kw_only=True)
class Requests:
    """What the engine has seen of an attempt's unsafe requests through `ctx.http`."""

    acted: bool = False
    """One was accepted, or may have been."""
    cut_off: bool = False
    """One was cancelled after bytes of it had gone out: nobody has seen an answer to it."""
    under_way: bool = False
    """One is still under way after the function has ended, such as when `asyncio.gather` has raised for another one."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """The error that counts."""

    error: BaseException
    happened: Happened
    """Whether the attempt had an effect, as in `ToolError`."""
    retry_after: float | None = None
    """Seconds."""


@dataclass(frozen=True, kw_only=True)
class _Leaf:
    error: BaseException
    acted_since: bool = False
    """It was being handled by code that may have acted, when something else was raised."""
    grouped: bool = False
    """It speaks for one of several tasks."""


def cause_of(error: BaseException, requests: Requests | None = None, *, harmless: bool = False) -> Cause:
    """The error that counts among everything that an exception holds.

    Args:
        error: What was raised.
        requests: What the engine has seen of the attempt.
        harmless: The call has no effect, whatever happens: then what is known about it decides nothing.
    """
    leaves = _leaves(error, {})
    ledger = next((leaf for leaf in leaves if isinstance(leaf.error, LedgerError)), None)
    if ledger is not None:
        return Cause(error=ledger.error, happened="unknown")
    seen = requests or Requests()
    told = [leaf for leaf in leaves if not isinstance(leaf.error, asyncio.CancelledError)] or leaves
    counting = max(told, key=lambda leaf: (0 if harmless else KNOWS[_happened(leaf, seen)], *_weight(leaf.error)))
    waits = [wait for leaf in told if (wait := _retry_after(leaf.error)) is not None]
    return Cause(error=counting.error, happened=_happened(counting, seen), retry_after=max(waits, default=None))


def only_cancelled(error: BaseException) -> bool:
    """Whether it is a cancellation, or a group of nothing else."""
    return all(isinstance(member, asyncio.CancelledError) for member in members(error))


def members(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group, however nested; of any other exception itself."""
    pending = [error]
    while pending:
        one = pending.pop()
        if isinstance(one, BaseExceptionGroup):
            pending.extend(one.exceptions)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        else:
            yield one


def _leaves(error: BaseException, found: dict[int, list[_Leaf]], depth: int = 0) -> list[_Leaf]:
    """The errors that an exception stands for; each is looked through once, however often it is held."""
    if isinstance(error, Known):
        return [_Leaf(error=error)]
    if id(error) not in found:
        found[id(error)] = []
        found[id(error)] = _look_through(error, found, depth) if depth < MAX_DEPTH else [_Leaf(error=error)]
    return found[id(error)]


def _look_through(error: BaseException, found: dict[int, list[_Leaf]], depth: int) -> list[_Leaf]:
    if isinstance(error, BaseExceptionGroup):
        inside: tuple[BaseException, ...] = error.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        leaves = [leaf for one in inside for leaf in _leaves(one, found, depth + 1)]
        return [replace(leaf, grouped=True) for leaf in leaves]
    behind, acted_since = _behind(error)
    leaves = _leaves(behind, found, depth + 1) if behind is not None else []
    if not any(isinstance(leaf.error, Known) for leaf in leaves):
        return [_Leaf(error=error)]
    return [replace(leaf, acted_since=leaf.acted_since or acted_since) for leaf in leaves]


def _behind(error: BaseException) -> tuple[BaseException | None, bool]:
    """The error because of which this one was raised, and whether something else may have been done between the two."""
    if error.__cause__ is not None or error.__suppress_context__ or isinstance(error, BUGS):
        return error.__cause__, False
    behind = error.__context__
    return behind, behind is not None and not _is_raised_where_caught(error, behind)


def _is_raised_where_caught(error: BaseException, behind: BaseException) -> bool:
    """Whether the code that caught the one has itself raised the other, as wrappers do that don't say `from`."""
    caught, raised = behind.__traceback__, error.__traceback__
    while raised is not None and raised.tb_next is not None:
        raised = raised.tb_next
    return caught is not None and raised is not None and caught.tb_frame is raised.tb_frame


def _behind_all(error: ToolError) -> Iterator[ToolError]:
    """The tool's other errors because of which this one was raised."""
    behind, _ = _behind(error)
    for _ in range(MAX_DEPTH):
        if behind is None:
            return
        if isinstance(behind, ToolError):
            yield behind
        behind, _ = _behind(behind)


def _happened(leaf: _Leaf, seen: Requests) -> Happened:
    error = leaf.error
    if not isinstance(error, ToolError) or leaf.acted_since:
        return "unknown"
    # What ctx.http says is about one request; what an author says, about what one task has seen.
    others = seen.acted if error.of_request else seen.under_way or (leaf.grouped and seen.cut_off)
    told = error.happened or _not_told(error, seen)
    if others or told not in {"no", "never"}:
        return "unknown"
    return "never" if told == "never" else "no"


def _not_told(error: ToolError, seen: Requests) -> Happened:
    unknown = seen.acted or any(behind.happened == "unknown" for behind in _behind_all(error))
    return "unknown" if unknown else "no"


def _weight(error: BaseException) -> tuple[bool, bool]:
    return isinstance(error, ToolError) and not error.retryable, isinstance(error, ToolError)


def _retry_after(error: BaseException) -> float | None:
    if not isinstance(error, ToolError):
        return None
    told = [error, *(_behind_all(error) if error.retryable else ())]
    return next((wait for one in told if (wait := bounded_wait(one.retry_after)) is not None), None)
