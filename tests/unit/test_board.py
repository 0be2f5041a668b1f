"""What a plan's workflow foresees: what follows once everything under way has succeeded, where nothing follows before."""

from typing import Any

import pytest

from handfast.contracts.board import Board
from handfast.contracts.plan_steps import PlanStep, StepAsk, StepAsked


def begun(*steps: PlanStep) -> tuple[Board, list[str]]:
    """A board of which everything that was ready is under way, and the ids of that."""
    board = Board(steps)
    asks = board.ready()
    for ask in asks:
        total = 4 if board[ask.step].each else 1
        count = min(ask.count, total)
        board.claim(StepAsked(step=ask.step, first=ask.first, count=ask.count, heads=count, total=total))
    return board, [ask.step for ask in asks]


def step(name: str, *after: str, **more: Any) -> PlanStep:
    return PlanStep(id=name, after=after, **more)


@pytest.mark.parametrize(
    ("steps", "follows"),
    [
        pytest.param([step("a")], [], id="the end of one"),
        pytest.param([step("a"), step("b"), step("c")], [], id="the end of several"),
        pytest.param([step("a"), step("b", "a")], ["b"], id="a line"),
        pytest.param([step("a"), step("b"), step("c", "a", "b")], ["c"], id="a join"),
        pytest.param([step("a"), step("b"), step("c", "a", "b"), step("d", "c", "b")], ["c"], id="what waits for the join, too"),
        pytest.param([step("a"), step("b"), step("c", "a")], None, id="one goes on before the other has ended"),
        pytest.param([step("a"), step("b"), step("c", any_of=("a", "b"))], None, id="one of them is enough"),
        pytest.param([step("a"), step("c", any_of=("a", "b")), step("b", "c")], ["c"], id="the only one is enough"),
        pytest.param([step("a", instead="x"), step("b"), step("x", owner="a")], [], id="nothing is taken instead"),
        pytest.param([step("a", each=True, parallel=4)], [], id="a list that is under way as a whole"),
        pytest.param([step("a", each=True, parallel=2)], None, id="a list with more to come"),
    ],
)  # fmt: skip
def test_what_follows_is_foreseen_if_it_waits_for_all_that_is_under_way(
    steps: list[PlanStep], follows: list[str] | None
) -> None:
    board, under_way = begun(*steps)
    before = board.progress, board.ready()
    foreseen = board.foresee(under_way)
    assert (None if foreseen is None else [ask.step for ask in foreseen]) == follows
    assert (board.progress, board.ready()) == before


def test_what_was_foreseen_is_what_is_ready_then() -> None:
    board, under_way = begun(step("a"), step("b"), step("c", "a", "b"), step("d", "a", "b"))
    foreseen = board.foresee(under_way)
    for name in under_way:
        assert board.ready() == ()
        board.call_ended(name, succeeded=True)
    assert board.ready() == foreseen == (StepAsk(step="c"), StepAsk(step="d"))
