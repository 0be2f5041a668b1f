"""What an activity's error said goes to the ledger; Temporal gets its type, and the number of the entry."""

import asyncio
from typing import Any

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor
from typing_extensions import override

from handfast.contracts.errors import LedgerError, RunNotFound
from handfast.contracts.names import ROLLBACK_PREFIX, ROLLBACK_RUN
from handfast.contracts.texts import PublicText, clean_text, message_of
from handfast.engine.failures import code_of
from handfast.ledger import Failure, Ledger
from handfast.tools.hiding import shown

MAX_CHARACTERS = 4000
"""Of a message that is written down."""
WRITE_TIME = 2.0
"""Seconds for that: an error must not wait for a ledger that is away."""
ALWAYS = 3
"""Attempts of which each is written down; of later ones those whose number is a power of two, as some go on for ever."""
log = structlog.get_logger()


class FailuresToLedger(Interceptor):
    """Keeps the messages of errors out of Temporal, and in the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @override
    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Stand around every activity."""
        return _Inbound(next, self._ledger)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, inner: ActivityInboundInterceptor, ledger: Ledger) -> None:
        super().__init__(inner)
        self._ledger = ledger

    @override
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except Exception as error:  # noqa: BLE001 - whatever it is, what it says stays here
            raise await _without_content(self._ledger, error) from None


async def _without_content(ledger: Ledger, error: Exception) -> Exception:
    """The error as Temporal may see it, with the number of the entry that holds what it said."""
    other = isinstance(error, FailureError) and not isinstance(error, ApplicationError)
    if other or (isinstance(error, ApplicationError) and isinstance(error.message, PublicText)):
        return error
    code = code_of(error)
    log.warning("activity failed", activity=activity.info().activity_type, code=code)
    log.debug("activity failed", activity=activity.info().activity_type, exc_info=error)
    entry = await _write_down(ledger, error, code)
    if not entry:
        return error
    options: dict[str, Any] = {"type": code}
    if isinstance(error, ApplicationError):
        options |= {"non_retryable": error.non_retryable, "next_retry_delay": error.next_retry_delay}
    return ApplicationError(PublicText(f"{code}: see entry {entry} of the run in the ledger"), entry, **options)


async def _write_down(ledger: Ledger, error: Exception, code: str) -> int:
    """The number of the entry; 0 if nothing is written, as there is no such run, or no ledger, or much was written before."""
    info = activity.info()
    final = isinstance(error, ApplicationError) and error.non_retryable
    seldom = info.attempt > ALWAYS and info.attempt & (info.attempt - 1)
    if isinstance(error, LedgerError) or not info.workflow_id or (seldom and not final):
        return 0
    run_id = info.workflow_id.removeprefix(ROLLBACK_PREFIX) if info.workflow_type == ROLLBACK_RUN else info.workflow_id
    said = error.message if isinstance(error, ApplicationError) else f"{type(error).__name__}: {message_of(error)}"
    failure = Failure(
        ref=f"{(info.workflow_run_id or '')[:36]}#{info.activity_id[:16]}#{info.attempt}"[:64],
        activity=info.activity_type,
        attempt=info.attempt,
        code=code,
        message=shown(clean_text(said), (), 0, MAX_CHARACTERS),
    )
    try:
        async with asyncio.timeout(WRITE_TIME):
            return await ledger.record_failure(run_id, failure)
    except (LedgerError, RunNotFound, TimeoutError) as away:
        log.warning("what an error said is not written down", reason=type(away).__name__)
        return 0
