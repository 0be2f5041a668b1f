"""Fields that contracts name: by name or alias, found where they are stored."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    SerializeAsAny,
    TypeAdapter,
    computed_field,
    create_model,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypeAliasType, TypedDict

from handfast.contracts.field_names import resolve_field
from handfast.contracts.field_paths import is_empty, joined, steps_of, value_at
from handfast.contracts.provenance.paths import covers, leaves


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class Line(Camel):
    unit_price: int = 0
    paid_on: date | None = None


class Note(TypedDict):
    text_body: Annotated[str, Field(alias="textBody")]


@dataclasses.dataclass
class Place:
    zip_code: Annotated[str, Field(alias="zipCode")]


class Email(Camel):
    kind: Literal["mail"] = "mail"
    body_text: str = ""


class Chat(Camel):
    kind: Literal["chat"] = "chat"
    words: str = Field(alias="chatWords", default="")


Item = TypeVar("Item")


class Page(Camel, Generic[Item]):
    all_items: list[Item]


class Folder(Camel):
    folder_name: str
    sub_folders: list["Folder"] = []


class Order(Camel):
    order_id: str
    order_lines: list[Line]
    by_country: dict[str, Line]
    note: Note
    place: Place
    message: Email | Chat
    tagged: Annotated[Email | Chat, Field(discriminator="kind")]
    loose: dict[str, Any]
    maybe: Line | None = None
    dotted: str = Field(alias="order.dotted")
    seen: str = Field(validation_alias=AliasChoices("seen", "wasSeen"), serialization_alias="seen")
    tree: Folder
    both: tuple[Line, Note]
    several: Sequence[Line] = ()
    named: Mapping[str, Line] = {}

    @computed_field(alias="lineCount")
    def line_count(self) -> int:
        return 0


Listed = TypeAliasType("Listed", list[Line])


@pytest.mark.parametrize(
    ("of", "name", "stored"),
    [
        (Order, "order_id", ["orderId"]),
        (Order, "orderId", ["orderId"]),
        (Order, "order_lines.unit_price", ["orderLines.unitPrice"]),
        (Order, "orderLines.*.unit_price", ["orderLines.unitPrice"]),
        (Order, "by_country.*.unit_price", ["byCountry.*.unitPrice"]),
        (Order, "note.text_body", ["note.textBody"]),
        (Order, "place.zip_code", ["place.zipCode"]),
        (Order, "message.body_text", ["message.bodyText"]),
        (Order, "message.words", ["message.chatWords"]),
        (Order, "message.kind", ["message.kind"]),
        (Order, "tagged.words", ["tagged.chatWords"]),
        (Order, "maybe.paid_on", ["maybe.paidOn"]),
        (Order, "dotted", [r"order\.dotted"]),
        (Order, "order.dotted", [r"order\.dotted"]),
        (Order, "wasSeen", ["seen"]),
        (Order, "tree.sub_folders.sub_folders.folder_name", ["tree.subFolders.subFolders.folderName"]),
        (Order, "both.text_body", ["both.textBody"]),
        (Order, "several.unit_price", ["several.unitPrice"]),
        (Order, "named.*.unit_price", ["named.*.unitPrice"]),
        (Order, "line_count", ["lineCount"]),
        (list[Order], "order_id", ["orderId"]),
        (RootModel[list[Line]], "unit_price", ["unitPrice"]),
        (Page[Line], "all_items.unit_price", ["allItems.unitPrice"]),
        (Listed, "unit_price", ["unitPrice"]),
        (Email | None, "body_text", ["bodyText"]),
        (dict[str, Email], "*.body_text", ["*.bodyText"]),
    ],
)
def test_a_field_is_found_by_its_name_and_by_its_alias(of: Any, name: str, stored: list[str]) -> None:
    found = resolve_field(of, name)
    assert (found.fault, [*found.paths]) == ("", stored)


@pytest.mark.parametrize(
    ("of", "name", "fault"),
    [
        (Order, "order_ids", "there is no 'order_ids'; there is .*; did you mean 'order_id'?"),
        (Order, "order_lines.unit_prize", "orderLines has no 'unit_prize'; there is .*; did you mean 'unit_price'?"),
        (Order, "order_lines.0.unit_price", "orderLines is a list: leave the number out"),
        (Order, "order_id.x", "orderId is one value"),
        (Order, "message.text", "message has no 'text'; there is body_text, kind, words"),
        (Order, "tree.sub_folders.name", "tree.subFolders has no 'name'"),
        (str, "body", "it is one value"),
        (None, "body", "leads to nothing"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_with_what_there_is(of: Any, name: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        raise ValueError(resolve_field(of, name).fault)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: str = ""


@pytest.mark.parametrize(
    ("of", "name", "below"),
    [
        (Any, "body", [""]),
        (dict, "body", [""]),
        (dict[str, str], "body", [""]),
        (dict[str, Line], "line.unit_price", [""]),
        (Open, "other", [""]),
        (Order, "loose.body", ["loose"]),
        (Order, "by_country.de", ["byCountry"]),
        (SerializeAsAny[Line], "unit_price", [""]),
        (Annotated[Line, PlainSerializer(lambda line: {"text": "t"})], "unit_price", [""]),
        (list[Any], "body", [""]),
    ],
)
def test_where_nothing_is_known_all_of_it_may_be_meant(of: Any, name: str, below: list[str]) -> None:
    found = resolve_field(of, name)
    assert (found.fault, found.paths, [joined(steps) for steps in found.unknown_below]) == ("", (), below)


def test_a_union_that_stores_a_field_twice_has_both_and_a_text_beside_it_is_meant_too() -> None:
    class Other(BaseModel):
        body_text: str

    found = resolve_field(Email | Other | str, "body_text")
    assert (found.paths, found.unknown_below) == (("bodyText", "body_text"), ((),))


def test_a_name_that_two_fields_have_is_refused() -> None:
    class Swapped(BaseModel):
        first: str = Field(alias="second")
        second: str = Field(alias="first")

    assert "may mean 'first' of 'first' (stored as 'second') and of 'second'" in resolve_field(Swapped, "first").fault


def test_a_type_that_only_holds_lists_of_itself_ends() -> None:
    endless = TypeAliasType("endless", "list[endless] | dict[str, endless] | str")  # type: ignore[misc]
    assert resolve_field(list[endless], "a.b.c").unknown_below


@given(st.lists(st.one_of(st.none(), st.text()), min_size=1))
def test_paths_keep_names_whatever_signs_they_hold(steps: list[str | None]) -> None:
    assert steps_of(joined(steps)) == tuple(steps)


@pytest.mark.parametrize("value", [None, "", "  ", [], {}, [None, ""], {"a": None, "b": [{"c": ""}]}])
def test_what_says_nothing_is_empty(value: Any) -> None:
    assert is_empty(value)


@pytest.mark.parametrize("value", [0, False, "0", [0], {"a": None, "b": False}])
def test_zero_and_false_are_values(value: Any) -> None:
    assert not is_empty(value)


NAMES = st.from_regex(r"[a-z][a-z]{0,5}(_[a-z]{1,4})?", fullmatch=True).filter(
    lambda name: not hasattr(BaseModel, name)
)
SIGNS = st.text("abAB-.$@* \\", min_size=1, max_size=5)


OF_KIND: dict[str, Callable[[Any], Any]] = {
    "model": lambda model: model,
    "list": lambda model: list.__class_getitem__(model),
    "maybe": lambda model: model | None,
    "mapping": lambda model: dict.__class_getitem__((str, model)),
}


class Made:
    """A model that hypothesis made, with an example of it and the paths of its single values: by name, and by alias."""

    def __init__(self, model: Any, value: dict[str, Any], paths: list[tuple[tuple[str, ...], tuple[str, ...], str]]):
        self.model, self.value, self.paths = model, value, paths


@st.composite
def models(draw: st.DrawFn, depth: int = 2) -> Made:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    aliases = draw(
        st.lists(SIGNS.filter(lambda alias: alias not in names), min_size=len(names), max_size=len(names), unique=True)
    )
    fields: dict[str, Any] = {}
    value: dict[str, Any] = {}
    paths: list[tuple[tuple[str, ...], tuple[str, ...], str]] = []
    for number, (name, other) in enumerate(zip(names, aliases, strict=True)):
        alias = other if draw(st.booleans()) else None
        stored = alias or name
        kind = draw(st.sampled_from(("text", "model", "list", "maybe", "mapping"))) if depth else "text"
        if kind == "text":
            secret = f"value {depth} {number}"
            of, value[stored] = str, secret
            paths.append(((name,), (stored,), secret))
        else:
            inner = draw(models(depth=depth - 1))
            of = OF_KIND[kind](inner.model)
            value[stored] = {"list": [inner.value], "mapping": {"k": inner.value}}.get(kind, inner.value)
            between = ("*",) if kind == "mapping" else ()
            paths += [((name, *between, *one), (stored, *between, *two), text) for one, two, text in inner.paths]
        fields[name] = (of, Field(alias=alias) if alias else ...)
    return Made(create_model("Made", **fields), value, paths)


@settings(max_examples=300, deadline=None)
@given(models(), st.data())
def test_whatever_the_model_the_path_of_a_field_leads_to_its_value(made: Made, data: st.DataObject) -> None:
    by_name, by_alias, text = data.draw(st.sampled_from(made.paths))
    mixed = [data.draw(st.sampled_from(pair)) for pair in zip(by_name, by_alias, strict=True)]
    stored = TypeAdapter(made.model).dump_python(
        TypeAdapter(made.model).validate_python(made.value), mode="json", by_alias=True
    )
    found = resolve_field(
        made.model,
        joined(None if step == "*" and one == "*" else step for step, one in zip(mixed, by_name, strict=True)),
    )
    assert not found.fault
    held = [path for path, leaf in leaves(stored) if leaf == text]
    assert any(covers(one, path) for one in found.paths for path in held)
    if "*" not in by_name:
        assert text in str(value_at(stored, found.paths[0]))


@settings(max_examples=300, deadline=None)
@given(models(), st.data())
def test_a_misspelt_field_is_a_fault_or_covers_what_it_may_have_meant(made: Made, data: st.DataObject) -> None:
    """Of the mappings here the names are known, so that every misspelling must be found."""
    by_name, _, _ = data.draw(st.sampled_from(made.paths))
    place = data.draw(st.sampled_from([number for number, step in enumerate(by_name) if step != "*"]))
    wrong = [None if step == "*" else step for step in by_name]
    wrong[place] = f"{wrong[place]}Q"
    assert resolve_field(made.model, joined(wrong)).fault
