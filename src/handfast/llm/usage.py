"""What a model call used, as far as its provider says, and an estimate of the rest."""

import json
import math
from collections.abc import Mapping
from typing import Any

from handfast.contracts.messages import Message, ModelRequest, Text, ToolResult, Usage

CHARACTERS_PER_TOKEN = 4
MAX_TOKENS = 1_000_000_000
"""Of one call. A higher number is a mistake of whoever counted."""


def estimated_usage(request: ModelRequest, answer: Message) -> Usage:
    """A plausible usage, so that limits, budgets and tables work where nobody says what a call used."""
    parts = [part for message in request.messages for part in message.parts]
    read = sum(len(part.text) for part in parts if isinstance(part, Text | ToolResult))
    written = len(answer.text) + sum(
        len(json.dumps(call.arguments, default=str)) + len(call.raw) for call in answer.calls
    )
    return Usage(
        input_tokens=(len(request.instructions) + read) // CHARACTERS_PER_TOKEN + 1,
        output_tokens=written // CHARACTERS_PER_TOKEN + 1,
    )


def usage_of(counts: Mapping[str, Any], request: ModelRequest, answer: Message) -> Usage:
    """The usage that a provider has stated, with an estimate in the place of what it left out or what is no count.

    Args:
        counts: By the names of `Usage`. Tokens read from or written to a cache are none where they are left out.
        request: What the model was asked.
        answer: What it answered.
    """
    known = {name: count for name in Usage.model_fields if (count := token_count(counts.get(name))) is not None}
    if "input_tokens" in known and "output_tokens" in known:
        return Usage(**known)
    return estimated_usage(request, answer).model_copy(update=known)


def token_count(value: Any) -> int | None:
    """A number of tokens, or None if it is none. A fraction is rounded up."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return math.ceil(value) if 0 <= value <= MAX_TOKENS else None
