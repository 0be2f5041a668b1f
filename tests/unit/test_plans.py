"""Plans as data: what is found wrong before anything runs, how files are read, how they are drawn."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from pydantic import BaseModel, Field, ValidationError

from handfast import ContractError, Effect, SettingsError, Tier, Tool, ToolContext, tool
from handfast.client.plan_picture import as_mermaid, as_svg
from handfast.contracts.conditions import ConditionFailed, condition_fault, holds
from handfast.contracts.plan import Plan, require_request
from handfast.contracts.plan_check import plan_faults
from handfast.contracts.plan_file import read_plan
from handfast.contracts.references import Unbound, fill_in, follow, parse


class Room(BaseModel):
    number: int
    price: float
    tags: list[str] = Field(default_factory=list)
    guest: str | None = None


async def take_back(args: Any, result: Any, ctx: ToolContext) -> None: ...


def acting(name: str, **clauses: Any) -> Tool:
    @tool(name=name, version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:w", **clauses)
    async def act(number: int, note: str = "") -> Room:
        """Act."""
        return Room(number=number, price=1.0)

    return act


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
async def rooms(city: str) -> list[Room]:
    """List."""
    return []


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
async def anything(city: str) -> dict[str, Any]:
    """Look."""
    return {}


TOOLS = {
    one.name: one
    for one in (rooms, anything, acting("book", compensate=take_back), acting("mail"), acting("pay", pivot=True))
}
ROOMS = {"tool": "rooms", "with": {"city": "Oslo"}}
BOOK = {"tool": "book", "with": {"number": 1}}
MAIL = {"tool": "mail", "with": {"number": 1}}
PAY = {"tool": "pay", "with": {"number": 1}}


def plan(steps: dict[str, Any], **fields: Any) -> Plan:
    return Plan.model_validate({"name": "trip", "steps": steps, **fields})


@pytest.mark.parametrize(
    ("steps", "fields"),
    [
        ({"a": ROOMS, "b": {"tool": "book", "with": {"number": "${steps.a.result[0].number}"}}}, {}),
        ({"a": ROOMS, "b": {**BOOK, "for_each": "${steps.a.result}", "with": {"number": "${item.number}"}}}, {}),
        ({"a": {"tool": "anything", "with": {"city": "${request.city}"}},
          "b": {"tool": "book", "with": {"number": "${steps.a.result.what.ever}"}}}, {"request": {"city": "string"}}),
        ({"a": BOOK, "b": {**BOOK, "with": {"number": "${steps.a.result.number}", "note": "as ${steps.a.result}"}}}, {}),
        ({"a": BOOK, "p": {**PAY, "depends_on": ["a"]}, "m": {**MAIL, "depends_on": ["p"]}}, {}),
        ({"m": {**MAIL, "stands": True}, "a": BOOK}, {}),
        ({"a": BOOK, "m": {**MAIL, "depends_on": ["a"]}}, {}),
        ({"a": {**BOOK, "on_failure": "b"}, "b": BOOK, "c": {**BOOK, "with": {"number": "${steps.a.result.number}"}}}, {}),
        ({"a": {"first_of": [BOOK, ROOMS]}}, {}),
        ({"a": {**BOOK, "when": "request.n > 1 && 'x' in request.tags"}}, {"request": {"n": "integer", "tags": "array"}}),
    ],
)  # fmt: skip
def test_a_sound_plan_has_no_fault(steps: dict[str, Any], fields: dict[str, Any]) -> None:
    assert plan_faults(plan(steps, **fields), TOOLS) == []


@pytest.mark.parametrize(
    ("steps", "fields", "fault"),
    [
        ({"a": {"tool": "fly"}}, {}, "step 'a' names tool 'fly', which the agent does not have; it has anything, book"),
        ({"a": {**BOOK, "depends_on": ["b"]}}, {}, "step 'a' waits for 'b', which is no step; steps are a"),
        ({"a": {**BOOK, "depends_on": ["b"]}, "b": {**BOOK, "depends_on": ["a"]}}, {}, "it goes round in a circle: "),
        ({"a": {**BOOK, "on_failure": "a"}}, {}, "step 'a' takes itself on failure"),
        ({"a": {**BOOK, "on_failure": "b"}}, {}, "step 'a' takes 'b' on failure, which is no step"),
        ({"a": {**BOOK, "on_failure": "b"}, "b": BOOK, "c": {**BOOK, "depends_on": ["b"]}}, {},
         "step 'c' waits for 'b', which is only taken if 'a' fails: wait for 'a'"),
        ({"a": {**BOOK, "on_failure": "c"}, "b": {**BOOK, "on_failure": "c"}, "c": BOOK}, {}, "instead of more than one step"),
        ({"a": {"tool": "book"}}, {}, "step 'a', book lacks argument 'number'"),
        ({"a": {**BOOK, "with": {"number": 1, "size": 2}}}, {}, "book takes no argument 'size'; it takes number, note"),
        ({"a": {**BOOK, "with": {"number": "one"}}}, {}, "argument number: Input should be a valid integer"),
        ({"a": ROOMS, "b": {**BOOK, "with": {"number": "${steps.a.result}"}}}, {}, "that is array, and must be integer"),
        ({"a": ROOMS, "b": {**BOOK, "with": {"number": "${steps.a.result[0].price}"}}}, {}, "that is number, and must be integer"),
        ({"a": BOOK, "b": {**BOOK, "with": {"number": 1, "note": "${steps.a.result.guest}"}}}, {}, "must be string"),
        ({"a": BOOK, "b": {**BOOK, "with": {"number": "no ${steps.a.result.number}"}}}, {}, "that is string, and must be integer"),
        ({"a": BOOK, "b": {**BOOK, "with": {"number": "${steps.a.result.size}"}}}, {}, "it has no 'size'; it has number, price"),
        ({"a": {**BOOK, "with": {"number": "${request.n}"}}}, {}, "${request.n} stands for nothing: it has no 'n'"),
        ({"a": {**BOOK, "with": {"number": "${item}"}}}, {}, "stands for nothing without for_each"),
        ({"a": {**BOOK, "with": {"number": "${secrets.key}"}}}, {}, "'secrets.key' is no reference"),
        ({"a": {**BOOK, "for_each": "${request.n}", "with": {"number": "${item}"}}}, {"request": {"n": "integer"}}, "not a list"),
        ({"a": {**BOOK, "for_each": "all", "with": {"number": "${item}"}}}, {}, "must be one reference to a list"),
        ({"a": {**BOOK, "when": "request.n >"}}, {"request": {"n": "integer"}}, "it is no CEL expression"),
        ({"a": {**BOOK, "when": "1 < 2"}}, {}, "is always the same"),
        ({"a": {**BOOK, "when": "steps.b.status == 'skipped'"}}, {}, "step 'a' waits for 'b', which is no step"),
        ({"a": {**BOOK, "join": "any"}}, {}, "joins any, and depends_on names fewer than two steps"),
        ({"a": BOOK, "b": BOOK, "c": {**BOOK, "depends_on": ["a", "b"], "join": "any",
          "with": {"number": "${steps.a.result.number}"}}}, {}, "so it can't refer to the results of a"),
        ({"m": MAIL, "a": {**BOOK, "depends_on": ["m"]}}, {}, "step 'm' would stay if 'a' failed: nothing undoes mail"),
        ({"m": MAIL, "a": BOOK}, {}, "step 'm' would stay if 'a' failed"),
        ({"a": {"first_of": [BOOK, MAIL]}}, {}, "step 'a' may have to undo mail if another way wins"),
        ({"p": PAY, "a": BOOK}, {}, "step 'a' runs beside 'p', which commits the job"),
        ({"p": {**PAY, "on_failure": "continue"}}, {}, "on_failure continue would go on as if it had"),
        ({"p": {**PAY, "for_each": "${request.n}"}}, {"request": {"n": "array"}}, "no for_each, no first_of"),
        ({"a": BOOK}, {"output": "${steps.b.result}"}, "output: ${steps.b.result}: 'b' is no step"),
    ],
)  # fmt: skip
def test_what_can_be_known_to_go_wrong_is_found(steps: dict[str, Any], fields: dict[str, Any], fault: str) -> None:
    faults = plan_faults(plan(steps, **fields), TOOLS)
    assert [one for one in faults if fault in one], faults


def test_all_faults_are_told_together() -> None:
    faults = plan_faults(plan({"a": {"tool": "fly"}, "b": {**BOOK, "depends_on": ["x"]}, "c": {"tool": "book"}}), TOOLS)
    assert len(faults) == 3


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ({}, "at least 1 item"),
        ({"A": BOOK}, "should match pattern"),
        ({"a": {}}, "one of tool, agent and plan"),
        ({"a": {"first_of": [BOOK]}}, "at least two ways"),
        ({"a": {**BOOK, "speed": 1}}, "Extra inputs are not permitted"),
        ({"a": {**BOOK, "parallel": 0}}, "greater than or equal to 1"),
    ],
)
def test_what_is_no_plan_is_refused(steps: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        plan(steps)


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        ({}, "it lacks 'n'"),
        ({"n": "1"}, "n is '1', and must be of type integer"),
        ({"n": True}, "n is True, and must be of type integer"),
        ({"n": 1, "m": 2}, "it has 'm', which the plan does not know"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(request_: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        require_request(plan({"a": BOOK}, request={"n": "integer"}), request_)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("${request.a}", [1, {"b": "x"}]),
        ("${request.a[1].b}", "x"),
        ("is ${request.a[0]} and ${request.a[1].b}", "is 1 and x"),
        ("$${request.a}", "${request.a}"),
        ({"x": ["${request.a[0]}", 2, None]}, {"x": [1, 2, None]}),
        ("all ${request.a}", 'all [1, {"b": "x"}]'),
    ],
)
def test_references_keep_their_type_when_alone_and_become_text_inside_of_one(given: Any, expected: Any) -> None:
    request = {"a": [1, {"b": "x"}]}
    assert fill_in(given, lambda reference: follow(request, reference)) == expected


@pytest.mark.parametrize("text", ["request.a.z", "request.a[9]", "request.a[0].b"])
def test_a_reference_to_what_is_not_there_says_so(text: str) -> None:
    with pytest.raises(Unbound, match="stands for nothing"):
        follow({"a": [1]}, parse(text))


@pytest.mark.parametrize(
    "text", ["", "steps.a", "steps.a.status", "__import__('os')", "request..a", "index.x", "request.a[-1]"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no reference"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps.a.result.n > 1 && request.city == 'Oslo'", True),
        ("size(steps.a.result.tags) == 2", True),
        ("steps.a.result == null", False),
        ("has(steps.a.result.m) || steps.a.status == 'failed'", False),
    ],
)
def test_conditions_are_decided_by_what_is_given(text: str, expected: bool) -> None:
    given = {
        "steps": {"a": {"status": "succeeded", "result": {"n": 2, "tags": ["x", "y"]}}},
        "request": {"city": "Oslo"},
    }
    if "null" in text:
        given["steps"]["a"]["result"] = None  # type: ignore[index]
        expected = True
    assert holds(text, given) is expected


@pytest.mark.parametrize("text", ["steps.b.result > 1", "request.n > 'x'", "request.n", "1 / 0 == 1"])
def test_a_condition_that_can_not_be_decided_says_so(text: str) -> None:
    with pytest.raises(ConditionFailed, match=r"can't be decided|neither true nor false"):
        holds(text, {"steps": {"a": {}}, "request": {"n": 1}})


def test_a_condition_reaches_nothing_but_what_it_is_given() -> None:
    assert condition_fault("a" * 1001) == "it has 1001 characters, allowed are 1000"
    for text in ("__import__('os').system('x') == 0", "request.__class__ == 1", "open('x') == 1"):
        with pytest.raises(ConditionFailed):
            holds(text, {"request": {"n": 1}, "steps": {}})


def test_a_plan_is_read_from_yaml_and_json(tmp_path: Path) -> None:
    text = "name: trip\nagent: desk\nsteps:\n  a:\n    tool: book\n    with: {number: 1}\n"
    (tmp_path / "a.yaml").write_text(text)
    read = read_plan(tmp_path / "a.yaml")
    assert read == plan({"a": BOOK}, agent="desk")
    (tmp_path / "a.json").write_text(read.model_dump_json())
    assert read_plan(tmp_path / "a.json") == read


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("name: [", SettingsError, "no YAML"),
        ("- 1", ContractError, "valid dictionary"),
        ("name: x\nsteps: {a: {tool: t, wth: {}}}", ContractError, "steps.a.wth: Extra inputs"),
        ("name: !!python/object/apply:os.system [ls]\n", SettingsError, "no YAML"),
        ("x: " + "y" * 1_000_001, SettingsError, "at most 1000000 bytes"),
    ],
)
def test_a_file_that_holds_no_plan_says_why(tmp_path: Path, text: str, error: type[Exception], told: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(error, match=told):
        read_plan(tmp_path / "a.yaml")
    with pytest.raises(SettingsError, match="can't be read"):
        read_plan(tmp_path / "none.yaml")


def test_a_plan_is_drawn_with_every_step_and_every_arrow() -> None:
    drawn = plan(
        {
            "a": {**BOOK, "on_failure": "b"},
            "b": BOOK,
            "c": {**BOOK, "depends_on": ["a"], "when": 'request.x == "<&>"'},
            "d": {"first_of": [BOOK, ROOMS], "depends_on": ["a"]},
        },
        request={"x": "string"},
    )
    assert as_mermaid(drawn) == (
        'flowchart TD\n    a["a<br>book"]\n    b["b<br>book"]\n    c["c<br>book<br>when request.x == #quot;&lt;&amp;&gt;#quot;"]\n'
        '    d["d<br>book or rooms"]\n    a -. if it fails .-> b\n    a --> c\n    a --> d\n'
    )
    root = ET.fromstring(as_svg(drawn))
    space = "{http://www.w3.org/2000/svg}"
    texts = [one.text for one in root.iter(f"{space}text")]
    assert [name for name in drawn.steps if name in texts] == ["a", "b", "c", "d"]
    assert len(root.findall(f"{space}path")) == 3
    boxes = [(float(one.attrib["x"]), float(one.attrib["y"])) for one in root.iter(f"{space}rect")]
    assert len(set(boxes)) == 4
