"""Short transactions of the engine: within the workflow's own step where that works, and in sight of everybody where it does not."""

import asyncio
from typing import Any, Protocol, TypeVar, cast

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

from handfast.workflows import options
from handfast.workflows.visibility import STALLED, STATUS

T = TypeVar("T")


class Stallable(Protocol):
    """A workflow that shows what it can't get done."""

    stalled: dict[str, str]
    """By activity: why it failed on the worker that tried it first. It is tried again, on every worker, until it succeeds."""


async def book(activity: str, given: Any, result_type: type[T]) -> T:
    """Carry out an activity that can be repeated as a local one, and where that keeps failing as one of its own.

    A local activity that fails is tried by the same worker alone, within one step of the workflow: nobody sees it, no healthy worker
    can help, and the worker can't end. So its tries are few. After them Temporal shows the activity with its last failure, gives it to
    any worker, and the run is `stalled` until one of them has done it.

    Raises:
        FailureError: It has failed for good, or was cancelled.
    """
    return await locally(activity, given, result_type, options.booking(), options.booking_in_sight())


def locally(
    activity: str, given: Any, result_type: type[T], local: dict[str, Any], in_sight: dict[str, Any]
) -> "asyncio.Task[T]":
    """Begin an activity as `book` does, with options of its own; the task can be cancelled.

    Args:
        activity: Its name.
        given: Its input.
        result_type: What it returns.
        local: How it is tried as a local activity.
        in_sight: How it is tried after that.
    """
    handle: workflow.ActivityHandle[T] = workflow.start_local_activity(
        activity, given, result_type=result_type, **local
    )

    async def see_through() -> T:
        try:
            return await handle
        except FailureError as error:
            if _is_final(error):
                raise
            return await _in_sight(activity, given, result_type, error, in_sight)

    return asyncio.create_task(see_through())


async def _in_sight(activity: str, given: Any, result_type: type[T], error: FailureError, how: dict[str, Any]) -> T:
    reason = str(error.cause or error)[:300] if isinstance(error, ActivityError) else str(error)[:300]
    workflow.logger.warning("%s keeps failing on this worker, and is given to any: %s", activity, reason)
    shown = cast("Stallable", workflow.instance()).stalled
    before = workflow.info().typed_search_attributes.get(STATUS)
    shown[activity] = reason
    if before != STALLED:
        workflow.upsert_search_attributes([STATUS.value_set(STALLED)])
    try:
        result: T = await workflow.execute_activity(activity, given, result_type=result_type, **how)
    finally:
        shown.pop(activity, None)
        if before is not None and before != STALLED and not shown:
            workflow.upsert_search_attributes([STATUS.value_set(before)])
    return result


def _is_final(error: FailureError) -> bool:
    """Whether trying again is of no use: it was cancelled, or says so."""
    cause = error.cause if isinstance(error, ActivityError) else error
    if is_cancelled_exception(error) or (cause is not None and is_cancelled_exception(cause)):
        return True
    return isinstance(cause, ApplicationError) and cause.non_retryable
