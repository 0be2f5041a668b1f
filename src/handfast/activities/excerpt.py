"""Cutting a long result for the model. The whole stays in the ledger and can be read on."""

from handfast.contracts.names import READ_RESULT
from handfast.tools.hiding import shown


def excerpt(text: str, limit: int, operation_id: str, hides: tuple[str, ...] = ()) -> str:
    """The text, or if it is longer than `limit` characters its beginning (two thirds of the limit) and its end.

    Secrets, and the personal data that `hides` names, are not in it, nor any part of those that lie across a cut. Characters are
    counted as they are before that, as `read_result` counts them.
    """
    if len(text) <= limit:
        return shown(text, hides)
    first = limit * 2 // 3
    last = len(text) - (limit - first)
    left_out = last - first
    marker = (
        f"\n[… {left_out} of {len(text)} characters are left out here. To read on, call {READ_RESULT} with "
        f'operation="{operation_id}", offset={first} …]\n'
    )
    return shown(text, hides, 0, first) + marker + shown(text, hides, last)
