"""Dates and waits in HTTP fields: every form of RFC 9110, section 5.6.7, and `Retry-After` (section 10.2.3), whatever is in it."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handfast.contracts.http_dates import parse_http_date
from handfast.contracts.waits import (
    LONGEST_WAIT,
    MAX_LIFETIME,
    lifetime_seconds,
    longest_retry_after,
    retry_after_seconds,
)

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
THEN = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun Nov 6 08:49:37 1994",
        "sun, 06 nov 1994 08:49:37 gmt",
        "06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 09:49:37 +0100",
        "Sun, 06 Nov 1994 03:49:37 -0500",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "  Sun, 06 Nov 1994 08:49:37 GMT ",
        "Mon, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_each_form_of_a_date_names_its_moment(text: str) -> None:
    """RFC 9110, section 5.6.7: IMF-fixdate, rfc850-date and asctime-date, and what services make of them."""
    assert parse_http_date(text, NOW) == THEN


@pytest.mark.parametrize(
    ("digits", "year"),
    [("94", 1994), ("26", 2026), ("27", 2027), ("75", 2075), ("77", 1977), ("99", 1999), ("00", 2000)],
)
def test_a_year_of_two_digits_is_not_more_than_fifty_years_ahead(digits: str, year: int) -> None:
    """RFC 9110, section 5.6.7."""
    found = parse_http_date(f"Sunday, 06-Nov-{digits} 08:49:37 GMT", NOW)
    assert found == THEN.replace(year=year)


def test_a_year_of_two_digits_counts_to_the_day() -> None:
    assert parse_http_date("Sunday, 27-Nov-76 00:00:00 GMT", NOW) == datetime(2076, 11, 27, tzinfo=UTC)
    assert parse_http_date("Sunday, 29-Nov-76 00:00:00 GMT", NOW) == datetime(1976, 11, 29, tzinfo=UTC)
    assert parse_http_date("Friday, 01-Jan-00 00:00:00 GMT", NOW.replace(year=2099)) == datetime(2100, 1, 1, tzinfo=UTC)
    assert parse_http_date("Thursday, 29-Feb-96 00:00:00 GMT", NOW) == datetime(1996, 2, 29, tzinfo=UTC)


def test_a_leap_second_is_the_one_before_it() -> None:
    """RFC 9110, section 5.6.7: `second` is two digits, and 60 is one of them."""
    found = parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW)
    assert found == datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "Fri, 31 Dec 99999999999 23:59:59 GMT", "Wed, 21 Oct 2015 07:28:99999999999 GMT",
        "Wed, 32 Oct 2015 07:28:00 GMT", "Wed, 30 Feb 2015 07:28:00 GMT", "Wed, 21 Xyz 2015 07:28:00 GMT",
        "Wed, 21 Oct 2015 25:28:00 GMT", "Wed, 21 Oct 2015 07:61:00 GMT", "Wed, 21 Oct 2015 07:28:61 GMT",
        "Wed, 21 Oct 0000 07:28:00 GMT", "Wed, 21 Oct 2015", "2015-10-21T07:28:00Z", "Wed, 21 Oct 2015 07:28:00 +9999",
        "Wed, 21 Oct 2015 07:28:00 CEST", "Wed, ٢١ Oct 2015 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "x" * 100_000,
        "Wed, 21 Oct 2015 07:28:00 GMT, Wed, 21 Oct 2015 07:28:00 GMT",
    ],
)  # fmt: skip
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_http_date(text, NOW) is None
    assert retry_after_seconds(text) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("007", 7.0),
        ("1.5", 1.5),
        ("3.", 3.0),
        ("-5", 0.0),
        ("3601", LONGEST_WAIT),
        ("99999999999999999999", LONGEST_WAIT),
        ("9" * 5000, LONGEST_WAIT),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0),
        ("Sun Nov  6 08:49:37 1994", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT),
        (None, None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("Infinity", None),
        ("1e3", 1000.0),
        ("1e9", LONGEST_WAIT),
        ("1e9999", LONGEST_WAIT),
        ("1e", None),
        ("1e-3", None),
        ("1_000", None),
        ("0x10", None),
        ("+5", None),
        ("--5", None),
        ("1.2.3", None),
        ("٥", None),
        ("5s", None),
        ("5, 6", None),
        ("\x00", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_more_than_is_sensible(
    value: str | None, seconds: float | None
) -> None:
    """RFC 9110, section 10.2.3."""
    assert retry_after_seconds(value) == seconds


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"])
def test_retry_after_in_each_form_of_a_date_counts_from_now(form: str) -> None:
    at = datetime.now(UTC) + timedelta(seconds=100)
    assert 90 < (retry_after_seconds(at.strftime(form)) or 0) <= 100


def test_of_several_retry_afters_the_longest_that_can_be_read_counts() -> None:
    assert longest_retry_after(["3", "soon", "7"]) == 7.0
    assert longest_retry_after(["soon"]) is None


@settings(max_examples=300)
@given(
    st.text(max_size=60) | st.from_regex(r"[A-Za-z]{3,9},? ?[0-9]{1,12}[ -][A-Za-z]{3}[ -][0-9]{1,12} [0-9:]{1,12}.*")
)
def test_no_retry_after_raises_or_leaves_its_bounds(value: str) -> None:
    seconds = retry_after_seconds(value)
    assert seconds is None or 0 <= seconds <= LONGEST_WAIT


@settings(max_examples=300)
@given(st.integers(-1_262_304_000, 253_402_300_799))
def test_every_date_is_read_as_it_was_written(epoch: int) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=epoch)
    assert parse_http_date(format_datetime(at, usegmt=True), NOW) == at
    assert parse_http_date(at.strftime("%a %b ") + f"{at.day:2} {at:%H:%M:%S} {at.year:04}", NOW) == at
    if 1977 <= at.year <= 2075:
        assert parse_http_date(at.strftime("%A, %d-%b-%y %H:%M:%S GMT"), NOW) == at


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3600, 3600.0), ("3600", 3600.0), (1.5, 1.5), (0, 0.0), (-5, 0.0), ("-5", 0.0), (10**400, MAX_LIFETIME),
        ("9" * 400, MAX_LIFETIME), (float("inf"), MAX_LIFETIME), (float("nan"), None), (None, None), (True, None),
        ("soon", None), ("", None), ([], None), ({}, None), ("1e5", MAX_LIFETIME),
    ],
)  # fmt: skip
def test_the_lifetime_of_a_token_is_bounded_and_what_is_none_is_not_known(value: object, seconds: float | None) -> None:
    """RFC 6749, section 5.1: `expires_in` is a number of seconds."""
    assert lifetime_seconds(value) == seconds
