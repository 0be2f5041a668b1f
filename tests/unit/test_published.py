"""Published contracts: what breaks a caller, what does not, and whether the version number says so."""
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false
# Strategies of schemas within schemas have no type that says more than Any.

from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from handfast import Agent, Effect, Script, Tier, Tool, tool
from handfast.contracts.catalogue import as_markdown, catalogue
from handfast.contracts.clauses import Deprecation
from handfast.contracts.published import compare, lock_of, publish, version_faults
from handfast.contracts.schemas import Comparison

NUMBERS = st.integers(-3, 6)


def bounded(kind: str, *keywords: str) -> st.SearchStrategy[dict[str, Any]]:
    bounds = st.dictionaries(st.sampled_from(keywords), st.integers(0, 4), max_size=2)
    return bounds.map(lambda chosen: {"type": kind, **chosen})


LEAVES = st.one_of(
    st.just({}),
    bounded("integer", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    bounded("number", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    bounded("string", "minLength", "maxLength"),
    st.lists(st.sampled_from(["a", "bb", 1]), min_size=1, max_size=3, unique=True).map(lambda some: {"enum": some}),
    st.just({"type": "null"}),
)


def objects(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda properties, required, extra: {
            "type": "object",
            "properties": properties,
            "required": sorted(required),
            **extra,
        },
        st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
        st.sets(st.sampled_from("xy"), max_size=2),
        st.one_of(
            st.just({}),
            st.just({"additionalProperties": False}),
            inner.map(lambda schema: {"additionalProperties": schema}),
        ),
    )


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        objects(inner),
        st.lists(inner, min_size=2, max_size=2).map(lambda some: {"anyOf": some}),
        st.builds(lambda items, bounds: {**bounds, "items": items}, inner, bounded("array", "minItems", "maxItems")),
    ),
    max_leaves=4,
)
VALUES = st.recursive(
    st.one_of(st.none(), NUMBERS, st.just(1.5), st.sampled_from(["", "a", "bb", "ccc"])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)),
    max_leaves=4,
)


def fits(value: Any, schema: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(value)


@settings(max_examples=600, deadline=None)
@given(before=SCHEMAS, after=SCHEMAS, values=st.lists(VALUES, min_size=5, max_size=20))
@example(before={"type": "object"}, after={"type": "object", "properties": {"x": {"type": "null"}}}, values=[{"x": 1}])
def test_where_no_narrowing_is_found_whatever_fitted_still_fits(
    before: dict[str, Any], after: dict[str, Any], values: list[Any]
) -> None:
    """A JSON Schema validator is the judge."""
    if not Comparison(before, after).narrowings():
        for value in values:
            assert not fits(value, before) or fits(value, after)


@given(schema=SCHEMAS)
def test_a_schema_is_compatible_with_itself(schema: dict[str, Any]) -> None:
    assert Comparison(schema, schema).narrowings() == []


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    item: str
    colour: Colour = Colour.RED
    parts: list["Line"] = []


class Paint(BaseModel):
    order: str = Field(pattern=r"^\d+$", max_length=8)
    litres: int = Field(gt=0, le=100)
    lines: list[Line] = []


class Painted(BaseModel):
    paint_id: str
    note: str | None = None


def contract(arguments: type[BaseModel] = Paint, result: type[BaseModel] = Painted, **clauses: Any) -> Tool:
    async def paint(args: Any) -> Any:
        """Paint what was ordered, once it was confirmed."""

    paint.__annotations__ = {"args": arguments, "return": result}
    usual: dict[str, Any] = {
        "version": "1.4.0",
        "effect": Effect.KEYED,
        "tier": Tier.REVERSIBLE,
        "scope": "paint:write",
    }
    return tool(**{**usual, **clauses})(paint)


def changed(**changes: Any) -> type[BaseModel]:
    """The argument model with other fields; None takes one away."""
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in Paint.model_fields.items()}
    fields = {name: field for name, field in {**fields, **changes}.items() if field is not None}
    namespace = {"__annotations__": {n: t for n, (t, _) in fields.items()}, **{n: f for n, (_, f) in fields.items()}}
    return type("Paint", (BaseModel,), {**namespace, "__module__": __name__})


class Renamed(BaseModel):
    paint: str


class Longer(BaseModel):
    paint_id: str
    note: str | None = None
    tin: int


class MaybePainted(BaseModel):
    paint_id: str | None
    note: str | None = None


CHANGES: dict[str, tuple[Tool, list[tuple[bool, str]]]] = {
    "nothing": (contract(), []),
    "a tighter bound": (
        contract(changed(litres=(int, Field(gt=0, le=50)))),
        [(True, "argument litres, maximum: 100 → 50")],
    ),
    "a wider bound": (
        contract(changed(litres=(int, Field(gt=0, le=500)))),
        [(False, "argument litres, maximum: 100 → 500")],
    ),
    "another pattern": (
        contract(changed(order=(str, Field(pattern=r"^\d{4}$", max_length=8)))),
        [(True, r"argument order, pattern: ^\d+$ → ^\d{4}$")],
    ),
    "another type": (
        contract(changed(litres=(str, Field()))),
        [(True, "argument litres, type: integer → string")],
    ),
    "an argument gone": (contract(changed(litres=None)), [(True, "argument litres is gone")]),
    "an argument required": (contract(changed(shade=(str, Field()))), [(True, "argument shade is required now")]),
    "an argument more": (contract(changed(shade=(str, Field(default="matt")))), [(False, "argument shade is new")]),
    "fewer values deep inside": (
        contract(changed(lines=(list[Literal["red"]], Field(default=[])))),
        [(True, "argument lines[], type: object → string")],
    ),
    "another result": (
        contract(result=Renamed),
        [
            (True, "result paint_id is optional now"),
            (False, "result note is gone"),
            (False, "result paint is required now"),
        ],
    ),
    "a result that holds more": (contract(result=Longer), [(False, "result tin is required now")]),
    "a result that may be missing": (
        contract(result=MaybePainted),
        [(True, "result paint_id, type: string → null or string")],
    ),
    "another effect": (contract(effect=Effect.ONCE), [(True, "effect: KEYED → ONCE")]),
    "less harm said": (
        contract(tier=Tier.IRREVERSIBLE, scope="paint"),
        [(True, "tier: REVERSIBLE → IRREVERSIBLE"), (True, "scope: paint:write → paint")],
    ),
    "a clause": (contract(timeout=timedelta(seconds=3)), [(False, "timeout_seconds: 30.0 → 3.0")]),
    "an owner": (contract(owner="paint shop"), [(False, "owner: none → paint shop")]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_is_told_as_breaking_or_compatible(what: str) -> None:
    new, expected = CHANGES[what]
    changes = compare({"paint": publish(contract())}, {"paint": publish(new)})
    assert [(change.breaking, change.message) for change in changes] == expected


@pytest.mark.parametrize(
    ("what", "version", "fault"),
    [
        ("a tighter bound", "2.0.0", None),
        ("a tighter bound", "1.5.0", "a breaking change needs version 2.0.0"),
        ("a wider bound", "1.4.1", None),
        ("a wider bound", "1.4.0", "a change needs a version above 1.4.0"),
        ("a clause", "1.3.9", "a change needs a version above 1.4.0"),
        ("nothing", "1.4.0", None),
        ("nothing", "2.0.0", None),
    ],
)
def test_the_version_must_say_what_changed(what: str, version: str, fault: str | None) -> None:
    new = publish(CHANGES[what][0]).model_copy(update={"version": version})
    faults = version_faults({"paint": publish(contract())}, {"paint": new})
    assert [change.message.split(":")[0] for change in faults] == ([fault] if fault else [])


def test_a_tool_may_come_but_not_go() -> None:
    one = {"paint": publish(contract())}
    assert [change.breaking for change in compare({}, one)] == [False]
    assert version_faults({}, one) == []
    [gone] = version_faults(one, {})
    assert "runs that call it would wait for ever" in gone.message


def test_a_deprecated_tool_says_so_to_the_model_and_in_the_catalogue() -> None:
    old = contract(deprecated=Deprecation(since="1.4.0", sunset=date(2031, 1, 2), replaced_by="paint_wall"))
    told = "Deprecated since 1.4.0, gone after 2031-01-02; use paint_wall instead."
    assert old.schema.description == f"Paint what was ordered, once it was confirmed.\n\n{told}"
    agents = [Agent(name=n, model=Script(["x"]), instructions="x", tools=[old]) for n in ("painter", "roofer")]
    page = as_markdown(catalogue(agents))
    assert (
        "| paint | 1.4.0 (deprecated) | Paint what was ordered, once it was confirmed. | KEYED | REVERSIBLE |" in page
    )
    assert "| nobody | none | painter, roofer |" in page
    assert "| REVERSIBLE |  |  | paint |  |  |  |" in page
    assert lock_of(agents).tools["paint"].deprecated == told
