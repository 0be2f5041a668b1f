"""Calls that this process has just settled a turn for: what stands about them in the ledger needs no reading.

Only that. Whether a call may still act is asked of the ledger, by the reservation, and its settlement stands once.
"""

from collections import OrderedDict

from holdfast.contracts.effects import Verdict
from holdfast.contracts.messages import ToolCall
from holdfast.contracts.wire import CallInput
from holdfast.ledger import AskedCall, Looked, RunRow, State

MOST = 10_000


class FreshCalls:
    """A bounded memory of calls by operation id; each is taken once."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, tuple[CallInput, Looked]] = OrderedDict()

    def put(self, run: RunRow, turn: int, asked: tuple[AskedCall, ...], calls: tuple[ToolCall, ...]) -> None:
        """Remember those calls of a turn, settled by this process, that may run without anybody's word."""
        for index, (one, call) in enumerate(zip(asked, calls, strict=True)):
            head = one.head
            if head.verdict is not Verdict.RUN:
                continue
            looked = Looked(
                state=State.FREE,
                tool=head.tool,
                version=one.version,
                arguments=call.arguments,
                verdict=head.verdict,
                approved=False,
                agent=run.agent,
                user=run.user,
                tenant=run.tenant,
                attempts=0,
                lease_until=0,
                checkpoint=None,
                sent=0,
            )
            self._calls[head.id] = (CallInput(id=head.id, turn=turn, index=index, digest=head.digest), looked)
        while len(self._calls) > MOST:
            self._calls.popitem(last=False)

    def take(self, call: CallInput) -> Looked | None:
        """What is remembered of exactly this call, once."""
        known = self._calls.pop(call.id, None)
        return known[1] if known is not None and known[0] == call else None
