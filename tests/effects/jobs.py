"""An agent whose tool leaves work pending: `tests.effects.jobs:desk`."""

from datetime import timedelta

from pydantic import BaseModel, Field

from handfast import Agent, Effect, Pending, Script, Tier, ToolContext, ask, tool
from handfast.contracts.signing import OnceOnly, StandardWebhooks
from tests.effects.agents import ROOMY

SECRET = "whsec_am9icyBhcmUgc2lnbmVk"
started: list[str] = []


class Report(BaseModel):
    pages: int = Field(ge=1)


@tool(
    version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="jobs:w", callback=StandardWebhooks(secret="jobs")
)
async def write_report(ctx: ToolContext) -> Report | Pending:
    """Write."""
    started.append(ctx.callback_url)
    return Pending(reference="job-17", deadline=timedelta(minutes=5))


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="jobs:r", callback=OnceOnly(secret="jobs"))
async def count_words(ctx: ToolContext) -> int | Pending:
    """Count."""
    return Pending()


desk = Agent(
    name="jobs", instructions="Work.", model=Script([ask("write_report"), "done"]), tools=[write_report], limits=ROOMY
)
counter = Agent(
    name="counter", instructions="Work.", model=Script([ask("count_words"), "done"]), tools=[count_words], limits=ROOMY
)
both = [desk, counter]
