"""The conversation of a run, rebuilt from settled turns; kept per process so that a turn reads only what is new."""

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from holdfast.activities.excerpt import excerpt
from holdfast.contracts.effects import Outcome
from holdfast.contracts.messages import Message, Part, Text, ToolResult
from holdfast.ledger import PastTurn, ToldResult

MOST_CHARACTERS = 8_000_000
"""Of all conversations one process keeps; the ones not used longest go first."""

ResultLimit = Callable[[str], int]
"""From a tool's name to how many characters of its results the model gets."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A conversation up to and with the answer of turn `turn`."""

    turn: int
    note: str
    messages: tuple[Message, ...]
    characters: int


class Transcripts:
    """A bounded cache. Losing an entry costs one longer read from the ledger, nothing else."""

    def __init__(self, most_characters: int = MOST_CHARACTERS) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._most = most_characters
        self._size = 0

    def get(self, run_id: str, turn: int) -> Kept | None:
        """The conversation up to the turn before `turn`, if it is here."""
        kept = self._kept.get(run_id)
        if kept is None or kept.turn != turn - 1:
            return None
        self._kept.move_to_end(run_id)
        return kept

    def put(self, run_id: str, turn: int, note: str, messages: tuple[Message, ...], characters: int) -> None:
        """Keep a conversation that was just settled."""
        self.drop(run_id)
        self._kept[run_id] = Kept(turn=turn, note=note, messages=messages, characters=characters)
        self._size += characters
        while self._size > self._most and self._kept:
            self.drop(next(iter(self._kept)))

    def drop(self, run_id: str) -> None:
        """Forget a run."""
        kept = self._kept.pop(run_id, None)
        if kept is not None:
            self._size -= kept.characters


def conversation(request: str, past: Sequence[PastTurn], limit: ResultLimit) -> tuple[Message, ...]:
    """The messages up to and with the last settled answer."""
    messages: list[Message] = []
    results: tuple[ToldResult, ...] = ()
    for number, turn in enumerate(past):
        said = (request, *turn.heard) if number == 0 else turn.heard
        messages.extend(heard_message(results, said, limit))
        messages.append(turn.message)
        results = turn.results
    return tuple(messages)


def heard_message(results: Sequence[ToldResult], said: Sequence[str], limit: ResultLimit) -> list[Message]:
    """What the model hears before it answers: the outcomes of its calls, then what was said; nothing if there is none."""
    parts: list[Part] = [
        ToolResult(
            id=result.call_id,
            text=excerpt(text_of(result.content), limit(result.tool), result.operation_id),
            failed=result.outcome is not Outcome.SUCCEEDED,
        )
        for result in results
    ]
    parts.extend(Text(text=text) for text in said if text.strip())
    return [Message(role="user", parts=tuple(parts))] if parts else []


def text_of(content: object) -> str:
    """A result as text: words as they are, everything else as JSON."""
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def characters_of(messages: Sequence[Message]) -> int:
    """About how much memory a conversation takes."""
    return sum(len(message.text) + sum(len(r.text) for r in message.results) + 200 for message in messages)
