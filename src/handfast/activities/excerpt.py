"""Cutting a long result for the model. The whole stays in the ledger and can be read on."""

from handfast.contracts.names import READ_RESULT


def excerpt(text: str, limit: int, operation_id: str) -> str:
    """The text, or if it is longer than `limit` characters its beginning (two thirds of the limit) and its end."""
    if len(text) <= limit:
        return text
    first = limit * 2 // 3
    last = limit - first
    left_out = len(text) - limit
    marker = (
        f"\n[… {left_out} of {len(text)} characters are left out here. To read on, call {READ_RESULT} with "
        f'operation="{operation_id}", offset={first} …]\n'
    )
    return text[:first] + marker + text[-last:]
