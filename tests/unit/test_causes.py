"""What counts of an exception that a tool raised: groups, errors behind errors, cancellations; each row of the table in `causes`."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handfast import ToolError
from handfast.contracts.causes import KNOWS, Cause, Requests, cause_of, only_cancelled
from handfast.contracts.errors import LedgerConflict


def limited(**more: Any) -> ToolError:
    """A refusal for now, as `ctx.http` raises it for 429."""
    error = ToolError("slow down", code="rate_limited", retryable=True, happened="no", retry_after=7.0, **more)
    error.of_request = True
    return error


def lost() -> ToolError:
    """A request whose answer was lost."""
    error = ToolError("no answer", code="unavailable", retryable=True, happened="unknown")
    error.of_request = True
    return error


def raised(raising: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as info:  # noqa: PT011 - whatever it is
        raising()
    return info.value


def wrapped(error: BaseException, outer: BaseException) -> BaseException:
    def raising() -> None:
        raise outer from error

    return raised(raising)


def while_handling(error: BaseException, outer: BaseException) -> BaseException:
    def raising() -> None:
        try:
            raise error
        finally:
            raise outer

    return raised(raising)


def in_group(*errors: BaseException) -> BaseException:
    return BaseExceptionGroup("unhandled errors in a TaskGroup", errors)


def test_a_group_of_one_error_is_that_error_however_deep_it_is() -> None:
    error: BaseException = limited()
    for _ in range(90):
        error = in_group(error)
    assert cause_of(error) == Cause(error=cause_of(error).error, happened="no", retry_after=7.0)
    assert str(cause_of(error).error) == "slow down"


def test_a_group_that_is_deeper_than_anybody_nests_is_a_bug_and_ends() -> None:
    error: BaseException = limited()
    for _ in range(5000):
        error = in_group(error)
    assert (cause_of(error).happened, only_cancelled(error)) == ("unknown", False)


REFUSED = ToolError("not there", code="http_404", happened="no")
NEVER = ToolError("declined", code="declined", happened="never")
BUG = KeyError("field")


@pytest.mark.parametrize(
    ("errors", "counts", "happened"),
    [
        ([limited(), lost()], "no answer", "unknown"),
        ([REFUSED, lost()], "no answer", "unknown"),
        ([limited(), REFUSED], "not there", "no"),
        ([NEVER, limited()], "slow down", "no"),
        ([NEVER, NEVER], "declined", "never"),
        ([BUG, limited()], "'field'", "unknown"),
        ([BUG, REFUSED], "'field'", "unknown"),
        ([BUG, lost()], "no answer", "unknown"),
        ([asyncio.CancelledError(), limited()], "slow down", "no"),
        ([asyncio.CancelledError(), BUG], "'field'", "unknown"),
        ([SystemExit(3), limited()], "3", "unknown"),
    ],
    ids=repr,
)
def test_of_several_errors_the_one_that_knows_least_about_the_effect_counts(
    errors: list[BaseException], counts: str, happened: str
) -> None:
    for order in itertools.permutations(errors):
        for error in (in_group(*order), in_group(in_group(order[0]), in_group(in_group(*order[1:])))):
            assert (str(cause_of(error).error), cause_of(error).happened) == (counts, happened)


def test_a_call_without_effect_is_told_by_the_error_that_no_attempt_heals() -> None:
    assert cause_of(in_group(BUG, limited(), REFUSED), harmless=True).error is REFUSED
    assert str(cause_of(in_group(BUG, limited()), harmless=True).error) == "slow down"


def test_the_longest_retry_after_of_a_group_counts() -> None:
    longer = ToolError("later", retryable=True, happened="unknown", retry_after=20.0)
    assert cause_of(in_group(limited(), longer, lost())).retry_after == 20.0
    assert cause_of(in_group(limited(), lost())).retry_after == 7.0


@pytest.mark.parametrize(
    "outer", [RuntimeError("client failed"), KeyError("x"), ConnectionError("x"), BaseException("x")]
)
def test_an_error_that_another_one_was_raised_from_keeps_its_meaning(outer: BaseException) -> None:
    inner = limited()
    found = cause_of(wrapped(wrapped(inner, ValueError("once more")), outer))
    assert found == Cause(error=inner, happened="no", retry_after=7.0)
    found = cause_of(in_group(wrapped(in_group(inner), outer)))
    assert found == Cause(error=inner, happened="no", retry_after=7.0)


def test_an_error_that_a_wrapper_raises_without_from_keeps_its_meaning() -> None:
    inner = limited()
    found = cause_of(in_group(while_handling(while_handling(inner, ValueError("x")), RuntimeError("client failed"))))
    assert found == Cause(error=inner, happened="no", retry_after=7.0)


def test_a_handler_that_called_something_may_have_acted() -> None:
    inner = limited()

    def pay_elsewhere() -> None:
        raise RuntimeError("the other bank does not answer, either")

    def raising() -> None:
        try:
            raise inner
        except ToolError:
            pay_elsewhere()

    assert cause_of(raised(raising)) == Cause(error=inner, happened="unknown", retry_after=7.0)


def test_a_bug_in_a_handler_is_news() -> None:
    bug = KeyError("in the handler")
    assert cause_of(while_handling(limited(), bug)) == Cause(error=bug, happened="unknown")


def test_an_error_that_was_cut_off_from_its_cause_stands_for_itself() -> None:
    def raising() -> None:
        try:
            raise limited()
        except ToolError:
            raise RuntimeError("told by me") from None

    assert str(cause_of(raised(raising)).error) == "told by me"


async def test_a_timeout_around_a_retry_loop_is_told_as_what_was_tried_again() -> None:
    async def retrying() -> None:
        async with asyncio.timeout(0.01):
            try:
                raise limited()
            except ToolError:
                await asyncio.sleep(60)

    with pytest.raises(TimeoutError) as info:
        await retrying()
    found = cause_of(info.value)
    assert (str(found.error), found.happened, found.retry_after) == ("slow down", "unknown", 7.0)
    plain = TimeoutError("of its own")
    assert cause_of(plain) == Cause(error=plain, happened="unknown")


async def test_what_a_task_group_raises_around_a_cancelled_task_is_the_error_of_the_other() -> None:
    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(60))
            tasks.create_task(failing())

    async def failing() -> None:
        raise limited()

    with pytest.raises(ExceptionGroup) as info:
        await group()
    found = cause_of(info.value)
    assert (found.happened, found.retry_after) == ("no", 7.0)


def test_a_ledger_that_can_not_write_counts_before_everything_else() -> None:
    conflict = LedgerConflict("another attempt has taken over")
    for error in (conflict, in_group(limited(), conflict), wrapped(conflict, RuntimeError("x"))):
        assert cause_of(error).error is conflict


def test_a_tool_error_raised_from_another_one_takes_what_it_does_not_say() -> None:
    late = ToolError("no answer", happened="unknown", retry_after=9.0)
    again = wrapped(late, ToolError("could not book", retryable=True))
    assert cause_of(again) == Cause(error=again, happened="unknown", retry_after=9.0)
    own = wrapped(late, ToolError("could not book", retryable=True, happened="no", retry_after=1.0))
    assert cause_of(own) == Cause(error=own, happened="no", retry_after=1.0)


def test_what_the_engine_saw_go_out_counts_beside_what_one_request_says() -> None:
    own = ToolError("sold out", happened="no")
    acted, cut = Requests(acted=True), Requests(acted=True, cut_off=True)
    assert cause_of(limited(), acted).happened == "unknown"
    assert cause_of(own, acted).happened == "no", "its author has looked"
    assert cause_of(in_group(own), acted).happened == "no"
    assert cause_of(own, cut).happened == "no"
    assert cause_of(in_group(own), cut).happened == "unknown", "a request of another task was cut off"
    assert cause_of(own, Requests(acted=True, under_way=True)).happened == "unknown"
    assert cause_of(ToolError("says nothing"), acted).happened == "unknown"
    assert cause_of(ToolError("says nothing")).happened == "no"


@pytest.mark.parametrize(
    ("wait", "seconds"), [(float("inf"), 3600.0), (float("nan"), None), (-3.0, 0.0), (1e300, 3600.0), (None, None)]
)
def test_a_wait_that_an_author_gives_is_bounded(wait: float | None, seconds: float | None) -> None:
    assert cause_of(ToolError("later", retryable=True, retry_after=wait)).retry_after == seconds


def test_a_cancellation_alone_or_in_groups_is_one() -> None:
    cancelled = asyncio.CancelledError()
    assert only_cancelled(in_group(cancelled, in_group(cancelled)))
    assert not only_cancelled(in_group(cancelled, limited()))
    assert cause_of(in_group(cancelled)) == Cause(error=cancelled, happened="unknown")


LEAVES = st.builds(
    ToolError,
    st.just("x"),
    happened=st.sampled_from(["", "no", "never", "unknown"]),
    retryable=st.booleans(),
    retry_after=st.none() | st.floats(0, 100),
)
ERRORS = st.recursive(
    LEAVES | st.builds(KeyError) | st.builds(asyncio.CancelledError) | st.builds(RuntimeError),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4).map(lambda many: in_group(*many))
        | st.builds(wrapped, inner, st.builds(RuntimeError) | st.builds(KeyError))
        | st.builds(while_handling, inner, st.builds(RuntimeError) | st.builds(KeyError))
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(ERRORS, ERRORS, st.builds(Requests, acted=st.booleans(), cut_off=st.booleans(), under_way=st.booleans()))
def test_nothing_that_is_raised_beside_an_error_makes_more_known_about_the_effect(
    one: BaseException, other: BaseException, seen: Requests
) -> None:
    alone, together = cause_of(one, seen), cause_of(in_group(one, other), seen)
    if not only_cancelled(one):
        assert KNOWS[together.happened] >= KNOWS[alone.happened]
    if alone.happened != "unknown":
        assert isinstance(alone.error, ToolError)
    assert cause_of(in_group(one, one), seen).error is alone.error
    assert cause_of(wrapped(one, RuntimeError()), seen).happened in {alone.happened, "unknown"}
