"""Arguments: the value that a turn settles is the value that every attempt gets, however the model wrote it."""

import enum
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
    computed_field,
    create_model,
    field_validator,
)
from pydantic.alias_generators import to_camel

from handfast import ContractError, Effect, Tier, Tool, tool
from handfast.contracts.arguments import Arguments, load_arguments, parse_arguments
from handfast.contracts.equality import same_value
from handfast.contracts.identity import canonical_json


def tool_taking(model: type[BaseModel], **clauses: Any) -> Tool:
    async def take(args: Any) -> None:
        """Take."""

    take.__annotations__ = {"args": model, "return": None}
    return tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y", **clauses)(take)


def parsed(model: type[BaseModel], **arguments: Any) -> Arguments:
    found = parse_arguments(tool_taking(model), arguments)
    assert isinstance(found, Arguments), found
    return found


def faults(model: type[BaseModel], **arguments: Any) -> dict[str, str]:
    found = parse_arguments(tool_taking(model), arguments)
    assert isinstance(found, dict), found
    return found


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    sku: str
    note: str | None = None
    count: int = 1


class Node(BaseModel):
    value: int
    below: list["Node"] = []


class Order(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, str_strip_whitespace=True)

    order_id: int
    amount: Decimal
    due: date
    at: datetime
    wait: timedelta
    colour: Colour
    tags: set[str]
    pair: tuple[int, str]
    by_number: dict[int, Line] = {}
    lines: list[Line] = []
    tree: Node | None = None
    raw: bytes = b""
    home: HttpUrl = HttpUrl("https://example.com/")
    reference: str = Field(default_factory=lambda: uuid.uuid4().hex)
    key: uuid.UUID = Field(default_factory=uuid.uuid4)

    @computed_field  # type: ignore[prop-decorator]  # mypy does not know it
    @property
    def doubled(self) -> Decimal:
        return 2 * self.amount


ORDER = {
    "orderId": "42",
    "amount": 1.10,
    "due": "2026-11-27",
    "at": "2026-11-27T08:00:00Z",
    "wait": "PT90S",
    "colour": "red",
    "tags": ["b", " a ", "b"],
    "pair": [1, " x "],
    "byNumber": {"7": {"sku": " s "}},
    "lines": [{"sku": "s", "count": "2"}],
    "tree": {"value": 1, "below": [{"value": 2}]},
}


def test_an_attempt_gets_the_value_that_was_settled() -> None:
    settled = parsed(Order, **ORDER)
    attempt = load_arguments(tool_taking(Order), settled.stored, settled.defaulted)
    assert isinstance(attempt, Arguments)
    assert same_value(settled.value, attempt.value)
    assert attempt.stored == settled.stored
    assert settled.stored == {
        **ORDER,
        "orderId": 42,
        "amount": "1.1",
        "wait": "PT1M30S",
        "tags": ["a", "b"],
        "pair": [1, "x"],
        "byNumber": {"7": {"sku": " s ", "note": None, "count": 1}},
        "lines": [{"sku": "s", "note": None, "count": 2}],
        "tree": {"value": 1, "below": [{"value": 2, "below": []}]},
        "raw": "",
        "home": "https://example.com/",
        "reference": settled.stored["reference"],
        "key": settled.stored["key"],
    }


def test_what_a_default_filled_in_counts_as_not_set_in_every_attempt() -> None:
    settled = parsed(Order, **ORDER)
    attempt = load_arguments(tool_taking(Order), settled.stored, settled.defaulted)
    assert isinstance(attempt, Arguments)
    for value in (settled.value, attempt.value):
        assert isinstance(value, Order)
        assert value.model_dump(exclude_unset=True).keys().isdisjoint({"raw", "home", "reference", "key"})
        assert value.lines[0].model_fields_set == {"sku", "count"}
        assert value.by_number[7].model_fields_set == {"sku"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"n": 42}, {"n": "42"}),
        ({"n": 42}, {"n": 42.0}),
        ({"n": 1}, {"n": True}),
        ({"n": 42}, {"n": 42, "currency": "EUR"}),
        ({"n": 42, "text": "i1"}, {"n": 42, "text": " i1 "}),
        ({"n": 42, "price": "1.10"}, {"n": 42, "price": "1.10"}),
        ({"n": 42, "tags": ["a", "b"]}, {"n": 42, "tags": ["b", "a", "b"]}),
        ({"n": 42, "day": "2026-11-27"}, {"n": 42, "day": "2026-11-27T00:00:00"}),
    ],
)
def test_one_value_has_one_form_however_it_is_written(one: dict[str, Any], other: dict[str, Any]) -> None:
    class Invoice(BaseModel):
        model_config = ConfigDict(str_strip_whitespace=True)
        n: int
        currency: str = "EUR"
        text: str = ""
        price: Decimal = Decimal(0)
        tags: frozenset[str] = frozenset()
        day: date | None = None

    assert parsed(Invoice, **one).stored == parsed(Invoice, **other).stored


class Money:
    def __init__(self, cents: Any) -> None:
        self.cents = int(cents)


class Cents(BaseModel):
    amount: int

    @field_validator("amount")
    @classmethod
    def in_cents(cls, value: int) -> int:
        return value * 100


class Country(BaseModel):
    country: str

    @field_validator("country")
    @classmethod
    def known(cls, value: str) -> str:
        return {"DE": value}[value]


class Unwritable(BaseModel):
    money: Annotated[Any, PlainValidator(Money), WithJsonSchema({"type": "string"})]


class Formatted(BaseModel):
    day: Annotated[date, PlainSerializer(lambda day: day.strftime("%d.%m.%Y"))]


class Recursive(BaseModel):
    value: Any = None


@pytest.mark.parametrize(
    ("model", "arguments", "field"),
    [
        (Cents, {"amount": 1}, "amount"),
        (Country, {"country": "XX"}, "arguments"),
        (Unwritable, {"money": "5"}, "arguments"),
        (Formatted, {"day": "2026-11-27"}, "day"),
        (Recursive, {"value": float("nan")}, "arguments"),
        (Recursive, {"value": float("inf")}, "arguments"),
        (Recursive, {"value": 10**5000}, "arguments"),
        (Recursive, {"value": object()}, "arguments"),
    ],
    ids=["not stable", "validator raises", "no dump", "not read back", "nan", "infinity", "huge", "object"],
)
def test_what_can_not_be_stored_and_read_back_is_refused(
    model: type[BaseModel], arguments: dict[str, Any], field: str
) -> None:
    assert [*faults(model, **arguments)] == [field]


AMOUNTS = st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9)


class Due(BaseModel):
    count: int = 1
    amount: Decimal = Decimal(0)
    at: datetime | None = None
    tags: frozenset[str] = frozenset()
    lines: dict[str, tuple[Decimal, ...]] = {}


@given(
    amount=AMOUNTS,
    zeros=st.integers(0, 3),
    at=st.integers(10**9, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    hours=st.integers(-11, 11),
    tags=st.lists(st.text(max_size=4), max_size=4),
    count=st.integers(),
)
def test_equal_values_make_one_key_however_they_are_written(
    amount: Decimal, zeros: int, at: datetime, hours: int, tags: list[str], count: int
) -> None:
    elsewhere = at.astimezone(timezone(timedelta(hours=hours))).isoformat()
    more = f"{amount:f}{'0' * zeros}" if "." in f"{amount:f}" else f"{amount:f}"
    one = parsed(Due, count=count, amount=f"{amount:f}", at=at.isoformat(), tags=tags, lines={"a": [f"{amount:f}"]})
    other = parsed(Due, lines={"a": [more]}, tags=[*tags[::-1], *tags], at=elsewhere, amount=more, count=str(count))
    assert canonical_json(one.alike) == canonical_json(other.alike)


@given(one=AMOUNTS, other=AMOUNTS)
def test_values_that_differ_make_keys_that_differ(one: Decimal, other: Decimal) -> None:
    keys = {canonical_json(parsed(Due, amount=f"{amount:f}").alike) for amount in (one, other)}
    assert len(keys) == len({one, other})


def test_an_object_without_equality_is_compared_by_what_is_stored() -> None:
    class Price(BaseModel):
        money: Annotated[
            Any,
            PlainValidator(Money),
            PlainSerializer(lambda money: str(money.cents)),
            WithJsonSchema({"type": "string"}),
        ]

    settled = parsed(Price, money=5)
    assert (settled.stored, settled.value.__dict__["money"].cents) == ({"money": "5"}, 5)


def test_a_default_that_pydantic_does_not_validate_refuses_no_call() -> None:
    class Loose(BaseModel):
        home: HttpUrl = "https://example.com/"  # type: ignore[assignment]  # as many write it
        price: Decimal = 0  # type: ignore[assignment]

    assert parsed(Loose).value == Loose(home=HttpUrl("https://example.com/"), price=Decimal(0))


@pytest.mark.parametrize("name", ["nope", "orderid", "order_id"])
def test_a_name_that_the_schema_does_not_have_is_refused(name: str) -> None:
    assert faults(Order, **ORDER, **{name: 1})[name].startswith("unknown argument; arguments are orderId, amount")


def contract_faults(model: type[BaseModel]) -> list[str]:
    with pytest.raises(ContractError) as raised:
        tool_taking(model)
    return list(raised.value.faults)


class Hidden(BaseModel):
    inner: int = Field(exclude=True)


class Password(BaseModel):
    inner: list[SecretStr]


class Bytes(BaseModel):
    model_config = ConfigDict(val_json_bytes="base64")
    inner: bytes


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (Hidden, "field 'inner' of Hidden has exclude=True"),
        (Password, "it holds a SecretStr or SecretBytes"),
        (Bytes, "it writes bytes as utf8 and reads them as base64"),
    ],
)
def test_a_type_that_can_not_be_stored_is_refused_when_the_contract_is_built(
    model: type[BaseModel], fault: str
) -> None:
    nested = create_model("Nested", within=(list[model], ...))  # type: ignore[valid-type]
    for one in (model, nested):
        [told] = contract_faults(one)
        assert told.removeprefix("arguments: ").startswith(fault)


KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "integer": (int, st.integers() | st.integers().map(str) | st.integers(-5, 5).map(float)),
    "number": (float, st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6)),
    "truth": (bool, st.booleans() | st.sampled_from(["yes", "no", 0, 1])),
    "text": (str, st.text()),
    "decimal": (Decimal, st.decimals(allow_nan=False, allow_infinity=False).map(str)),
    "day": (date, st.dates().map(str)),
    "moment": (datetime, st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat())),
    "wait": (timedelta, st.integers(-(10**6), 10**6)),
    "colour": (Colour, st.sampled_from(["red", "blue"])),
    "choice": (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    "either": (int | str | None, st.integers() | st.text() | st.none()),
    "tags": (set[str], st.lists(st.text(max_size=3), max_size=4)),
    "line": (Line, st.fixed_dictionaries({"sku": st.text()}, optional={"note": st.text() | st.none()})),
    "lines": (list[Line], st.lists(st.fixed_dictionaries({"sku": st.text()}), max_size=3)),
    "mapping": (dict[str, int], st.dictionaries(st.text(max_size=3), st.integers(), max_size=3)),
    "anything": (Any, st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner), max_leaves=4)),
    "raw": (bytes, st.text()),
    "tree": (
        Node,
        st.recursive(
            st.fixed_dictionaries({"value": st.integers()}),
            lambda below: st.fixed_dictionaries({"value": st.integers(), "below": st.lists(below, max_size=2)}),
            max_leaves=4,
        ),
    ),
}


@st.composite
def contracts(draw: st.DrawFn) -> tuple[type[BaseModel], dict[str, Any]]:
    """A model of some fields, and arguments that fit it."""
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4, unique=True))
    camel = draw(st.booleans())
    fields: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    for name in names:
        kind, values = KINDS[name]
        how = draw(st.sampled_from(["required", "optional", "alias", "choices"]))
        written = name
        if how == "optional":
            fields[name] = (kind | None, None)
        elif how == "alias":
            written = f"{name}-Alias"
            fields[name] = (kind, Field(alias=written))
        elif how == "choices":
            written = f"{name}First"
            fields[name] = (
                kind,
                Field(validation_alias=AliasChoices(written, "other"), serialization_alias=written),
            )
        else:
            fields[name] = (kind, ...)
            written = to_camel(name) if camel else name
        if how != "optional" or draw(st.booleans()):
            arguments[to_camel(name) if camel and how == "optional" else written] = draw(values)
    config = ConfigDict(alias_generator=to_camel) if camel else ConfigDict()
    return create_model("Generated", __config__=config, **fields), arguments


@given(contract=contracts())
def test_whatever_the_contract_the_value_survives(contract: tuple[type[BaseModel], dict[str, Any]]) -> None:
    model, arguments = contract
    made = tool_taking(model)
    settled = parse_arguments(made, arguments)
    assert isinstance(settled, Arguments), settled
    attempt = load_arguments(made, settled.stored, settled.defaulted)
    assert isinstance(attempt, Arguments), attempt
    assert same_value(settled.value, attempt.value)
    assert attempt.value.model_fields_set == settled.value.model_fields_set
    again = parse_arguments(made, settled.stored)
    assert isinstance(again, Arguments)
    assert made.digest(again.stored) == made.digest(settled.stored)
