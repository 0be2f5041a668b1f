"""The order in which calls are undone."""

from itertools import groupby

import pytest

from handfast import Agent, ContractError, Effect, Tier, ToolContext, compensation, tool
from handfast.contracts.undo_order import in_order
from handfast.contracts.wire import CallInput
from handfast.contracts.wire_undo import UndoStep


def steps(*calls: str) -> list[UndoStep]:
    """`a3` is a call of tool `a` in turn 3; one with `!` is a pivot in doubt. Given as they are owed: the last one first."""
    return [
        UndoStep(
            call=CallInput(id=call, turn=1, digest=""),
            undoes=call,
            tool=call[0],
            group=int(call[1]),
            pivot=call.endswith("!"),
        )
        for call in calls
    ]


@pytest.mark.parametrize(
    ("owed", "after", "expected"),
    [
        (["c3", "b2", "a1"], {}, [["c3"], ["b2"], ["a1"]]),
        (["c2", "b2", "a1"], {}, [["c2", "b2"], ["a1"]]),
        (["c3", "b2", "a1"], {"c": "a"}, [["b2"], ["a1"], ["c3"]]),
        (["c2", "b2", "a1"], {"c": "b"}, [["b2"], ["c2"], ["a1"]]),
        (["c3", "b2", "a1"], {"c": "b", "b": "a"}, [["a1"], ["b2"], ["c3"]]),
        (["b2", "a1"], {"b": "x"}, [["b2"], ["a1"]]),
        (["a2", "b2", "a1"], {"a": "a"}, [["a2", "b2"], ["a1"]]),
        (["b2", "a1"], {"a": "b", "b": "a"}, [["b2"], ["a1"]]),
        (["c1", "b1!", "a1"], {}, [["c1"], ["b1!"], ["a1"]]),
        (["c3", "b2!", "a1"], {"c": "a"}, [["c3"], ["b2!"], ["a1"]]),
    ],
)
def test_the_last_call_comes_first_unless_its_author_says_otherwise(
    owed: list[str], after: dict[str, str], expected: list[list[str]]
) -> None:
    ordered = in_order(steps(*owed), lambda step: after.get(step.tool, ""))
    groups = [[step.undoes for step in group] for _, group in groupby(ordered, key=lambda step: step.group)]
    assert groups == expected


def test_tools_that_wait_for_each_other_are_no_agent() -> None:
    def made(name: str, after: str):  # type: ignore[no-untyped-def]
        @compensation(after=(after,))
        async def undo(args: object, result: object, ctx: ToolContext) -> None: ...

        @tool(name=name, version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:w", compensate=undo)
        async def act(ctx: ToolContext) -> None:
            """Act."""

        return act

    with pytest.raises(ContractError, match="after= goes round in a circle: "):
        Agent(name="x", model="claude-sonnet-5", instructions="Go.", tools=[made("a", "b"), made("b", "a")])
