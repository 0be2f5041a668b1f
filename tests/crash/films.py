"""An agent with work in the background, begun and asked for at the downstream: `tests.crash.films:maker`."""

from datetime import timedelta
from typing import Any

from handfast import Agent, Backoff, BackoffKind, Effect, Pending, Script, Tier, ToolContext, ask, tool
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step
from tests.effects.agents import ROOMY

FILMS = ("one", "two")


async def developed(args: Any, reference: str, ctx: ToolContext) -> str | None:
    """The film is there once the downstream has its order, at the second look."""
    if ctx.last_checkpoint is None:
        await ctx.checkpoint("looked")
        return None
    found = (await ctx.http("downstream").get("/charges", params={"ref": reference})).json()
    return f"{reference}.mp4" if found else None


@tool(
    version="1.0.0",
    effect=Effect.KEYED,
    tier=Tier.REVERSIBLE,
    scope="films:write",
    timeout=timedelta(seconds=3),
    poll=developed,
    polls=Backoff(kind=BackoffKind.FIXED, base=timedelta(seconds=0.5)),
    background=True,
)
async def render(name: str, ctx: ToolContext) -> str | Pending:
    """Render a film."""
    await ctx.http("downstream").post("/charges", json={"ref": name, "manner": "keyed", "answer_after": 0})
    return Pending(reference=name)


def script(request: ModelRequest) -> Step:
    """Order films one after the other, then wait for all of them."""
    turn = sum(message.role == "assistant" for message in request.messages)
    if turn < len(FILMS):
        return ask("render", name=FILMS[turn])
    heard = " ".join(message.text for message in request.messages)
    return "All there." if all(f"{name}.mp4" in heard for name in FILMS) else "Not yet."


maker = Agent(name="maker", instructions="Make films.", model=Script(script), tools=[render], limits=ROOMY)
