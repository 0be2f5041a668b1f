"""What undoes a call gets what the call returned, or knows that this is not known."""

import dataclasses
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, computed_field, field_serializer

from handfast import (
    Agent,
    ContractError,
    Effect,
    Limits,
    Outcome,
    Plan,
    RunStatus,
    Script,
    Tier,
    ToolContext,
    ask,
    compensation,
    tool,
)
from handfast.contracts.plan_check import plan_faults
from tests.conftest import OpenShop, until

ONE_TURN = Limits(turns=1)


class Booking(BaseModel):
    booking_id: str = Field(alias="bookingId", serialization_alias="bookingId")
    made: timedelta = timedelta(0)


class Total(BaseModel):
    model_config = ConfigDict(extra="forbid")
    net: int

    @computed_field  # type: ignore[prop-decorator]  # mypy does not know it
    @property
    def gross(self) -> int:
        return 2 * self.net


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    wait: timedelta
    price: Decimal
    at: datetime
    pair: tuple[int, int]


class Formatted(BaseModel):
    day: date

    @field_serializer("day")
    def written(self, day: date) -> str:
        return day.strftime("%d.%m.%Y")


@dataclasses.dataclass
class Point:
    x: int
    day: date


class Pair(NamedTuple):
    left: int
    right: Decimal


RETURNED: list[Any] = [
    Booking(bookingId="b1", made=timedelta(seconds=90)),
    Total(net=5),
    Strict(wait=timedelta(1), price=Decimal("1.10"), at=datetime(2026, 11, 27, tzinfo=UTC), pair=(1, 2)),
    Point(1, date(2026, 11, 27)),
    Pair(1, Decimal("1.10")),
    {"b1": Booking(bookingId="b1")},
    {date(2026, 11, 27)},
    None,
]
TYPES: list[Any] = [Booking, Total, Strict, Point, Pair, dict[str, Booking], set[date], Booking | None]


def booking(returned: Any, declared: Any, given: list[Any], *, safe: bool = False) -> Agent:
    """An agent that books, and whose limit ends the run, so that what it booked is undone."""

    @compensation(safe_if_absent=safe)
    async def cancel(args: Any, result: Any, ctx: ToolContext) -> None:
        given.append(result)

    async def book() -> Any:
        """Book."""
        return returned

    book.__annotations__ = {"return": declared}
    made = tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y", compensate=cancel)(book)
    return Agent(
        name="tester", instructions="Test.", model=Script([ask("book"), ask("book")]), tools=[made], limits=ONE_TURN
    )


@pytest.mark.parametrize(("returned", "declared"), list(zip(RETURNED, TYPES, strict=True)), ids=str)
async def test_what_undoes_a_call_gets_what_it_returned(shop: OpenShop, returned: Any, declared: Any) -> None:
    given: list[Any] = []
    desk = await shop(booking(returned, declared, given))
    result = await desk.client.execute("tester", "Go", id=f"undo-{uuid.uuid4().hex[:8]}")
    assert (result.status, given) == (RunStatus.LIMIT_REACHED, [returned])
    assert [type(one) for one in given] == [type(returned)]


@pytest.mark.parametrize(
    ("returned", "declared"),
    [
        ({"id": "b1", "reply": object()}, dict[str, Any]),
        (Formatted(day=date(2026, 11, 27)), Formatted),
        ({"rate": float("nan")}, dict[str, float]),
    ],
    ids=["no JSON", "not read back", "nan"],
)
async def test_a_result_that_does_not_survive_is_not_known(shop: OpenShop, returned: Any, declared: Any) -> None:
    given: list[Any] = []
    desk = await shop(booking(returned, declared, given, safe=True))
    result = await desk.client.execute("tester", "Go", id=f"undo-{uuid.uuid4().hex[:8]}")
    assert (given, result.operations[0].outcome) == ([None], Outcome.COMPENSATED)


async def test_without_the_result_a_person_undoes_the_call(shop: OpenShop) -> None:
    given: list[Any] = []
    desk = await shop(booking({"reply": object()}, dict[str, Any], given))
    run = await desk.client.start("tester", "Go", id=f"undo-{uuid.uuid4().hex[:8]}")

    async def blocked() -> Any:
        return (await run.state()).blocked

    [one] = await until(blocked)
    assert "what book returned is not known" in one.reason
    await run.unblock(one.operation, "done", by="ada")
    await run.result()
    assert given == []


class Password(BaseModel):
    password: SecretStr


class Left(BaseModel):
    out: int = Field(exclude=True)


class Thing:
    """An object that JSON can't hold."""


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    things: list[Thing]


@pytest.mark.parametrize(
    ("declared", "fault"),
    [
        (Password, "SecretStr or SecretBytes"),
        (list[Left], "field 'out' of Left has exclude=True"),
        (Holder, "an object that JSON can't hold"),
    ],
)
def test_a_result_type_that_can_not_be_read_back_is_refused_with_compensate(declared: Any, fault: str) -> None:
    with pytest.raises(ContractError, match=fault):
        booking(None, declared, [])


async def test_a_plan_refers_to_a_field_by_its_alias(shop: OpenShop) -> None:
    told: list[str] = []

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
    async def room() -> Booking:
        """Room."""
        return Booking(bookingId="b1")

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
    async def tell(text: str) -> str:
        """Tell."""
        told.append(text)
        return text

    steps = {"r": {"tool": "room"}, "t": {"tool": "tell", "with": {"text": "${steps.r.result.bookingId}"}}}
    plan = Plan.model_validate({"name": "p", "agent": "tester", "steps": steps})
    tools = {"room": room, "tell": tell}
    assert plan_faults(plan, tools) == []
    desk = await shop(Agent(name="tester", instructions="Test.", model=Script([]), tools=list(tools.values())))
    run = await desk.client.start_plan(plan, id=f"plan-{uuid.uuid4().hex[:8]}")
    assert ((await run.result()).status, told) == (RunStatus.COMPLETED, ["b1"])
