"""Results: what a function returned is what is read back, or is known to be lost."""

import dataclasses
import enum
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, computed_field, create_model

from handfast.contracts.equality import same_value
from handfast.contracts.storage import JsonAdapter, NotStorable


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    day: date


class Pair(NamedTuple):
    left: int
    right: str


VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "integer": (int, st.integers()),
    "number": (float, st.floats(allow_nan=False, allow_infinity=False)),
    "text": (str, st.text()),
    "decimal": (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    "day": (date, st.dates()),
    "moment": (datetime, st.datetimes(timezones=st.just(UTC))),
    "naive": (datetime, st.datetimes()),
    "clock": (time, st.times()),
    "wait": (timedelta, st.timedeltas()),
    "key": (UUID, st.uuids()),
    "colour": (Colour, st.sampled_from(Colour)),
    "raw": (bytes, st.text().map(str.encode)),
    "point": (Point, st.builds(Point, st.integers(), st.dates())),
    "pair": (Pair, st.builds(Pair, st.integers(), st.text())),
    "days": (set[date], st.sets(st.dates(), max_size=3)),
    "by_day": (dict[date, int], st.dictionaries(st.dates(), st.integers(), max_size=3)),
    "either": (int | str | None, st.integers() | st.text() | st.none()),
    "anything": (Any, st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=4)),
}


@st.composite
def results(draw: st.DrawFn) -> tuple[Any, Any]:
    """A declared type and a value of it."""
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4, unique=True))
    extra: Literal["ignore", "forbid", "allow"] = draw(st.sampled_from(["ignore", "forbid", "allow"]))
    fields: dict[str, Any] = {}
    for name in names:
        kind = VALUES[name][0]
        fields[name] = (kind, Field(alias=f"{name}Alias") if draw(st.booleans()) else ...)
    config = ConfigDict(extra=extra, strict=draw(st.booleans()), validate_by_name=True, validate_by_alias=True)
    model = create_model("Generated", __config__=config, **fields)
    value = model.model_construct(**{name: draw(VALUES[name][1]) for name in names})
    shape = draw(st.sampled_from(["plain", "list", "mapping"]))
    return {"plain": (model, value), "list": (list[model], [value]), "mapping": (dict[str, model], {"a": value})}[shape]


@given(result=results())
def test_what_is_stored_is_read_back_or_known_to_be_lost(result: tuple[Any, Any]) -> None:
    declared, value = result
    stored = JsonAdapter(declared)
    try:
        content = stored.store(value, read_back=True)
    except NotStorable:
        return
    assert same_value(value, stored.load(content), as_json=stored.has_any)


class Net(BaseModel):
    net: int

    @computed_field  # type: ignore[prop-decorator]  # mypy does not know it
    @property
    def gross(self) -> int:
        return 2 * self.net


@pytest.mark.parametrize(("extra", "stored"), [("ignore", {"net": 1, "gross": 2}), ("forbid", {"net": 1})])
def test_computed_fields_are_stored_where_they_can_be_passed_over(extra: Any, stored: dict[str, int]) -> None:
    class Price(Net):
        model_config = ConfigDict(extra=extra)

    assert JsonAdapter(Price).store(Price(net=1), read_back=True) == stored


@pytest.mark.parametrize("value", [{1: object()}, object(), {1: "a", "1": "b"}])
def test_what_is_no_json_can_not_be_stored(value: Any) -> None:
    with pytest.raises(NotStorable):
        JsonAdapter(Any).store(value)


@pytest.mark.parametrize(
    ("value", "stored"), [(float("nan"), None), ((n for n in [1]), [1]), ({"n": iter([1])}, {"n": [1]})]
)
def test_what_becomes_another_value_is_not_read_back(value: Any, stored: Any) -> None:
    content = JsonAdapter(Any).store(value)
    assert content == stored
    with pytest.raises(NotStorable):
        JsonAdapter(Any).survivor(value, content)
