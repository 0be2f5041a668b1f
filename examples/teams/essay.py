"""Reflexion: a writer shows each draft to a critic and tries again, three times at most."""

from typing import Literal

from examples.teams.models import CHEAP, asked, model, results
from pydantic import BaseModel, Field

from handfast import Agent, Limits, ask
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step

ROUNDS = 3


class Draft(BaseModel):
    """What the critic reads."""

    text: str = Field(min_length=1, max_length=4000, description="The whole draft. Example: The sea is wide.")


class Verdict(BaseModel):
    """What the critic thinks of it."""

    verdict: Literal["good", "again"]
    advice: str = Field(max_length=500)


DRAFTS = ("The sea.", "The sea is wide.", "The sea is wide, and nobody owns it.")


def criticise(request: ModelRequest) -> Step:
    """What has a reason in it is good."""
    good = "nobody" in asked(request)
    verdict = Verdict(verdict="good" if good else "again", advice="" if good else "Say why it matters.")
    return verdict.model_dump_json()


def compose(request: ModelRequest) -> Step:
    """The next draft, until one is good or the critic reads no more."""
    read = results(request)
    if len(read) == len(DRAFTS) or (read and '"good"' in read[-1]):
        return DRAFTS[len(read) - 1]
    return ask("critic", text=DRAFTS[len(read)])


critic = Agent(
    name="critic",
    model=model(criticise, CHEAP),
    instructions="You read drafts for a harbour town's paper. Say 'good' or 'again', and in one sentence what to do better.",
    output=Verdict,
    limits=Limits(turns=2, cost_usd=0.02),
)
essayist = Agent(
    name="essayist",
    model=model(compose),
    instructions="You write one sentence about the sea. Show each draft to the critic, and write it again as it says, until it is "
    "good or the critic reads no more. Then answer with the best draft and nothing else.",
    tools=[
        critic.as_tool(description=f"Have a draft read. It reads {ROUNDS} drafts at most.", input=Draft, most=ROUNDS)
    ],
    limits=Limits(turns=20, cost_usd=0.20),
)
