"""Exit codes, and errors in one line that say what to do."""

import contextlib
import logging
import os
import sys
from collections.abc import Coroutine
from enum import IntEnum
from typing import Any, NoReturn, TypeVar

import typer

from handfast.contracts.errors import (
    ContractError,
    DecisionRefused,
    EngineUnavailable,
    HandfastError,
    LedgerError,
    LedgerUnavailable,
    RunFailed,
    RunNotFound,
    SettingsError,
)

T = TypeVar("T")


class Exit(IntEnum):
    """What a command ends with."""

    OK = 0
    FAILED = 1
    """The run failed, or a check found faults."""
    USAGE = 2
    """The command line does not fit."""
    REFUSED = 3
    """The request was understood and refused: no such run, a decision that does not fit, an id that is taken."""
    CONTRACT = 4
    """A tool, an agent or a setting is declared wrongly."""
    UNAVAILABLE = 5
    """Temporal or the ledger does not answer; trying again later may help."""
    UNFINISHED = 6
    """The run ended without an answer: cancelled, refused by the model, or at a limit."""
    INTERRUPTED = 130


def exit_of(error: HandfastError) -> Exit:
    """The exit code for an error."""
    match error:
        case ContractError() | SettingsError():
            return Exit.CONTRACT
        case EngineUnavailable() | LedgerUnavailable():
            return Exit.UNAVAILABLE
        case RunFailed():
            return Exit.FAILED
        case RunNotFound() | DecisionRefused() | LedgerError():
            return Exit.REFUSED
        case _:
            return Exit.REFUSED


def fail(message: str, code: Exit) -> NoReturn:
    """Say what is wrong and end."""
    print(f"handfast: {message}", file=sys.stderr)  # noqa: T201 - this is the command line
    raise typer.Exit(code)


def leave(code: int) -> NoReturn:
    """End the process at once, after what was written has left it.

    Temporal's SDK keeps native threads. One that reports back while the interpreter is being taken down ends the process
    with a signal instead of its exit code, after all work is done: about one end of a busy worker in twenty.
    """
    logging.shutdown()
    with contextlib.suppress(OSError):  # a reader that has had enough, such as `head`
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine, with Handfast's errors as one line and an exit code."""
    import asyncio

    try:
        return asyncio.run(coroutine)
    except HandfastError as error:
        fail(str(error), exit_of(error))
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
