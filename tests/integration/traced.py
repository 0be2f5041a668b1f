"""An agent whose tool calls a service, for the test of traces."""

from handfast import Agent, Effect, Script, Tier, ToolContext, ask, tool


@tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y")
async def charge(secret: str, ctx: ToolContext) -> str:
    """Charge."""
    return str((await ctx.http("service").post("/", json={"secret": secret})).status_code)


agent = Agent(
    name="tracer",
    instructions="Trace.",
    model=Script([ask("charge", secret="hush-1"), ask("charge", secret="hush-2"), "done, hush-3"]),
    tools=[charge],
)
