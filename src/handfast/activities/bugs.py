"""Errors that nobody foresaw: tried again a few times, because another worker may not have them, then the run fails."""

import contextlib
from collections.abc import Generator

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from handfast.contracts.errors import ErrorCode, LedgerSchemaError, LedgerUnavailable, SettingsError
from handfast.contracts.texts import PublicText

MAX_BUGS = 3
"""Attempts of an activity of the engine that may raise something unforeseen."""
WAITED_FOR = (ApplicationError, LedgerUnavailable, LedgerSchemaError)
"""What says by itself whether another attempt may heal it, or is waited for."""
log = structlog.get_logger()


@contextlib.contextmanager
def bounded(what: str) -> Generator[None]:
    """Fail an activity for good when it has raised something unforeseen in its last attempt.

    Code of contracts, such as a validator that raises `KeyError`, is run in many places. Where its error is not foreseen,
    retrying for ever would hold the run in silence. What was raised goes into the log; Temporal gets its type.

    Raises:
        ApplicationError: `internal`, with the type of what was raised.
    """
    try:
        yield
    except WAITED_FOR:
        raise
    except SettingsError as error:
        # This worker lacks something, such as an extra: another one may have it.
        raise ApplicationError(PublicText(error), type=ErrorCode.UNAVAILABLE) from None
    except Exception as error:
        attempt = activity.info().attempt
        log.exception("an activity raised what nobody foresaw", what=what, attempt=attempt)
        message = PublicText(f"{what} failed with {type(error).__name__}; the worker's log says more")
        raise ApplicationError(message, type=ErrorCode.INTERNAL, non_retryable=attempt >= MAX_BUGS) from None
