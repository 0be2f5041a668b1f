"""Arguments of tool calls, read strictly: one JSON object, bounded, or a fault that repeats nothing of it."""

import contextlib
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast.contracts.texts import clean_value
from handfast.llm.arguments import MAX_CHARACTERS, MAX_DEPTH, MAX_DIGITS, ArgumentFault, read_arguments, usable

FAULTS: dict[str, tuple[str, str]] = {
    "cut off in a text": ('{"to": "SECRET', "not valid JSON"),
    "cut off in a list": ('{"to": ["SECRET"', "not valid JSON"),
    "two objects": ('{"a": 1}{"to": "SECRET"}', "not valid JSON: Extra data"),
    "words behind it": ('{"a": 1} SECRET', "not valid JSON: Extra data"),
    "words before it": ('SECRET {"a": 1}', "not valid JSON"),
    "a comma too many": ('{"a": "SECRET",}', "not valid JSON"),
    "single quotes": ("{'a': 'SECRET'}", "not valid JSON"),
    "a comment": ('{"a": 1 /* SECRET */}', "not valid JSON"),
    "a control character": ('{"a": "SECRET\n"}', "not valid JSON"),
    "a byte order mark": ('\ufeff{"a": 1}', "not valid JSON"),
    "a name twice": ('{"SECRET": 1, "SECRET": 2}', "a field twice"),
    "a name twice, escaped": ('{"S": 1, "\\u0053": 2}', "a field twice"),
    "a name twice within": ('{"a": [{"SECRET": 1, "SECRET": 1}]}', "a field twice"),
    "names that differ in half a character": ('{"\\ud83d": 1, "\\ude00": 2}', "a field twice"),
    "NaN": ('{"a": NaN}', "NaN"),
    "infinity": ('{"a": [-Infinity]}', "infinite"),
    "a number beyond every double": ('{"a": 1e999}', "infinite"),
    "a list": ('[{"a": "SECRET"}]', "one JSON object, and are a list"),
    "a text": ('"SECRET"', "are a text"),
    "a number": ("4711", "are a number"),
    "a boolean": ("true", "are a boolean"),
    "null": ("null", "are null"),
    "a number of many digits": ('{"a": ' + "1" * (MAX_DIGITS + 1) + "}", "too many digits"),
    "a fraction of many digits": ('{"a": 0.' + "1" * (MAX_DIGITS + 1) + "}", "too many digits"),
    "ten megabytes of digits": ('{"a": ' + "1" * 10_000_000 + "}", "characters; allowed are"),
    "many levels": ('{"a": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", "nested too deeply"),
    "levels without end": ('{"a": ' + '{"a":' * 200_000, "nested too deeply|not valid JSON"),
    "many values": ('{"a": [' + "0," * 200_000 + "0]}", "too many values"),
    "many characters": ('{"a": "' + "x" * MAX_CHARACTERS + '"}', "characters; allowed are 4,000,000"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_what_is_no_usable_object_is_a_fault(what: str) -> None:
    text, why = FAULTS[what]
    with pytest.raises(ArgumentFault, match=why) as fault:
        read_arguments(text)
    assert "SECRET" not in str(fault.value)
    assert len(str(fault.value)) < 200


def test_the_limit_of_the_interpreter_on_digits_is_not_met() -> None:
    digits = "9" * MAX_DIGITS
    before = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(0)
        with pytest.raises(ArgumentFault):
            read_arguments('{"a": ' + "1" * 100_000 + "}")
    finally:
        sys.set_int_max_str_digits(before)
    assert read_arguments('{"a": ' + digits + "}") == {"a": int(digits)}


def test_no_text_is_no_arguments() -> None:
    assert read_arguments("") == {}


class Other:
    """A value of no kind that JSON has."""


@pytest.mark.parametrize("value", [Other(), b"x", {1, 2}, 1j, {"a": Other()}, {"a": {2: 3}}, {"a": 10**1001}])
def test_values_that_json_does_not_have_are_faults(value: Any) -> None:
    with pytest.raises(ArgumentFault):
        usable(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5))
def test_an_object_is_read_as_it_was_written(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    assert read_arguments(text) == usable(value) == clean_value(json.loads(text))


@given(st.dictionaries(st.text(min_size=1, max_size=8), JSON, min_size=1, max_size=5), st.data())
def test_no_beginning_of_an_object_is_one(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value)
    cut = data.draw(st.integers(min_value=1, max_value=len(text) - 1))
    with pytest.raises(ArgumentFault):
        read_arguments(text[:cut])


@given(st.text(max_size=60))
def test_whatever_a_text_is_it_is_an_object_or_a_fault(text: str) -> None:
    with contextlib.suppress(ArgumentFault):
        assert isinstance(read_arguments(text), dict)
