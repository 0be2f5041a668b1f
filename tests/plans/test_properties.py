"""Any plan, any faults: it is done as a whole, or undone as a whole, in an order that the steps allow. The agency's log says."""

import asyncio
import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from handfast import Agent, Effect, Outcome, RunFailed
from handfast.contracts.plan import Plan
from handfast.contracts.plan_check import plan_faults
from tests.conftest import OpenShop, Shop
from tests.undo.travel import Travel, booking, cancelling

EXAMPLES = int(os.environ.get("PLAN_EXAMPLES", "12"))
LOST, GONE = 0, 404
TOOLS = [
    booking("flight"),
    booking("hotel", cancelling("hotel", effect=Effect.KEYED)),
    booking("train", conflict=("number",)),
    booking("pay", pivot=True),
]


class Node(BaseModel):
    """One step, and what goes wrong with it."""

    tool: str
    after: list[int]
    """How far back the steps are that it waits for."""
    any_of: bool
    on_failure: str
    """`undo`, `continue`, or `other` for a step that is taken instead."""
    retries: int
    booked: list[int]
    cancelled: list[int]
    other: list[int]
    """What the agency answers to the step that is taken instead."""
    race: list[int] | None
    """The same to another way to the same end, if there is one."""


NODES = st.builds(
    Node,
    tool=st.sampled_from(["flight", "hotel", "train"]),
    after=st.lists(st.integers(1, 3), max_size=3),
    any_of=st.booleans(),
    on_failure=st.sampled_from(["undo", "undo", "continue", "other"]),
    retries=st.sampled_from([0, 0, 1]),
    booked=st.sampled_from([[], [], [], [500], [LOST], [GONE], [GONE, GONE]]),
    cancelled=st.sampled_from([[], [], [500], [LOST]]),
    other=st.sampled_from([[], [], [GONE]]),
    race=st.sampled_from([None, None, [], [GONE]]),
)
GRAPHS = st.tuples(st.lists(NODES, min_size=2, max_size=8), st.booleans())


def made(nodes: list[Node], *, pivot: bool, name: str) -> Plan:
    """A plan of these steps, with a payment at its end if wanted."""
    steps: dict[str, Any] = {}
    for number, node in enumerate(nodes):
        after = sorted({f"s{number - back}" for back in node.after if number >= back})
        call = {"tool": node.tool, "with": {"number": f"{name}-s{number}"}}
        other = {"tool": "flight", "with": {"number": f"{name}-r{number}"}}
        step: dict[str, Any] = (
            {"first_of": [call, other]} if node.race is not None else {**call, "retries": node.retries}
        )
        step |= {"depends_on": after}
        step |= {"join": "any"} if node.any_of and len(after) > 1 else {}
        steps[f"s{number}"] = {**step, "on_failure": node.on_failure if node.on_failure != "other" else f"o{number}"}
        if node.on_failure == "other":
            steps[f"o{number}"] = {"tool": "hotel", "with": {"number": f"{name}-o{number}"}}
    if pivot:
        before = [step_id for step_id in steps if step_id.startswith("s")]
        steps["pay"] = {"tool": "pay", "with": {"number": f"{name}-pay"}, "depends_on": before}
    return Plan.model_validate({"name": "any", "agent": "desk", "steps": steps})


def races(nodes: list[Node], step: str) -> bool:
    """Whether it is one of several ways to the same end."""
    return step[0] in "sr" and nodes[int(step[1:])].race is not None


@pytest.fixture
def travel() -> Iterator[Travel]:
    with Travel() as service:
        yield service


async def test_whatever_fails_a_plan_is_done_or_undone_as_a_whole(shop: OpenShop, travel: Travel) -> None:
    desk = await shop(Agent(name="desk", tools=TOOLS), upstreams=travel.upstreams)
    found: list[tuple[list[Node], bool]] = []

    @settings(max_examples=EXAMPLES, deadline=None, derandomize="PLAN_EXAMPLES" not in os.environ, print_blob=True)
    @given(GRAPHS)
    def every(graph: tuple[list[Node], bool]) -> None:
        found.append(graph)

    await asyncio.to_thread(every)
    for start in range(0, len(found), 6):
        await asyncio.gather(*(one_plan(desk, travel, nodes, pivot=pivot) for nodes, pivot in found[start : start + 6]))


async def one_plan(desk: Shop, travel: Travel, nodes: list[Node], *, pivot: bool) -> None:
    name = uuid.uuid4().hex[:6]
    plan = made(nodes, pivot=pivot, name=name)
    assert plan_faults(plan, {tool.name: tool for tool in TOOLS}) == []
    for number, node in enumerate(nodes):
        travel.planned[f"book {node.tool} {name}-s{number}"] = [*node.booked]
        travel.planned[f"cancel {node.tool} {name}-s{number}"] = [*node.cancelled]
        travel.planned[f"book hotel {name}-o{number}"] = [*node.other]
        travel.planned[f"book flight {name}-r{number}"] = [*(node.race or ())]
    run = await desk.client.start_plan(plan, id=f"any-{uuid.uuid4()}")
    try:
        await asyncio.wait_for(run.result(), 60)
        failed = False
    except RunFailed:
        failed = True
    except TimeoutError as error:
        raise AssertionError((plan.model_dump(exclude_defaults=True), nodes, await run.operations())) from error
    log = [entry for entry in travel.log if f" {name}-" in entry]
    booked = [entry.split("-")[-1] for entry in log if entry.startswith("book ")]
    cancelled = [entry.split("-")[-1] for entry in log if entry.startswith("cancel ")]
    told = (plan.model_dump(exclude_defaults=True), nodes, log)
    assert len(set(booked)) == len(booked), told
    assert len(set(cancelled)) == len(cancelled), told
    assert set(cancelled) <= set(booked), told
    operations = await run.operations()
    succeeded = {one.arguments["number"].split("-")[-1] for one in operations if one.outcome is Outcome.SUCCEEDED}
    assert succeeded == set(booked) - set(cancelled), told
    if failed:
        assert succeeded == set(), told
    else:
        # Only ways that another one has won were taken back.
        assert {f"r{step[1:]}" in booked and f"s{step[1:]}" in booked for step in cancelled} <= {True}, told
        # A step that was asked for and may not fail has succeeded, or the one instead of it.
        for number, node in enumerate(nodes):
            tried = [one for one in operations if one.arguments["number"] == f"{name}-s{number}"]
            if tried and node.on_failure == "undo":
                assert len({f"s{number}", f"r{number}"} & succeeded) == 1, told
    # A race that is over takes its loser back, whatever comes after; the order is about all else.
    place = {step: number for number, step in enumerate(cancelled) if not races(nodes, step)}
    for step in place:
        for before in plan.before(step) & place.keys():
            assert place[step] < place[before], told
    at = {step: number for number, step in enumerate(booked) if not races(nodes, step)}
    for step in at:
        if plan.steps[step].join == "all":
            for before in plan.steps[step].after & at.keys():
                assert at[before] < at[step], told
    assert (await desk.ledger.verify(run.id)).faults == (), told
