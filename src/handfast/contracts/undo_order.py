"""The order in which calls are undone: the last one first, unless their authors say otherwise."""

from collections.abc import Callable, Collection, Sequence

from handfast.contracts.wire_undo import UndoStep

After = Callable[[UndoStep], Collection[str]]
"""The tools whose calls are undone before a step."""


def in_order(steps: Sequence[UndoStep], after: After) -> tuple[UndoStep, ...]:
    """The steps, each behind every call of the tools it comes `after`, in groups that are numbered anew.

    A pivot in doubt is a group of its own, which no step passes: whether anything before it is undone depends on it.

    Args:
        steps: The last call first; neighbours of one group are undone side by side.
        after: See there. Tools that wait for each other in a circle, which contracts refuse within an agent, keep their places.
    """
    ordered: list[UndoStep] = []
    left = list(steps)
    while left:
        group = _next_group(left, after)
        number = len(left)
        ordered.extend(step.model_copy(update={"group": number}) for step in group)
        left = [step for step in left if step not in group]
    return tuple(ordered)


def _next_group(left: Sequence[UndoStep], after: After) -> list[UndoStep]:
    """The steps that come next: those of the first group in which one is free."""
    until_pivot = next((index for index, step in enumerate(left) if step.pivot), len(left))
    section = left[:until_pivot] or left[:1]
    waiting = {step.tool for step in section}
    free = [step for step in section if not (waiting - {step.tool}) & set(after(step))] or [section[0]]
    return [step for step in free if step.group == free[0].group]
