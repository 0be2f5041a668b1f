"""Families of any shape: agents that do what their request says, calls and questions to other agents, and then answer or fail."""

import json
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from handfast import Agent, Client, Limits, ModelError, Script, ask
from handfast.contracts.errors import ErrorCode
from handfast.contracts.messages import ModelRequest
from handfast.contracts.tool import Tool

WIDE = Limits(turns=400, calls=400, tokens=10**7, cost_usd=10, wall_time=timedelta(hours=1))
LEVELS = 3


class Job(BaseModel):
    """What one agent does."""

    who: str = "firm"
    """`firm` undoes what it did when it fails, `loose` leaves that to whoever has asked."""
    turns: "list[list[Job | str]]" = []
    """Turn by turn, side by side: the name of something to do, or a job for another agent."""
    fails: bool = False

    @property
    def things(self) -> list[str]:
        """Everything that it and those it asks are to do."""
        return [
            thing for turn in self.turns for one in turn for thing in ([one] if isinstance(one, str) else one.things)
        ]

    @property
    def jobs(self) -> "list[Job]":
        """It, and those of the agents it asks."""
        below = [one.jobs for turn in self.turns for one in turn if isinstance(one, Job)]
        return [self, *(job for jobs in below for job in jobs)]


def family(tool: Tool, argument: str) -> Agent:
    """The agent at the top: `tool` does one thing, whose name is its `argument`."""
    asked: list[Tool] = []
    at_level: list[Agent] = []
    for level in reversed(range(LEVELS)):
        agents = [_agent(f"{who}{level}", [tool, *asked], argument, level) for who in ("firm", "loose")]
        asked = [one.as_tool(description="Have a job done by somebody else") for one in agents]
        at_level.append(agents[0])
    return at_level[-1]


def _agent(name: str, tools: Sequence[Tool], argument: str, level: int) -> Agent:
    def act(request: ModelRequest) -> Any:
        job = Job.model_validate_json(request.messages[0].text)
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn < len(job.turns):
            return [_call(one, tools[0].name, argument, level) for one in job.turns[turn]]
        if job.fails:
            raise ModelError("it fails", ErrorCode.MODEL_REQUEST_INVALID)
        return json.dumps([result.text for message in request.messages for result in message.results])

    options = {"undo_on": ()} if name.startswith("loose") else {}
    return Agent(name=name, instructions="Do it.", model=Script(act), tools=list(tools), limits=WIDE, **options)  # type: ignore[arg-type]


def _call(one: "Job | str", tool: str, argument: str, level: int) -> Any:
    if isinstance(one, str):
        return ask(tool, **{argument: one})
    return ask(f"{one.who}{level + 1}", request=one.model_dump_json())


def grown(chance: random.Random, name: str, level: int = 0) -> Job:
    """A job of any shape. Its things are called `name` and a number, in the order in which they are asked for."""
    count = iter(range(1000))

    def job(depth: int) -> Job:
        turns: list[list[Job | str]] = []
        for _ in range(chance.randint(1, 3)):
            width = chance.choice((1, 1, 2))
            turns.append(
                [
                    job(depth + 1) if depth + 1 < LEVELS and chance.random() < 0.45 else f"{name}-{next(count)}"
                    for _ in range(width)
                ]
            )
        return Job(who=chance.choice(("firm", "firm", "loose")), turns=turns, fails=chance.random() < 0.3)

    return job(level).model_copy(update={"who": "firm"})


def expected(job: Job, refused: set[str]) -> set[str]:
    """What stands once a job has ended well, or its agent has undone what it did."""
    if job.fails and job.who == "firm":
        return set()
    stands: set[str] = set()
    for turn in job.turns:
        for one in turn:
            stands |= expected(one, refused) if isinstance(one, Job) else {one} - refused
    return stands


async def below(client: Client, run_id: str) -> list[str]:
    """The runs below one, near and far."""
    children = [child.run_id for child in await client.run(run_id).children()]
    return [*children, *[one for child in children for one in await below(client, child)]]


def require_order(job: Job, log: list[tuple[str, str]]) -> None:
    """What was done in a later turn of any job is undone before what was done in an earlier one of it, if both are in one undoing."""
    at = {entry: number for number, entry in enumerate(log)}
    for one in job.jobs:
        earlier: list[str] = []
        for turn in one.turns:
            things = [thing for part in turn for thing in ([part] if isinstance(part, str) else part.things)]
            for late in things:
                for early in earlier:
                    first, second = at.get(("book", early)), at.get(("book", late))
                    assert first is None or second is None or first < second, (job, log)
                    back, late_back = at.get(("cancel", early)), at.get(("cancel", late))
                    if second is not None and back is not None and late_back is not None:
                        # What a job that failed has taken back before the later one was done is an undoing of its own.
                        assert back < second or late_back < back, (job, log)
            earlier.extend(things)
