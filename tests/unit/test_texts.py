"""Texts that come in can be stored, sent and hashed, whatever they hold."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from handfast.contracts.identity import canonical_json
from handfast.contracts.messages import Message, Text, Thinking, ToolCall
from handfast.contracts.plain import MAX_CHARACTERS, plain_json, read_json
from handfast.contracts.texts import MAX_DEPTH, clean_text, clean_value

UNITS = st.lists(
    st.one_of(
        st.integers(0xD800, 0xDBFF), st.integers(0xDC00, 0xDFFF), st.sampled_from([0, 0xFFFD, 0x41, 0x1F600, 0x20AC])
    ),
    max_size=12,
)
ANY_TEXT = UNITS.map(lambda units: "".join(map(chr, units)))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain", "plain"),
        ("a\ud83d\ude00b", "a😀b"),
        ("half \ud83d", "half �"),
        ("\ude00\ud83d", "��"),
        ("\ud83d\ud83d\ude00", "�😀"),
        ("nul \x00 here", "nul � here"),
        ("😀 stays", "😀 stays"),
    ],
)
def test_pairs_are_joined_and_what_is_no_character_is_replaced(text: str, clean: str) -> None:
    assert clean_text(text) == clean


@settings(deadline=None)
@given(ANY_TEXT)
def test_a_clean_text_can_be_encoded_and_stays_as_it_is(text: str) -> None:
    clean = clean_text(text)
    clean.encode()
    assert "\x00" not in clean
    assert clean_text(clean) == clean


@settings(deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_what_arrives_in_two_pieces_is_cleaned_as_one(first: str, second: str) -> None:
    whole = clean_text(first + second)
    assert whole.encode("utf-16-le").decode("utf-16-le") == whole
    if not (first and second and 0xD800 <= ord(first[-1]) < 0xDC00 <= ord(second[0]) < 0xE000):
        assert whole == clean_text(first) + clean_text(second)


@settings(deadline=None)
@given(ANY_JSON)
def test_clean_json_goes_through_every_codec(value: Any) -> None:
    clean = clean_value(value)
    assert json.loads(canonical_json(clean)) == clean
    assert TypeAdapter(Any).validate_json(TypeAdapter(Any).dump_json(clean)) == clean
    assert clean_value(clean) == clean


def test_json_that_is_too_deep_is_refused() -> None:
    value: Any = "x"
    for _ in range(MAX_DEPTH):
        value = [value]
    assert clean_value(value) == value
    with pytest.raises(ValueError, match="nested deeper than 200 levels"):
        clean_value([value])


def test_a_message_of_a_model_is_cleaned_with_all_its_parts() -> None:
    message = Message(
        role="assistant",
        parts=(
            Text(text="hi \ud83d\ude00"),
            Thinking(raw={"thinking": "hm \ud83d", "signature": "s"}),
            ToolCall(id="t\x00", tool="look\udfff", arguments={"k\ud83d": ["\ude00", {"deep": "\x00"}]}),
        ),
    )
    assert message.clean.parts == (
        Text(text="hi 😀"),
        Thinking(raw={"thinking": "hm �", "signature": "s"}),
        ToolCall(id="t�", tool="look�", arguments={"k�": ["�", {"deep": "�"}]}),
    )


class Mail(BaseModel):
    body: str
    sent: datetime = datetime(2026, 1, 1, tzinfo=UTC)


class Names(BaseModel):
    by: dict[str, Any]


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        (Mail, Mail(body="\ud83d\ude00 \ud83d"), {"body": "😀 �", "sent": "2026-01-01T00:00:00Z"}),
        (dict[str, Any], {"k\udfff": "\x00", "n": float("nan")}, {"k�": "�", "n": None}),
        (Names, Names(by={"k\ud83d\ude00": [("\ud83d",)]}), {"by": {"k😀": [["�"]]}}),
        (list[str], ["a", "\ud83d"], ["a", "�"]),
        (str, "\x00", "�"),
        (int, 3, 3),
    ],
)
def test_a_result_is_kept_whatever_its_texts_hold(kind: Any, value: Any, kept: Any) -> None:
    assert plain_json(TypeAdapter(kind), value) == kept


@pytest.mark.parametrize("value", [object(), {"a": object()}, {"a": object(), "b": "\ud83d"}, "x" * MAX_CHARACTERS])
def test_what_is_no_json_or_too_much_is_an_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r"serialize|characters as JSON"):
        plain_json(TypeAdapter(Any), value)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": "\\ud83d"}', {"a": "�"}),
        (b'{"a": "\\ud83d\\ude00", "\\u0000": 1}', {"a": "😀", "�": 1}),
        (b'"\xed\xa0\xbd"', "�"),
        (b"[1.5, 1e3]", [1.5, 1000.0]),
    ],
)
def test_json_that_others_send_is_cleaned(body: bytes, value: Any) -> None:
    assert read_json(body) == value


@pytest.mark.parametrize(
    "body", [b"", b"{", b"NaN", b'{"a": -Infinity}', b"1e999", b"\xff", b"[" * 100_000, b"[" * 300 + b"]" * 300]
)
def test_what_others_send_and_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(body)
