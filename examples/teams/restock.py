"""Plan and execute: the model makes a plan, the engine checks it and carries it out; what fails goes back, what is done stays done."""

import json
from datetime import timedelta

from examples.teams.models import model
from pydantic import BaseModel, Field
from sqlalchemy import text

from handfast import Agent, Effect, Limits, Rate, Tier, ToolContext, ToolError, ask, compensation, tool
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step

SOLD_OUT = {"Nordnet"}


class Order(BaseModel):
    """An order."""

    item: str = Field(min_length=2, max_length=40, description="Example: rope")
    supplier: str = Field(min_length=2, max_length=40, description="Nordnet or Havn. Example: Havn")


async def change(ctx: ToolContext, statement: str, **values: str) -> None:
    """Change the order book, together with the record of the call."""
    async with ctx.transaction() as connection:
        await connection.execute(text("CREATE TABLE IF NOT EXISTS orders (item TEXT, supplier TEXT)"))
        await connection.execute(text(statement), values)


@compensation()
async def cancel_order(args: Order, result: str | None, ctx: ToolContext) -> None:
    """Strike an order out."""
    await change(
        ctx, "DELETE FROM orders WHERE item = :item AND supplier = :supplier", item=args.item, supplier=args.supplier
    )


@tool(
    version="1.0.0",
    effect=Effect.TRANSACTIONAL,
    tier=Tier.REVERSIBLE,
    scope="orders:write",
    timeout=timedelta(seconds=5),
    compensate=cancel_order,
    rates=(Rate(count=60),),
    owner="harbour office",
)
async def order_item(args: Order, ctx: ToolContext) -> str:
    """Order one item from one supplier. If that one has nothing left, order from the other one."""
    if args.supplier in SOLD_OUT:
        raise ToolError(f"{args.supplier} has no {args.item} left", code="sold_out", happened="no")
    await change(ctx, "INSERT INTO orders VALUES (:item, :supplier)", item=args.item, supplier=args.supplier)
    return f"{args.item} from {args.supplier}"


def purchase(request: ModelRequest) -> Step:
    """Order rope and paint; if a supplier has nothing, order that from the other one."""
    told = request.messages[-1].results
    if told and not told[-1].failed:
        return f"ordered: {', '.join(json.loads(told[-1].text))}"
    paint_from = "Havn" if told else "Nordnet"
    steps = {
        "rope": {"tool": "order_item", "with": {"item": "rope", "supplier": "Havn"}},
        "paint": {"tool": "order_item", "with": {"item": "paint", "supplier": paint_from}},
    }
    return ask("carry_out", steps=steps, output=["${steps.rope.result}", "${steps.paint.result}"])


storekeeper = Agent(
    name="storekeeper",
    model=model(purchase),
    instructions="You order what a harbour needs: rope from Havn and paint from Nordnet. Make one plan of it and have it carried out.",
    tools=[order_item],
    plans=True,
    limits=Limits(turns=20, cost_usd=0.20),
)
