"""Which branch of a run a turn belongs to: a run that is reset to think again begins a branch at one of its turns.

`branches` holds the first turn of every branch but the first one, in the order in which they began.
"""

from collections.abc import Sequence


def branch_of(branches: Sequence[int], turn: int) -> int:
    """The number of the branch that a turn belongs to, as the run stands: the youngest that begins at it or before."""
    return max((number for number, first in enumerate(branches, start=1) if first <= turn), default=0)


def turn_ref(branches: Sequence[int], turn: int) -> str:
    """The reference of a turn's entry."""
    branch = branch_of(branches, turn)
    return f"{turn}@{branch}" if branch else str(turn)


def turn_of(ref: str) -> tuple[int, int]:
    """The turn and the branch behind a reference."""
    turn, _, branch = ref.partition("@")
    return int(turn), int(branch or 0)
