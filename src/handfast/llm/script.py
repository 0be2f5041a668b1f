"""A model that follows a script: the same conversation, the same answer."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from handfast.contracts.callables import takes
from handfast.contracts.effects import Lane
from handfast.contracts.errors import ContractError, ErrorCode, ModelError
from handfast.contracts.messages import Message, ModelRequest, ModelResponse, Part, Text, ToolCall
from handfast.contracts.price import FREE, Price
from handfast.llm.usage import estimated_usage


@dataclass(frozen=True)
class Asked:
    """A tool call in a script."""

    tool: str
    arguments: dict[str, Any]


def ask(tool: str, **arguments: Any) -> Asked:
    """A tool call in a script: `ask("lookup_order", order_id="1042")`."""
    return Asked(tool, arguments)


Step = str | Asked | Sequence[str | Asked] | ModelResponse
"""Words, a tool call, several of both, or a whole response. Words alone are the final answer."""


class Script:
    """A deterministic model.

    Args:
        steps: One step a turn, or a function from the request to a step, which may be async.
        id: The model id that is recorded.
        price: What its tokens cost; nothing unless said.
        lane: `Lane.FAST` asks it in a local activity, for tests and evaluations with many short runs; it must answer at once.

    It keeps no state: which step comes next follows from the conversation, so a retry gets the same answer.

    Raises:
        ContractError: The steps are neither.
    """

    def __init__(
        self,
        steps: Sequence[Step] | Callable[[ModelRequest], Step | Awaitable[Step]],
        *,
        id: str = "script",  # noqa: A002 - the name of the attribute
        price: Price = FREE,
        lane: Lane = Lane.STANDARD,
    ) -> None:
        if isinstance(steps, str) or (callable(steps) and not takes(steps, 1)):
            kind = f"the text {steps!r}" if isinstance(steps, str) else "a function that does not take one request"
            raise ContractError(
                f"script {id!r}", [f"its steps are {kind}: give a list of steps, or a function of the request"]
            )
        self.lane = lane
        self._steps = steps
        self._id = id
        self._price = price

    @property
    def id(self) -> str:
        """The model id that is recorded."""
        return self._id

    @property
    def price(self) -> Price:
        """What its tokens cost."""
        return self._price

    async def respond(self, request: ModelRequest) -> ModelResponse:
        """The step that follows the conversation so far.

        Raises:
            ModelError: The script has no further step.
        """
        turn = sum(message.role == "assistant" for message in request.messages)
        if callable(self._steps):
            step = await _answer(self._steps(request))
        elif turn < len(self._steps):
            step = self._steps[turn]
        else:
            message = f"the script has {len(self._steps)} steps, and turn {turn + 1} was asked for"
            raise ModelError(message, ErrorCode.MODEL_REQUEST_INVALID)
        if fault := _step_fault(step):
            message = f"the script's step for turn {turn + 1} {fault}: a step is a text, ask(...), several of both, or a response"
            raise ModelError(message, ErrorCode.MODEL_REQUEST_INVALID)
        return step if isinstance(step, ModelResponse) else self._response(request, step, turn)

    def _response(self, request: ModelRequest, step: str | Asked | Sequence[str | Asked], turn: int) -> ModelResponse:
        pieces = [step] if isinstance(step, str | Asked) else list(step)
        parts: list[Part] = []
        for index, piece in enumerate(pieces):
            if isinstance(piece, str):
                parts.append(Text(text=piece))
            else:
                parts.append(ToolCall(id=f"call_{turn + 1}_{index}", tool=piece.tool, arguments=piece.arguments))
        message = Message(role="assistant", parts=tuple(parts))
        stop = "tool_use" if message.calls else "end_turn"
        usage = estimated_usage(request, message)
        return ModelResponse(message=message, stop_reason=stop, usage=usage, model=self._id)


async def _answer(step: Step | Awaitable[Step]) -> Step:
    return await step if inspect.isawaitable(step) else step


def _step_fault(step: Any) -> str:
    """Why something is no step; empty if it is one."""
    if isinstance(step, str | Asked | ModelResponse):
        return ""
    if not isinstance(step, Sequence):
        return f"is of type {type(step).__name__}"
    pieces: Sequence[Any] = step  # pyright: ignore[reportUnknownVariableType] - it may hold anything
    wrong = next((type(one).__name__ for one in pieces if not isinstance(one, str | Asked)), "")
    return f"holds a {wrong}" if wrong else ""
