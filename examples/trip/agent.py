"""The tools of the trip: three bookings that can be cancelled, and the payment that commits it."""

from datetime import timedelta

from pydantic import BaseModel, Field

from handfast import Agent, Backoff, Effect, Policy, Rate, Tier, Tool, ToolContext, Verdict, compensation, tool


class Wanted(BaseModel):
    """What is to be booked."""

    what: str = Field(min_length=1, max_length=200, description="The flight, hotel or car. Example: Hotel Bristol")
    traveller: str = Field(min_length=1, max_length=100, description="Who travels. Example: Ada")


class Booked(BaseModel):
    """What was booked."""

    number: str


def booking(name: str, service: str, description: str) -> Tool:
    """A tool that books at one of the services, and what cancels it."""

    @compensation(attempts=20)
    async def cancel(args: Wanted, result: Booked | None, ctx: ToolContext) -> None:
        if result is not None:
            await ctx.http(service).delete(f"/bookings/{result.number}")

    @tool(
        name=name,
        version="1.0.0",
        description=description,
        effect=Effect.KEYED,
        tier=Tier.REVERSIBLE,
        scope=f"{service}:write",
        timeout=timedelta(seconds=5),
        backoff=Backoff(base=timedelta(milliseconds=200)),
        compensate=cancel,
        rates=(Rate(count=100, per=timedelta(minutes=1)),),
        owner="travel",
        runbook="ask the service what it knows of the idempotency key",
    )
    async def book(args: Wanted, ctx: ToolContext) -> Booked:
        reply = await ctx.http(service).post("/bookings", json=args.model_dump())
        return Booked.model_validate(reply.json())

    return book


@tool(
    version="1.0.0",
    effect=Effect.KEYED,
    tier=Tier.IRREVERSIBLE,
    scope="payments:write",
    timeout=timedelta(seconds=5),
    pivot=True,
    show=("what",),
    rates=(Rate(count=100, per=timedelta(minutes=1)),),
    owner="travel",
    runbook="ask the payment service what it knows of the idempotency key",
)
async def pay(args: Wanted, ctx: ToolContext) -> Booked:
    """Pay for a trip whose parts are all booked. It can't be taken back: use it last."""
    reply = await ctx.http("payments").post("/bookings", json=args.model_dump())
    return Booked.model_validate(reply.json())


travel = Agent(
    name="travel",
    tools=[
        booking(
            "book_flight",
            "flights",
            "Book a flight for one traveller. Use it only with a flight number that the traveller has chosen.",
        ),
        booking(
            "book_hotel", "hotels", "Book a room for one traveller and one night. Use it only with the name of a hotel."
        ),
        booking("book_car", "cars", "Book a car for one traveller and one day, by the kind of car that is wanted."),
        pay,
    ],
    # The plan pays only once everything is booked. Without this line a person would approve each payment.
    policy=Policy(gates={Tier.IRREVERSIBLE: Verdict.RUN}),
)
