"""A part of a text shows no more than the whole would: what is hidden is found first, and the text is cut then."""

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handfast.activities.excerpt import excerpt
from handfast.tools.hiding import MAX_SECRET, OVERLAP, WINDOW, shown, without_personal, without_secrets

MARKER = re.compile(r"\[[\w ()./-]+: hidden\]")
KINDS = ("mail", "phone", "card", "iban")
PEM = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQ" * 60 + "\n-----END PRIVATE KEY-----"
LONG_TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJ" + "aGVsbG8w" * 200 + ".c2ln"
SECRETS = [
    "sk-ant-a1B2c3D4e5F6g7H8i9J0k1L2", "hf1." + "a" * 40 + "." + "b" * 40, PEM, "AKIAIOSFODNN7EXAMPLE", LONG_TOKEN,
    "ghp_" + "a1B2c3D4e5F6" * 3, "bob.builder@example.com", "+49 170 1234567", "4111 1111 1111 1111",
    "DE89370400440532013000",
]  # fmt: skip
FILLERS = st.sampled_from(["w ", "lorem ipsum ", "\n", "{}, ", "aé😀 ", "zz" * 40 + " "])
TEXTS = st.lists(st.tuples(FILLERS, st.integers(0, 90), st.sampled_from(SECRETS)), min_size=1, max_size=4)


def planted(pieces: list[tuple[str, int, str]]) -> str:
    """A text with secrets in it."""
    return "".join(f"{filler * times} {secret} " for filler, times, secret in pieces)


def parts_of(secret: str, length: int = 6) -> set[str]:
    return {secret[at : at + length] for at in range(0, len(secret) - length, 3)}


def ends(text: str, data: Any, pieces: list[tuple[str, int, str]]) -> list[int]:
    """Places to cut at, most of them in the middle of a secret."""
    places = [text.index(secret) + data.draw(st.integers(0, len(secret))) for _, _, secret in pieces]
    return sorted([*places, data.draw(st.integers(0, len(text)))])


@settings(deadline=None)
@given(TEXTS, st.data())
def test_no_window_shows_a_part_of_what_the_whole_hides(pieces: list[tuple[str, int, str]], data: Any) -> None:
    text = planted(pieces)
    start, *_, end = ends(text, data, pieces)
    whole, window = shown(text, KINDS), shown(text, KINDS, start, end)
    assert MARKER.sub("", window) in MARKER.sub("", whole)
    for _, _, secret in pieces:
        assert not [part for part in parts_of(secret) if part in window and part not in whole]


@settings(deadline=None)
@given(TEXTS, st.data())
def test_windows_side_by_side_show_what_the_whole_shows(pieces: list[tuple[str, int, str]], data: Any) -> None:
    text = planted(pieces)
    cuts = ends(text, data, pieces)
    seen = "".join(shown(text, KINDS, start, end) for start, end in pairwise([0, *cuts, len(text)]))
    # What lies across a cut is named in both parts.
    assert MARKER.sub("", seen) == MARKER.sub("", shown(text, KINDS))


@settings(deadline=None)
@given(TEXTS, st.integers(50, 2500))
def test_an_excerpt_shows_no_part_of_what_the_whole_hides(pieces: list[tuple[str, int, str]], limit: int) -> None:
    text = planted(pieces)
    cut = excerpt(text, limit, "op-1", KINDS)
    for _, _, secret in pieces:
        assert not [part for part in parts_of(secret) if part in cut]


@pytest.mark.parametrize("secret", SECRETS)
def test_every_place_of_a_cut_is_the_same(secret: str) -> None:
    text = "w " * 600 + secret + " w" * 600
    for cut in range(1195, 1205 + min(len(secret), 60)):
        for part in (shown(text, KINDS, 0, cut), shown(text, KINDS, cut)):
            assert not [one for one in parts_of(secret) if one in part]
            assert "hidden]" in part or cut <= 1200 or cut >= 1200 + len(secret)


@pytest.mark.parametrize("at", [0, WINDOW - OVERLAP - 3, WINDOW - 3, WINDOW, 2 * WINDOW - OVERLAP - 10])
@pytest.mark.parametrize("secret", SECRETS)
def test_the_ends_of_the_windows_that_are_searched_hide_everything_too(secret: str, at: int) -> None:
    text = "." * at + " " + secret + " " + "." * MAX_SECRET
    assert not [part for part in parts_of(secret) if part in shown(text, KINDS)]


def test_the_whole_is_what_both_say_together() -> None:
    text = "key sk-ant-a1B2c3D4e5F6g7H8i9J0k1L2 of bob@example.com"
    assert without_personal(without_secrets(text), ("mail",)) == shown(text, ("mail",))
    assert shown(text, ("mail",)) == "key [Anthropic key: hidden] of [mail: hidden]"
