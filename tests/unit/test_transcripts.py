"""What a process remembers of a conversation, and when it must not go by it."""

import pytest

from handfast import RunStatus
from handfast.activities.transcripts import Telling, Transcripts
from handfast.contracts.messages import Message, Text
from handfast.contracts.wire import TurnResult
from handfast.ledger import NewTurn, RunRow

RUN = RunRow(
    run_id="r1", chain_id="c1", execution="first", agent="a", agent_version="1.0.0", model="m", user="ada", tenant="t",
    status=RunStatus.RUNNING, trace_id="", head_seq=1, turns=1, calls=0, tokens=0, cost_micros=0, contracts={},
)  # fmt: skip
SAID = Message(role="assistant", parts=(Text(text="Hello."),))


@pytest.mark.parametrize(
    ("turn", "execution", "known"),
    [(3, "here", True), (2, "here", False), (4, "here", False), (3, "after a reset", False)],
)
def test_a_conversation_is_known_for_the_next_turn_of_the_execution_that_held_it(
    turn: int, execution: str, *, known: bool
) -> None:
    """Another execution may have another past: the run was reset, and has thought again elsewhere."""
    transcripts = Transcripts()
    new = NewTurn(turn=2, heard=(), message=SAID, calls=(), result=TurnResult(answered=True))
    transcripts.put(RUN, "here", new, (SAID,), lambda _: Telling(100))
    kept = transcripts.get("r1", turn, execution)
    assert (kept is not None and kept.messages == (SAID,)) is known
