"""JSON that others post, read as RFC 8259 has it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handfast.contracts.strict_json import MAX_DEPTH, NotJson, read_object


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON: Expecting value at character 0"),
        (b"{", "not JSON"),
        (b"{}{}", "not JSON: Extra data"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1,}', "not JSON"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": [-Infinity]}', "holds -Infinity"),
        (b'{"a": 1e400}', "number that is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"a": 1, "a": 2}', "names 'a' twice"),
        (b'{"b": [{"a": 1, "a": 1}]}', "names 'a' twice"),
        (b'{"a": "\xff"}', "not UTF-8: byte 7"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": "\n"}', "Invalid control character"),
        (b"[]", "is a list, not a JSON object"),
        (b"null", "is null, not"),
        (b'"x"', "is a text, not"),
        (b"true", "is a boolean, not"),
        (b"7", "is a number, not"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "nested deeper than"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper than"),
    ],
)
def test_a_body_that_is_not_one_json_object_says_why(body: bytes, why: str) -> None:
    """RFC 8259, sections 4, 6 and 8.1."""
    with pytest.raises(NotJson, match=why):
        read_object(body)


def test_depth_is_allowed_up_to_its_bound() -> None:
    inner: Any = 1
    for _ in range(MAX_DEPTH - 1):
        inner = [inner]
    assert read_object(json.dumps({"a": inner}).encode()) == {"a": inner}
    with pytest.raises(NotJson, match="deeper"):
        read_object(json.dumps({"a": [inner]}).encode())


def test_a_byte_order_mark_is_ignored() -> None:
    """RFC 8259, section 8.1."""
    assert read_object(b'\xef\xbb\xbf{"a": null}') == {"a": None}


@settings(max_examples=300)
@given(
    st.binary(max_size=40) | st.text(alphabet='{}[]":,0123456789eE+-.truefalsnaNIity\\ud8', max_size=40).map(str.encode)
)
def test_no_body_raises_anything_else(body: bytes) -> None:
    try:
        value = read_object(body)
    except NotJson:
        return
    assert json.loads(body) == value


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=300)
@given(st.dictionaries(st.text(), VALUES, max_size=3))
def test_every_json_object_is_read_as_it_was_written(value: dict[str, Any]) -> None:
    assert read_object(json.dumps(value).encode()) == value
