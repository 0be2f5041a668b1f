"""A supervisor and its workers: three analysts work at once, each on its own part, and the chief puts it together."""

import json
from datetime import timedelta

from examples.teams.models import asked, model, results
from pydantic import BaseModel, Field

from handfast import Agent, Effect, Limits, Tier, ask, tool
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step

FIGURES: dict[str, dict[str, float]] = {
    "ferries": {"passengers": 41_200, "delays": 12},
    "fish market": {"tonnes": 310, "price_per_kilo": 4.2},
    "hotels": {"nights": 18_400, "occupied": 0.71},
}


class Topic(BaseModel):
    """Which part of the town."""

    topic: str = Field(min_length=2, max_length=60, description="A part of the town's economy. Example: fish market")


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="figures:read", timeout=timedelta(seconds=5))
async def read_figures(args: Topic) -> dict[str, float]:
    """Read last month's figures of one part of the town's economy, such as its ferries or its fish market."""
    return FIGURES.get(args.topic, {})


def analyse(request: ModelRequest) -> Step:
    """Read, then say."""
    topic = json.loads(asked(request))["topic"]
    found = results(request)
    return f"{topic}: {found[0]}" if found else ask("read_figures", topic=topic)


def lead(request: ModelRequest) -> Step:
    """Ask for every part at once, then put it together."""
    found = results(request)
    return "\n".join(["Last month", *found]) if found else [ask("analyst", topic=topic) for topic in FIGURES]


analyst = Agent(
    name="analyst",
    model=model(analyse),
    instructions="You sum up the figures of one part of a harbour town in one sentence. Read them first.",
    tools=[read_figures],
    limits=Limits(turns=4, cost_usd=0.05),
)
chief = Agent(
    name="chief",
    model=model(lead),
    instructions="You write the monthly report of a harbour town. Have all parts analysed at once: "
    f"{', '.join(FIGURES)}. Then put the answers together.",
    tools=[
        analyst.as_tool(
            description="Have one part of the town's economy analysed. Ask for several parts at once.", input=Topic
        )
    ],
    limits=Limits(turns=20, cost_usd=0.30),
)
