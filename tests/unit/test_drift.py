"""What counts as a rise, and which fields of an answer nobody named."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, TypeAdapter

from handfast.contracts.drift import Counts, Misfit, rises
from handfast.contracts.schemas import unknown_fields


@pytest.mark.parametrize(
    ("now", "before", "risen"),
    [
        ((10, 20), (10, 1000), True),
        ((5, 10), (0, 50), True),
        ((20, 20), (0, 5000), True),
        ((4, 4), (0, 1000), False),
        ((10, 20), (4, 49), False),
        ((10, 200), (10, 1000), False),
        ((100, 200), (400, 1000), False),
        ((6, 100), (20, 1000), False),
        ((500, 1000), (500, 1000), False),
        ((0, 0), (0, 0), False),
    ],
    ids=[
        "half instead of 1 %", "five of ten, never before", "all of them", "too few to say", "no baseline", "five points, and no more",
        "not twice", "may be chance", "as usual", "nothing",
    ],
)  # fmt: skip
def test_a_share_has_risen_if_it_doubled_by_five_points_and_not_by_chance(
    now: tuple[int, int], before: tuple[int, int], *, risen: bool
) -> None:
    assert rises(now, before) is risen


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_what_is_at_most_as_usual_never_rises(found: int, more: int, found_before: int, more_before: int) -> None:
    now, before = (found, found + more), (found_before, found_before + more_before)
    if found * before[1] <= found_before * now[1]:
        assert not rises(now, before)


def test_counts_add_up_and_a_share_is_never_above_one() -> None:
    total = Counts(asked=2, invalid=1) + Counts(answered=3, refused=1) + Counts(mismatched=5)
    assert total == Counts(asked=2, answered=3, invalid=1, refused=1, mismatched=5)
    assert [total.share(misfit) for misfit in Misfit] == [(1, 2), (1, 3), (0, 3), (5, 5)]


class Line(BaseModel):
    sku: str


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: int


class Order(BaseModel):
    id: int
    lines: list[Line] = []
    by: Line | Loose | None = None
    notes: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("answer", "unknown"),
    [
        ({"id": 1, "lines": [{"sku": "a"}]}, []),
        ({"id": 1, "colour": "red"}, ["colour"]),
        ({"id": 1, "lines": [{"sku": "a"}, {"sku": "b", "size": 2}]}, ["lines[].size"]),
        ({"id": 1, "notes": {"any": {"thing": 1}}}, []),
        ({"id": 1, "by": {"id": 1, "any": 2}}, []),
        ({"id": 1, "by": None}, []),
        ([1], []),
    ],
)
def test_fields_that_the_contract_does_not_name_are_found(answer: Any, unknown: list[str]) -> None:
    assert unknown_fields(TypeAdapter(Order).json_schema(), answer) == unknown
