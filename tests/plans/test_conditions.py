"""Conditions decide in a running plan what the check of the plan has accepted."""

from typing import Any

import pytest
from pydantic import BaseModel

from handfast import Agent, Effect, RunFailed, RunStatus, Tier, tool
from handfast.contracts.plan import Plan
from tests.conftest import OpenShop

READ: dict[str, Any] = {"version": "1.0.0", "effect": Effect.READ, "tier": Tier.READ_ONLY, "scope": "x:r"}


class Price(BaseModel):
    net: float
    note: str | None = None


@tool(**READ)
async def names() -> list[str] | None:
    """Look."""
    return ["a"]


@tool(**READ)
async def price() -> Price | None:
    """Look."""
    return Price(net=3)


@tool(**READ)
async def count() -> int | None:
    """Look."""
    return 3


@tool(**READ)
async def share() -> float | None:
    """Look."""
    return 2.5


@tool(**READ)
async def nothing() -> int | None:
    """Look."""
    return None


@tool(**READ)
async def double(number: int) -> int:
    """Double."""
    return 2 * number


@tool(**READ)
async def say(text: str) -> str:
    """Say."""
    return text


DESK = Agent(name="desk", tools=[names, price, count, share, nothing, double, say])
FIRST = {one: {"tool": one} for one in ("names", "price", "count", "share", "nothing")}


async def run_plan(shop: OpenShop, id_: str, given: dict[str, Any], **fields: Any) -> Any:
    desk = await shop(DESK)
    plan = Plan.model_validate({"name": "p", "agent": "desk", **fields})
    return await (await desk.client.start_plan(plan, given, id=id_)).result()


async def test_every_result_is_compared_with_null_and_with_numbers_of_all_types(shop: OpenShop) -> None:
    conditions = {
        **{f"not_{name}": (f"steps.{name}.result != null", name != "nothing") for name in FIRST},
        **{f"is_{name}": (f"steps.{name}.result == null", name == "nothing") for name in FIRST},
        "int_over_double": ("steps.count.result != null && steps.count.result > 2.5", True),
        "int_is_double": ("steps.count.result == 3.0", True),
        "double_over_int": ("steps.share.result != null && steps.share.result > 2", True),
        "whole_number": ("steps.price.result != null && steps.price.result.net * 2.0 > 5.0", True),
        "request_number": ("request.f * 2.0 > 5.0", True),
        "no_note": ("steps.price.result != null && steps.price.result.note != null", False),
    }
    steps = {name: {"tool": "say", "with": {"text": name}, "when": when} for name, (when, _) in conditions.items()}
    output = [f"${{steps.{one}.result}}" for one in steps]
    result = await run_plan(
        shop, "compared", {"f": 3}, request={"f": "number"}, steps={**FIRST, **steps}, output=output
    )
    assert result.output == [name if right else None for name, (_, right) in conditions.items()]


async def test_a_result_that_may_be_null_feeds_a_step_whose_condition_guards_it(shop: OpenShop) -> None:
    steps = {
        "count": FIRST["count"],
        "nothing": FIRST["nothing"],
        "one": {"tool": "double", "with": {"number": "${steps.count.result}"}, "when": "steps.count.result != null"},
        "two": {
            "tool": "double",
            "with": {"number": "${steps.nothing.result}"},
            "when": "steps.nothing.result != null",
        },
    }
    output = {"one": "${steps.one.result}", "two": "${steps.two.result}"}
    result = await run_plan(shop, "guarded", {}, steps=steps, output=output)
    assert (result.status, result.output) == (RunStatus.COMPLETED, {"one": 6, "two": None})


async def test_conditions_that_take_too_much_fail_the_plan_and_say_what_to_do(shop: OpenShop) -> None:
    greedy = "request.l.all(a, request.l.all(b, " + " && ".join(["request.l == request.l"] * 12) + "))"
    steps = {f"s{number}": {"tool": "count", "when": greedy} for number in range(30)}
    given = {"l": [[*range(300)] for _ in range(99)]}
    with pytest.raises(RunFailed, match="budget of 1 s of processor time; let a tool work out the value"):
        await run_plan(shop, "greedy", given, request={"l": "array"}, steps=steps)
