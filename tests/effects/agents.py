"""What the tests of effects share."""

from datetime import timedelta
from typing import Any

from handfast import Agent, Limits, Outcome, Run, Script
from handfast.contracts.results import Operation
from tests.conftest import until

ROOMY = Limits(turns=100, tokens=10_000_000, wall_time=timedelta(hours=1))


def agent(*steps: Any, tools: list[Any], **options: Any) -> Agent:
    return Agent(name="tester", instructions="Test.", model=Script(steps), tools=tools, limits=ROOMY, **options)


async def ended(run: Run) -> Operation:
    """The run's only call, once its outcome is known or doubtful; a person says of a doubt that it did not happen."""

    async def known() -> list[Operation]:
        return [operation for operation in await run.operations() if operation.outcome is not None]

    [operation] = await until(known)
    if operation.outcome is Outcome.UNKNOWN:
        await run.resolve(operation.operation_id, happened=False, by="ada")
    assert (await run.result()).text == "done"
    return operation
