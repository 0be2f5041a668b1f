"""Why a model stopped, and what may be done with its answer: one table for every provider."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """What an answer that ended for some reason is worth."""

    completes: bool = False
    """The answer is whole: its calls may be executed, and its text may be the final answer."""
    denial: str = ""
    """Why none of its calls is executed, for the model."""
    note: str = ""
    """What the model is told next, where the run continues."""
    refused: bool = False
    """The run ends: the model declined."""
    full: bool = False
    """The run ends: the conversation no longer fits the model's context window."""
    failure: str = ""
    """Why the run fails if the very next answer ends in the same way. Empty: the run's limits are the bound."""


WHOLE = StopRule(completes=True)
NOT_EXECUTED = "so none of its calls was executed"
STOP_RULES: Mapping[str, StopRule] = MappingProxyType(
    {
        "end_turn": WHOLE,
        "stop_sequence": WHOLE,
        "tool_use": WHOLE,
        "max_tokens": StopRule(
            denial="your reply was cut off at max_tokens, so its calls may be incomplete and none was executed",
            note="Your last reply was cut off at max_tokens. Go on from where it ended, more briefly.",
        ),
        "model_context_window_exceeded": StopRule(
            denial=f"your reply was cut off because the context window is full, {NOT_EXECUTED}", full=True
        ),
        "refusal": StopRule(denial=f"your reply ended as a refusal, {NOT_EXECUTED}", refused=True),
        "pause_turn": StopRule(
            denial=f"your reply was paused before it was complete, {NOT_EXECUTED}",
            note="Your last reply was paused before it was complete. Go on from where it ended.",
        ),
        "damaged_stream": StopRule(
            denial=f"your reply arrived damaged, {NOT_EXECUTED}",
            note="(from the engine) Your last reply arrived damaged, and nothing of it counts. Give it again.",
            failure="the model's answer arrived damaged twice in a row",
        ),
        "answer_too_large": StopRule(
            denial=f"your reply was too large, {NOT_EXECUTED}",
            note="(from the engine) Your last reply was too large, and nothing of it counts. Answer more briefly.",
            failure="the model's answer was too large twice in a row",
        ),
    }
)
"""The first seven are those of Anthropic's Messages API, the others are ours: see `handfast.llm`.

Source: https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
"""
UNKNOWN = StopRule(
    denial=f"your reply ended for an unknown reason, {NOT_EXECUTED}",
    note="(from the engine) Your last reply ended for an unknown reason, and nothing of it counts. Give it again.",
    failure="the model's answer ended for an unknown reason twice in a row",
)
"""For every other reason, and for none: whether the answer is whole is not known."""


def stop_rule(reason: str | None) -> StopRule:
    """What an answer is worth that ended for this reason."""
    return STOP_RULES.get(reason or "", UNKNOWN)
