"""A parent that asks ten children, written by hand: what a family of agents is measured against. It protects nothing."""

import asyncio
from datetime import timedelta

from temporalio import activity, workflow

CHILDREN = 10
SOON = timedelta(seconds=30)


@activity.defn
async def think(number: int) -> str:
    return f"{number}" * 100


@workflow.defn
class ChildByHand:
    @workflow.run
    async def run(self, number: int) -> str:
        return await workflow.execute_activity(think, number, start_to_close_timeout=SOON)


@workflow.defn
class ParentByHand:
    @workflow.run
    async def run(self, serial: bool) -> int:
        async def ask(number: int) -> str:
            return await workflow.execute_child_workflow(ChildByHand.run, number)

        answers: list[str] = []
        if serial:
            for number in range(CHILDREN):
                await workflow.execute_activity(think, number, start_to_close_timeout=SOON)
                answers.append(await ask(number))
        else:
            await workflow.execute_activity(think, 0, start_to_close_timeout=SOON)
            answers = list(await asyncio.gather(*(ask(number) for number in range(CHILDREN))))
        await workflow.execute_activity(think, CHILDREN, start_to_close_timeout=SOON)
        return len(answers)
