"""Conditions of plans: CEL as its specification has it, bounded, and checked before a plan runs."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from handfast import Effect, Tier, Tool, tool
from handfast.activities.condition_process import ConditionProcess
from handfast.contracts.condition_evaluator import Undecided, evaluate
from handfast.contracts.conditions import BudgetExceeded, ConditionFailed, condition_fault, holds
from handfast.contracts.plan import Plan
from handfast.contracts.plan_check import plan_faults

CASES = json.loads((Path(__file__).parent / "cel_conformance.json").read_text())["cases"]


def test_values_are_those_of_the_conformance_cases_of_the_specification() -> None:
    def found(expression: str, bindings: Mapping[str, Any]) -> str:
        try:
            return json.dumps({"value": evaluate(expression, bindings)}, sort_keys=True)
        except Undecided:
            return json.dumps({"error": True})

    wrong = [name for name, text, given, right in CASES if found(text, given) != json.dumps(right, sort_keys=True)]
    assert (len(CASES), wrong) == (798, [])


VALUES = {"list": [1], "object": {"a": 1}, "int": 3, "float": 2.5, "text": "x", "yes": True, "none": [], "empty": {}}


@pytest.mark.parametrize("name", VALUES)
def test_every_value_can_be_compared_with_null(name: str) -> None:
    given = {"request": VALUES, "steps": {}}
    assert holds(f"request.{name} != null", given)
    assert not holds(f"request.{name} == null", given)
    assert not holds(f"null == request.{name}", given)


@pytest.mark.parametrize(
    "text",
    [
        "3 > 2.5", "3.0 == 3", "request.int > 2.5", "request.float < 3", "request.int == 3.0", "request.float != 2", "3 in [3.0]",
        "request.int in [1.0, 3.0]", "request.list == [1.0]", "1 != null", "'a' != null", "[] != null", "{} != null", "1 != 'a'",
        "size(request.text) > 0.5", "request.int > 2u",
    ],
)  # fmt: skip
def test_numbers_of_all_types_are_compared(text: str) -> None:
    assert condition_fault(text) == ""
    assert holds(text, {"request": VALUES, "steps": {}})


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**70), 10**400])
def test_a_number_beyond_64_bits_is_a_double(number: int) -> None:
    assert holds(f"request.n {'>' if number > 0 else '<'} 5", {"request": {"n": number}})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("request.n >", "it is no CEL expression: Syntax error"),
        ("request.n > nope", "undeclared reference to 'nope'"),
        ("shout(request.n)", "undeclared reference to 'shout'"),
        ("1 + 2.5 > request.n", "no matching overload for '_+_'"),
        ("'a' > 1 || request.n", "no matching overload for '_>_'"),
        ("(" * 60 + "request.n" + ")" * 60, "nested more than 32 deep"),
        ("request.l.all(a, request.l.all(b, request.l.all(c, a == b)))", "3 deep in each other, allowed are 2"),
        ("request.n == '" + "x" * 1000 + "'", "characters, allowed are 1000"),
    ],
)
def test_what_is_no_condition_is_told(text: str, fault: str) -> None:
    assert fault in condition_fault(text)


def test_macros_after_each_other_are_not_in_each_other() -> None:
    text = "request.l.filter(a, a > 0).map(a, a + 1).filter(a, a > 1).exists(a, a == 3)"
    assert condition_fault(text) == ""
    assert holds(text, {"request": {"l": [1, 2]}})


@pytest.fixture
async def process() -> AsyncIterator[ConditionProcess]:
    made = ConditionProcess()
    yield made
    await made.close()


GREEDY = {
    "items": "request.l.all(a, request.l.all(b, request.l.all(c, a + b + c >= 0)))",
    "memory": "[request.s]" + ".map(a, a + a)" * 22 + "[0] != ''",
    "memory of lists": "[request.l]" + ".map(a, a + a)" * 22 + "[0] != []",
    "time": "request.l.all(a, request.l.all(b, " + " && ".join(["request.l == request.l"] * 12) + "))",
}


@pytest.mark.parametrize("kind", GREEDY)
async def test_a_condition_that_takes_too_much_fails_and_says_what_to_do(process: ConditionProcess, kind: str) -> None:
    items: list[Any] = [[*range(300)] for _ in range(99)] if kind == "time" else [*range(500)]
    given = {"request": {"l": items, "s": "x" * 10_000}, "steps": {}}
    turned = 0

    async def turn() -> None:
        nonlocal turned
        while True:
            turned += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(turn())
    with pytest.raises(ConditionFailed, match="let a tool work out the value") as caught:
        await process.holds(GREEDY[kind], given)
    beside.cancel()
    assert kind != "time" or isinstance(caught.value, BudgetExceeded)
    assert turned > 100  # the event loop went on meanwhile
    assert await process.holds("request.l != null", given)  # and the next condition is decided


async def test_conditions_asked_at_once_get_their_own_answers(process: ConditionProcess) -> None:
    asked = [process.holds(f"request.n == {number}", {"request": {"n": number % 2}}) for number in range(20)]
    assert await asyncio.gather(*asked) == [number < 2 for number in range(20)]


async def test_a_condition_that_nobody_waits_for_any_more_answers_no_other_one(process: ConditionProcess) -> None:
    assert await process.holds("request.n == 1", {"request": {"n": 1}})
    asked = asyncio.create_task(process.holds("request.n == 1", {"request": {"n": 1}}))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert not await process.holds("request.n == 1", {"request": {"n": 2}})


class Guest(BaseModel):
    name: str
    age: int | None = None


class Room(BaseModel):
    number: int
    price: float
    note: str | None = None
    guest: Guest | None = None
    tags: list[str] = Field(default_factory=list)
    pair: tuple[int, str] = (1, "a")


def reading(function: Any) -> Tool:
    return tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")(function)


async def room(city: str) -> Room | None:
    """Look."""


async def rooms(city: str) -> list[Room]:
    """Look."""
    return []


async def number(city: str) -> int | None:
    """Look."""


async def anything(city: str) -> dict[str, Any]:
    """Look."""
    return {}


async def say(text: str) -> str:
    """Say."""
    return text


async def count(number: int) -> int:
    """Count."""
    return number


async def greet(guest: Guest, loud: bool = False) -> str:
    """Greet."""
    return guest.name


TOOLS = {one.name: one for one in map(reading, (room, rooms, number, anything, say, count, greet))}
LOOK = {name: {"tool": name, "with": {"city": "oslo"}} for name in ("room", "rooms", "number", "anything")}
REQUEST = {
    "n": "integer",
    "f": "number",
    "s": "string",
    "flag": "boolean",
    "l": "array",
    "maybe": {"type": ["string", "null"]},
}


def faults(when: str, **step: Any) -> list[str]:
    last = {"tool": "say", "with": {"text": "x"}, **step, "when": when}
    return plan_faults(Plan.model_validate({"name": "p", "request": REQUEST, "steps": {**LOOK, "last": last}}), TOOLS)


@pytest.mark.parametrize(
    "when",
    [
        "steps.room.result != null", "steps.rooms.result != null", "steps.number.result == null", "steps.rooms.result == null",
        "steps.room.result != null && steps.room.result.price > 3", "steps.room.result.price > 3 && steps.room.result != null",
        "steps.room.result == null || steps.room.result.number == 3", "!(steps.room.result == null) && steps.room.result.number > 1",
        "steps.room.result != null ? steps.room.result.number > 1 : request.flag", "steps.room.status == 'skipped'",
        "steps.rooms.result.exists(one, one.note != null && one.note.size() > 3)", "size(steps.rooms.result) > 0",
        "steps.rooms.result[0].price > 3", "steps.rooms.result[0].pair[1] == 'a'", "steps['rooms'].result[0]['price'] > 3",
        "steps.anything.result.what.ever > 3", "request.n + 1 > 2", "request.f * 2.0 > request.n", "request.n == 2.5",
        "request.maybe != null && request.maybe.startsWith('x')", "has(steps.anything.result.x) && steps.anything.result.x == 1",
        "steps.rooms.result.map(one, one.number).size() == 1", "double(request.n) + request.f > 1.0", "request.flag",
        "steps.number.result != null && steps.number.result % 2 == 0", "request.s in ['a'] && request.l != []",
        "steps.rooms.result.filter(one, one.price > 1.0).all(one, one.tags.exists(t, t == 'x'))",
    ],
)  # fmt: skip
def test_a_sound_condition_has_no_fault(when: str) -> None:
    assert faults(when) == []


@pytest.mark.parametrize(
    ("when", "fault"),
    [
        ("steps.room.result.price > 3", "steps.room.result may be null here; write steps.room.result != null && ..."),
        ("steps.number.result > 3", "steps.number.result may be null here"),
        ("request.maybe.startsWith('x') && request.maybe < 'y'", ""),
        ("request.maybe < 'y' || request.flag", ""),
        ("steps.rooms.result.exists(one, one.guest.name == 'x')", "one.guest may be null here"),
        ("steps.rooms.result[0].cost > 3", "it has no 'cost'; it has number, price"),
        ("steps.rooms.results != null", "it has no 'results'; it has status, result"),
        ("request.nope == 1", "request.nope stands for nothing: it has no 'nope'"),
        ("steps.nope.result == 1", "'nope', which is no step"),
        ("request.s > 5", "> does not take string and integer"),
        ("request.f + 1 > 2", "+ does not take number and integer; write both as integers or both with a point (2.0)"),
        ("request.n", "it is of type integer, and must be true or false"),
        ("request.s && request.flag", "&& does not take string; it takes boolean"),
        ("request.n.all(x, x > 1)", "a macro does not take integer; it takes array or object"),
        ("request.n in request.s", "in does not take string"),
        ("!request.n", "! does not take integer"),
        ("steps.all(s, s == 'rooms')", "must name each step that it speaks of"),
        ("steps[request.s].status == 'failed'", "must name each step that it speaks of"),
        ("item == 1", "can't speak of item or index"),
        ("'request' == 'steps'", "is always the same"),
    ],
)
def test_a_condition_that_could_not_be_decided_is_refused(when: str, fault: str) -> None:
    found = faults(when)
    if fault:
        assert [one for one in found if fault in one], found


GUARDED = {
    "room": ("count", "number", "${steps.room.result.number}"),
    "note": ("say", "text", "${steps.room.result.note}"),
    "guest": ("greet", "guest", "${steps.room.result.guest}"),
    "age": ("count", "number", "${steps.room.result.guest.age}"),
    "number": ("count", "number", "${steps.number.result}"),
    "first": ("say", "text", "${steps.rooms.result[0].note}"),
    "maybe": ("say", "text", "${request.maybe}"),
}


@pytest.mark.parametrize(
    ("name", "guard"),
    [
        ("note", "steps.room.result.note != null"),
        ("note", "steps.room.result != null && steps.room.result.note != null"),
        ("note", "null != steps.room.result.note && request.n > 1"),
        ("note", "!(steps.room.result.note == null)"),
        ("note", "!(steps.room.result == null || steps.room.result.note == null)"),
        ("note", "steps.room.result.note == 'x'"),
        ("note", "steps.room.result.note == 'x' || steps.room.result.note == 'y'"),
        ("guest", "steps.room.result != null && steps.room.result.guest != null"),
        ("age", "steps.room.result != null && steps.room.result.guest != null && steps.room.result.guest.age != null"),
        ("age", "steps.room.result != null && steps.room.result.guest != null && steps.room.result.guest.age > 3"),
        ("number", "steps.number.result != null"),
        ("number", "steps.number.result != null && steps.number.result > 3"),
        ("first", "steps.rooms.result[0].note != null"),
        ("maybe", "request.maybe != null"),
    ],
)
def test_what_a_condition_guards_is_not_null_in_its_step(name: str, guard: str) -> None:
    called, argument, value = GUARDED[name]
    step = {"tool": called, "with": {argument: value}}
    assert misfits(one={**step, "when": guard}) == []
    assert misfits(one=step) != []


def misfits(**steps: Any) -> list[str]:
    plan = Plan.model_validate({"name": "p", "request": REQUEST, "steps": {**LOOK, **steps}})
    return [one for one in plan_faults(plan, TOOLS) if "must be" in one]


def test_what_a_condition_guards_is_not_null_in_the_steps_that_need_its_result() -> None:
    guard = "steps.room.result != null && steps.room.result.note != null"
    first = {"tool": "say", "with": {"text": "x"}, "when": guard}
    uses = {"tool": "say", "with": {"text": "${steps.room.result.note}"}}
    needs = {**uses, "for_each": "${steps.list.result}", "with": {"text": "${steps.room.result.note}"}}
    listed = {"tool": "say", "for_each": "${request.l}", "with": {"text": "${steps.first.result}"}}
    assert misfits(first=first, list=listed, needs=needs) == []
    # These run if the guarded step is skipped, or has failed before its condition was found true.
    assert misfits(first=first, after={**uses, "depends_on": ["first"]}) != []
    assert misfits(first=first, asks={**uses, "when": "steps.first.status == 'skipped'"}) != []
    assert misfits(first={**first, "on_failure": "other"}, other=LOOK["rooms"], list=listed, needs=needs) != []


@pytest.mark.parametrize(
    "guard",
    [
        "steps.room.result.note == null", "steps.room.result.note != null || request.flag", "has(steps.room.result.note)",
        "!(steps.room.result.note != null)", "steps.room.result.guest != null",
    ],
)  # fmt: skip
def test_what_guards_nothing_is_no_guard(guard: str) -> None:
    step = {"tool": "say", "with": {"text": "${steps.room.result.note}"}, "when": guard}
    plan = Plan.model_validate({"name": "p", "request": REQUEST, "steps": {**LOOK, "one": step}})
    assert [one for one in plan_faults(plan, TOOLS) if "must be string" in one]


def test_has_guards_what_may_not_be_there() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    step = {"tool": "greet", "with": {"guest": "${request.guest}"}}

    def found(**more: Any) -> list[str]:
        made = {"name": "p", "request": {"guest": schema}, "steps": {"one": {**step, **more}}}
        return plan_faults(Plan.model_validate(made), TOOLS)

    assert "must be required" in found()[0]
    assert found(when="has(request.guest.name)") == []


def test_a_list_that_may_be_null_is_no_list() -> None:
    request = {"names": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}}
    step = {"tool": "say", "for_each": "${request.names}", "with": {"text": "${item}"}}

    def found(**more: Any) -> list[str]:
        made = {"name": "p", "request": request, "steps": {"one": {**step, **more}}}
        return plan_faults(Plan.model_validate(made), TOOLS)

    assert "is of type array or null, not a list" in found()[0]
    assert found(when="request.names != null") == []
