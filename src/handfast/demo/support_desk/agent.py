"""The agent: what it is told, what it may do, and which refunds need a person."""

import os
from datetime import timedelta

from pydantic import BaseModel, Field

from handfast import Agent, Condition, Effect, Limits, Policy, Rate, Rule, Tier, ToolContext, Verdict, tool
from handfast.demo.support_desk.script import answer_ticket
from handfast.llm import Script

REFUND_WITHOUT_ASKING = 5_000
"""Cents. Above it a person decides."""

INSTRUCTIONS = """You answer customers of a small shop. Read the ticket, look the order up, refund what is justified.

- Never refund an order you have not looked up. Amounts are in cents.
- Refund single items when only these are concerned, the whole order otherwise.
- Without an order number, look for orders by the customer's e-mail address; ask for the number if there is none.
- If a refund is refused because it was already made, tell the customer so, kindly.
- End with the answer to the customer, in three sentences at most."""


class OrderArgs(BaseModel):
    """Which order."""

    order_id: str = Field(pattern=r"^\d{4,8}$", description="The order number, digits only. Example: 1042")


class EmailArgs(BaseModel):
    """Whose orders."""

    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=200, description="Example: ada@example.com")


class Item(BaseModel):
    """A line of an order."""

    name: str
    price_minor: int


class Order(BaseModel):
    """An order of the shop."""

    order_id: str
    email: str
    payment_id: str
    total_minor: int
    items: list[Item]


class RefundArgs(BaseModel):
    """What to refund."""

    payment_id: str = Field(pattern=r"^pay_\d{8}$", description="The payment to refund. Example: pay_00001042")
    amount_minor: int = Field(gt=0, le=50_000, description="Amount in cents. Example: 1999 means 19.99")


class Refund(BaseModel):
    """A refund that was made."""

    refund_id: str
    payment_id: str
    amount_minor: int


@tool(
    version="1.0.0",
    effect=Effect.READ,
    tier=Tier.READ_ONLY,
    scope="orders:read",
    timeout=timedelta(seconds=5),
    show=("order_id",),
)
async def lookup_order(args: OrderArgs, ctx: ToolContext) -> Order:
    """Look up one order by its number: items, prices, payment. Use it before any refund."""
    reply = await ctx.http("orders").get(f"/orders/{args.order_id}")
    return Order.model_validate_json(reply.content)


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="orders:read", timeout=timedelta(seconds=5))
async def find_orders(args: EmailArgs, ctx: ToolContext) -> list[Order]:
    """Find a customer's orders by e-mail address, newest first. Use it when the ticket has no order number."""
    reply = await ctx.http("orders").get("/orders", params={"email": args.email})
    return [Order.model_validate(order) for order in reply.json()]


@tool(
    version="2.2.0",
    effect=Effect.KEYED,
    tier=Tier.IRREVERSIBLE,
    scope="payments:refund:write",
    timeout=timedelta(seconds=30),
    same_intent=("payment_id",),
    show=("payment_id",),
    rates=(Rate(count=60, per=timedelta(minutes=1), each="tenant"),),
    owner="payments team",
    runbook="the payment service's own log says what was refunded: GET /log",
)
async def issue_refund(args: RefundArgs, ctx: ToolContext) -> Refund:
    """Refund a captured payment, wholly or in part. Use it only after lookup_order has confirmed the payment."""
    reply = await ctx.http("payments").post("/refunds", json=args.model_dump())
    return Refund.model_validate_json(reply.content)


desk = Agent(
    name="desk",
    model="claude-sonnet-5" if os.environ.get("ANTHROPIC_API_KEY") else Script(answer_ticket, id="script"),
    instructions=INSTRUCTIONS,
    tools=[lookup_order, find_orders, issue_refund],
    policy=Policy(
        rules=(
            Rule(
                name="small refunds",
                verdict=Verdict.RUN,
                tools=("issue_refund",),
                arguments={"amount_minor": Condition(most=REFUND_WITHOUT_ASKING)},
            ),
        )
    ),
    limits=Limits(turns=12, cost_usd=0.50, wall_time=timedelta(minutes=5)),
)
