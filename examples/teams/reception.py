"""A router, and hand-offs: a cheap model reads the ticket and hands it over; who gets it answers, or hands it on."""

from datetime import timedelta

from examples.teams.models import CHEAP, asked, model, results
from pydantic import BaseModel, Field

from handfast import Agent, Effect, Limits, Tier, ask, tool
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step

PARCELS = {"7001": "in Oslo, out for delivery", "7002": "at the customs of Norway, a form is missing"}


class Parcel(BaseModel):
    """Which parcel."""

    number: str = Field(pattern=r"^\d{4}$", description="The parcel's number. Example: 7001")


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="parcels:read", timeout=timedelta(seconds=5))
async def find_parcel(args: Parcel) -> str:
    """Find out where a parcel is, by its number. Use it before you say anything about one."""
    return PARCELS.get(args.number, "unknown")


def clear(request: ModelRequest) -> Step:
    """Say what customs need."""
    return "Customs need form 12 from you; the parcel goes on within a day of it."


def ship(request: ModelRequest) -> Step:
    """Look the parcel up; what lies at customs is somebody else's."""
    number = next(word.strip(".,!?") for word in asked(request).split() if word.strip(".,!?").isdigit())
    found = results(request)
    if not found:
        return ask("find_parcel", number=number)
    if "customs" in found[0]:
        return ask("customs", request=f"parcel {number} is {found[0]}")
    return f"Your parcel is {found[0]}."


def bill(request: ModelRequest) -> Step:
    """Say when the money comes."""
    return "The invoice was corrected; you get the difference within five days."


def receive(request: ModelRequest) -> Step:
    """Say who it is for."""
    desk = "shipping" if "parcel" in asked(request).lower() else "billing"
    return ask(desk, request=f"this is for {desk}")


customs = Agent(
    name="customs",
    model=model(clear),
    instructions="You tell customers what customs need from them, in two sentences. It is form 12, always.",
)
shipping = Agent(
    name="shipping",
    model=model(ship),
    instructions="You answer questions about parcels. Find the parcel first. If customs hold it, hand the customer over to customs.",
    tools=[
        find_parcel,
        customs.as_tool(description="Hand the customer over to those who know what customs need.", hand_off=True),
    ],
)
billing = Agent(
    name="billing",
    model=model(bill),
    instructions="You answer questions about invoices. An invoice that is wrong is corrected, the difference paid back in five days.",
)
reception = Agent(
    name="reception",
    model=model(receive, CHEAP),
    instructions="You read a customer's message and hand it over to those whom it concerns. You never answer yourself.",
    tools=[
        shipping.as_tool(description="Hand a customer over whose message is about a parcel.", hand_off=True),
        billing.as_tool(description="Hand a customer over whose message is about an invoice or money.", hand_off=True),
    ],
    limits=Limits(turns=20),
)
