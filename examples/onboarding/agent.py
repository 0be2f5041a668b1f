"""The tools: the company's directory is a table in the ledger's own database, so each of them happens exactly once, or not at all.

Serve them with `handfast dev examples.onboarding.agent:office`, then

    handfast plan run examples/onboarding/onboarding.yaml --request '{"name": "Ada", "role": "engineer", "groups": ["all", "berlin"]}'
    handfast approve RUN OPERATION
"""

from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy import text

from handfast import Agent, Effect, Rate, Tier, Tool, ToolContext, compensation, tool

Kind = Literal["account", "mailbox", "group", "laptop", "admin"]


class Given(BaseModel):
    """What a person is given."""

    person: str = Field(min_length=1, max_length=100, description="Whose first day it is. Example: Ada")
    detail: str = Field(default="", max_length=100, description="Which one, where there are several. Example: berlin")


async def change(ctx: ToolContext, statement: str, **values: Any) -> None:
    """Change the directory, together with the record of the call."""
    async with ctx.transaction() as connection:
        await connection.execute(text("CREATE TABLE IF NOT EXISTS directory (person TEXT, kind TEXT, detail TEXT)"))
        await connection.execute(text(statement), values)


def giving(name: str, kind: Kind, description: str, *, tier: Tier = Tier.REVERSIBLE) -> Tool:
    """A tool that gives a person something, and takes it away again if the first day is called off."""

    @compensation()
    async def take_away(args: Given, result: None, ctx: ToolContext) -> None:
        where = "person = :person AND kind = :kind AND detail = :detail"
        await change(ctx, f"DELETE FROM directory WHERE {where}", person=args.person, kind=kind, detail=args.detail)  # noqa: S608 - fixed text

    @tool(
        name=name,
        version="1.0.0",
        description=description,
        effect=Effect.TRANSACTIONAL,
        tier=tier,
        scope=f"directory:{kind}:write",
        compensate=take_away,
        timeout=timedelta(seconds=5),
        rates=(Rate(count=100, per=timedelta(minutes=1)),),
        show=("person", "detail"),
        owner="people team",
        runbook="the directory table says what was given",
    )
    async def give(args: Given, ctx: ToolContext) -> None:
        values = "(:person, :kind, :detail)"
        await change(ctx, f"INSERT INTO directory VALUES {values}", kind=kind, **args.model_dump())  # noqa: S608 - fixed text

    return give


office = Agent(
    name="office",
    tools=[
        giving(
            "create_account", "account", "Create a person's account. Everything else that a person is given needs it."
        ),
        giving("create_mailbox", "mailbox", "Create a person's mailbox. The person must have an account."),
        giving(
            "join_group",
            "group",
            "Add a person to one group, whose name is the detail. The person must have an account.",
        ),
        giving("order_laptop", "laptop", "Order a laptop for a person. The detail says what it is for."),
        giving(
            "grant_admin",
            "admin",
            "Make a person an administrator of the directory. Use it only for those who run it.",
            tier=Tier.IRREVERSIBLE,
        ),
    ],
)
