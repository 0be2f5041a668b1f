"""Any trip, any faults: in the end each booking is cancelled once, or stands because a person has said so. The agency's log says."""

import asyncio
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from handfast import Effect, Outcome, Run, RunFailed, ask
from handfast.contracts.errors import DecisionRefused, ErrorCode, ModelError, RunNotFound
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step
from tests.conftest import OpenShop
from tests.undo.travel import Travel, booking, cancelling, traveller

EXAMPLES = int(os.environ.get("UNDO_EXAMPLES", "10"))
LOST = 0
DEAD = [404] * 50
TOOLS = [
    booking("flight"),
    booking("hotel", cancelling("hotel", effect=Effect.KEYED), effect=Effect.ONCE),
    booking("car", cancelling("car", effect=Effect.ONCE, safe_if_absent=True), effect=Effect.ONCE),
    booking("train", conflict=("number",)),
]


class Leg(BaseModel):
    """One booking, and what goes wrong with it."""

    kind: str
    booked: list[int] = []
    """What the agency answers first when it is booked."""
    cancelled: list[int] = []
    """The same when it is cancelled."""
    word: str = "done"
    """What a person says if it can't be undone: `skip`, or else what is true."""


class Trip(BaseModel):
    """Turns of bookings. The run fails when they are made."""

    turns: list[list[Leg]]


LEGS = st.builds(
    Leg,
    kind=st.sampled_from([tool.name for tool in TOOLS]),
    booked=st.sampled_from([[], [], [], [500], [LOST], [400]]),
    cancelled=st.sampled_from([[], [], [], [500], [LOST], [LOST, LOST], DEAD]),
    word=st.sampled_from(["true", "skip"]),
)
TRIPS = st.builds(Trip, turns=st.lists(st.lists(LEGS, min_size=1, max_size=3), min_size=1, max_size=4))


def script(request: ModelRequest) -> Step:
    """What the request asks for, turn by turn; then it breaks off."""
    trip = json.loads(request.messages[0].text)
    turn = sum(message.role == "assistant" for message in request.messages)
    if turn >= len(trip["turns"]):
        raise ModelError("it has broken down", ErrorCode.MODEL_REQUEST_INVALID)
    return [ask(kind, number=number) for kind, number in trip["turns"][turn]]


@pytest.fixture
def travel() -> Iterator[Travel]:
    with Travel() as service:
        yield service


async def look_after(run: Run, travel: Travel, trip: Trip, name: str) -> set[str]:
    """Do what a person does who can see the agency's log, until the run is over; what was left as it is."""
    left: set[str] = set()
    while not (await run.summary()).status.closed:
        operations = {operation.operation_id: operation for operation in await run.operations()}
        try:
            for operation in operations.values():
                if operation.outcome is Outcome.UNKNOWN and not await run.undo():
                    happened = f"book {what(operation)}" in travel.log
                    await run.resolve(operation.operation_id, happened=happened, by="ada")
            for one in await run.undo():
                operation = operations[one.operation]
                if not one.blocked:
                    continue
                turn, index, _ = operation.arguments["number"].removeprefix(f"{name}-").split("-")
                if trip.turns[int(turn)][int(index)].word == "skip":
                    await run.unblock(one.operation, "skip", by="ada", reason="it is too late")
                    left.add(what(operation))
                    continue
                undone = f"cancel {what(operation)}" in travel.log
                if not undone:
                    travel.planned.pop(f"cancel {what(operation)}", None)
                await run.unblock(one.operation, "done" if undone else "retry", by="ada")
        except (DecisionRefused, RunNotFound):
            pass  # it went on meanwhile
        await asyncio.sleep(0.02)
    return left


def what(operation: Any) -> str:
    return f"{operation.tool} {operation.arguments['number']}"


async def test_whatever_fails_each_booking_is_cancelled_once_or_left_by_a_person(
    shop: OpenShop, travel: Travel
) -> None:
    desk = await shop(traveller(script, TOOLS), upstreams=travel.upstreams)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="UNDO_EXAMPLES" not in os.environ,
        print_blob=True,
    )
    @given(TRIPS)
    def every(trip: Trip) -> None:
        trips.append(trip)

    trips: list[Trip] = []
    await asyncio.to_thread(every)
    for start in range(0, len(trips), 5):
        await asyncio.gather(*(one_trip(desk, travel, trip) for trip in trips[start : start + 5]))


async def one_trip(desk: Any, travel: Travel, trip: Trip) -> None:
    name = uuid.uuid4().hex[:6]
    asked: list[list[tuple[str, str]]] = []
    for turn, legs in enumerate(trip.turns):
        asked.append([])
        for index, leg in enumerate(legs):
            number = f"{name}-{turn}-{index}-x"
            asked[-1].append((leg.kind, number))
            travel.planned[f"book {leg.kind} {number}"] = [*leg.booked]
            travel.planned[f"cancel {leg.kind} {number}"] = [*leg.cancelled]
    run = await desk.client.start("traveller", json.dumps({"turns": asked}), id=f"trip-{uuid.uuid4()}")
    async with asyncio.timeout(60):
        left = await look_after(run, travel, trip, name)
    with pytest.raises(RunFailed):
        await run.result()
    log = [entry for entry in travel.log if f" {name}-" in entry]
    booked = [entry.removeprefix("book ") for entry in log if entry.startswith("book ")]
    cancelled = [entry.removeprefix("cancel ") for entry in log if entry.startswith("cancel ")]
    assert len(set(booked)) == len(booked), (trip, log)
    assert len(set(cancelled)) == len(cancelled), (trip, log)
    # What is cancelled although it never was booked is declared harmless.
    assert {one for one in cancelled if not one.startswith("car ")} <= {*booked}, (trip, log)
    assert {*booked} - {*cancelled} == left - {*cancelled}, (trip, log, left)
    turns = [int(one.split("-")[1]) for one in cancelled]
    assert turns == sorted(turns, reverse=True), (trip, log)
    undo = {one.operation: one for one in await run.undo()}
    stands = {what(o) for o in await run.operations() if o.operation_id in undo and not undo[o.operation_id].undone}
    assert stands == left, (trip, log)
    assert (await desk.ledger.verify(run.id)).faults == (), trip
