"""Warnings are errors in the tests, but for one that the SDK gives of a race that means nothing."""

import warnings

import pytest
from temporalio.bridge.proto.activity_task import Cancel
from temporalio.worker._activity import _ActivityWorker  # pyright: ignore[reportPrivateUsage] - the poller that would die


def test_a_cancellation_that_comes_after_the_end_of_its_activity_ends_no_worker() -> None:
    worker = _ActivityWorker.__new__(_ActivityWorker)
    worker._running_activities = {}  # pyright: ignore[reportPrivateUsage]
    worker._handle_cancel_activity_task(b"ended", Cancel())  # pyright: ignore[reportPrivateUsage]


def test_every_other_warning_is_an_error() -> None:
    with pytest.raises(UserWarning, match="something else"):
        warnings.warn("something else", stacklevel=1)
