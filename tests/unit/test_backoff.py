"""The waits between attempts."""

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast import Backoff, BackoffKind

BASE, LONGEST = timedelta(seconds=1), timedelta(seconds=10)


def waits(kind: BackoffKind, seed: str) -> list[float]:
    backoff = Backoff(kind=kind, base=BASE, longest=LONGEST)
    return [backoff.delay(attempt, seed).total_seconds() for attempt in range(1, 9)]


def test_without_jitter_the_waits_are_the_formula() -> None:
    assert waits(BackoffKind.FIXED, "op") == [1] * 8
    assert waits(BackoffKind.EXPONENTIAL, "op") == [1, 2, 4, 8, 10, 10, 10, 10]


@given(seed=st.text())
def test_jitter_stays_within_its_bounds(seed: str) -> None:
    for n, wait in enumerate(waits(BackoffKind.EXPONENTIAL_JITTER, seed)):
        assert min(2**n, 10) <= wait <= min(2**n + 1, 10)
    for n, wait in enumerate(waits(BackoffKind.FULL_JITTER, seed)):
        assert 0 <= wait <= min(2**n, 10)
    for before, wait in pairwise([1, *waits(BackoffKind.DECORRELATED, seed)]):
        assert 1 <= wait <= min(before * 3, 10)


@pytest.mark.parametrize("kind", [BackoffKind.EXPONENTIAL_JITTER, BackoffKind.FULL_JITTER, BackoffKind.DECORRELATED])
def test_operations_come_back_apart_and_each_the_same_on_every_worker(kind: BackoffKind) -> None:
    firsts = {waits(kind, f"op-{n}")[0] for n in range(50)}
    assert len(firsts) == 50
    assert waits(kind, "op-1") == waits(kind, "op-1")


def test_waits_that_make_no_sense_are_refused() -> None:
    for base, longest in ((timedelta(0), LONGEST), (timedelta(seconds=11), LONGEST)):
        with pytest.raises(ValueError, match="base must be above zero"):
            Backoff(base=base, longest=longest)
