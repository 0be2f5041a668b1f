"""Timeouts and retry policies of every activity, in one place, each with its reason."""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy

with workflow.unsafe.imports_passed_through():
    from handfast.contracts.timing import TASK_TIME
    from handfast.contracts.wire import Head, Opened
    from handfast.contracts.wire_undo import UndoPlan, UndoStep

SETTLE_TIME = timedelta(hours=1)
"""How long an activity may wait for the ledger after its work is done. Its heartbeats tell a dead worker from a waiting
one, so this is no failure detector, only a last bound."""

MODEL_TIME = timedelta(minutes=10)
"""A model call with a long answer."""

BOOK_TIME = timedelta(seconds=8)
"""One try of a short ledger transaction as a local activity, within one workflow task. A ledger that stays away is waited
for by retrying."""

NOBODY_TAKES_IT = timedelta(minutes=10)
"""After how long without a worker on the queue of a tool what undoes its call is left to a person."""

RETRY_FOREVER = RetryPolicy(
    initial_interval=timedelta(milliseconds=250), backoff_coefficient=3.0, maximum_interval=timedelta(seconds=30)
)
"""For models: at once after a crash, patient with what stays broken."""

TAKE_OVER = RetryPolicy(
    initial_interval=timedelta(milliseconds=250), backoff_coefficient=3.0, maximum_interval=timedelta(seconds=5)
)
"""For tools, whose own failures say by themselves how long to wait: what is left is a worker that is gone, has no such tool, or
is frozen. A frozen worker's five open polls take the next five attempts and run nothing, so these must not be far apart.
Attempts are counted by reservations in the ledger, not here."""

RETRY_BOOKING = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=5))
"""For ledger transactions in sight, which can be repeated for ever."""

MAX_LOCAL_TRIES = 4
LOCAL_TIME = timedelta(seconds=10)
"""All tries of a local activity together. No other worker can take them, and the workflow's step does not end before them."""
RETRY_LOCALLY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    maximum_interval=timedelta(seconds=1),
    maximum_attempts=MAX_LOCAL_TRIES,
)
"""For ledger transactions within a step of the workflow: enough for a connection that was lost, see `book`."""


def booking() -> dict[str, Any]:
    """For `open_run`, `fence`, `close_run` as local activities: short, repeatable, invisible in the cost of a turn."""
    return {
        "start_to_close_timeout": BOOK_TIME,
        "schedule_to_close_timeout": LOCAL_TIME,
        "retry_policy": RETRY_LOCALLY,
    }


def booking_in_sight() -> dict[str, Any]:
    """For the same as activities of their own, after they have failed as local ones."""
    return {"start_to_close_timeout": BOOK_TIME, "retry_policy": RETRY_BOOKING}


def word() -> dict[str, Any]:
    """For `record_decision`, as an activity of its own: scheduling it makes Temporal remember the word that was said.

    A local one runs before that. If the worker then dies, the ledger has the word, and Temporal may forget it.
    """
    return booking_in_sight()


def model_turn(opened: Opened) -> dict[str, Any]:
    """For `model_turn`. Stopping it loses nothing but what the model has said so far."""
    return {
        "start_to_close_timeout": MODEL_TIME + SETTLE_TIME,
        "heartbeat_timeout": timedelta(seconds=opened.heartbeat_seconds),
        "retry_policy": RETRY_FOREVER,
    }


def call_on_standard_lane(head: Head, opened: Opened) -> dict[str, Any]:
    """For a tool. The worker enforces the tool's own timeout, so that the end of every attempt is settled.

    A cancelled call is waited for: the default reports a cancellation before the effect has landed.
    """
    return {
        "start_to_close_timeout": timedelta(seconds=head.timeout) + SETTLE_TIME,
        "heartbeat_timeout": timedelta(seconds=opened.heartbeat_seconds),
        "retry_policy": TAKE_OVER,
        "cancellation_type": workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        "task_queue": head.queue or None,
        "summary": head.show or None,
    }


def compensation(step: UndoStep, plan: UndoPlan) -> dict[str, Any]:
    """For `compensate`. As for a tool; the worker enforces its own time limit. Where no worker takes it, a person is asked."""
    return {
        "schedule_to_start_timeout": NOBODY_TAKES_IT,
        "start_to_close_timeout": timedelta(seconds=step.timeout) + SETTLE_TIME,
        "heartbeat_timeout": timedelta(seconds=plan.heartbeat_seconds),
        "retry_policy": TAKE_OVER,
        # Of a child the queue is where its run was; what is left to do is to write down that it is undone.
        "task_queue": None if step.child else step.queue or None,
        "summary": f"{step.tool} {step.show}".strip(),
    }


def child(head: Head) -> dict[str, Any]:
    """For a run of its own. It is asked to stop with its parent, and comes to its end in good order: it is waited for.

    Nothing limits it but what it may use: a limit of Temporal's would end it without its own last words.
    """
    return {
        "task_queue": head.queue or None,
        "parent_close_policy": workflow.ParentClosePolicy.REQUEST_CANCEL,
        "cancellation_type": workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
        "task_timeout": TASK_TIME,
        "static_summary": head.show or None,
    }


def rollback(step: UndoStep) -> dict[str, Any]:
    """For undoing a child, where it ran. It goes on whatever becomes of whoever wants it, and may be needed again."""
    return {
        "task_queue": step.queue or None,
        "parent_close_policy": workflow.ParentClosePolicy.ABANDON,
        "id_reuse_policy": WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        "task_timeout": TASK_TIME,
    }


def call_on_fast_lane(head: Head) -> dict[str, Any]:
    """For a tool that surely ends within 2 s and may be run again after a crash. What keeps failing goes to the standard lane."""
    longest = timedelta(seconds=head.timeout) + BOOK_TIME
    return {
        "start_to_close_timeout": longest,
        "schedule_to_close_timeout": 2 * longest,
        "retry_policy": RETRY_LOCALLY,
        "cancellation_type": workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }
