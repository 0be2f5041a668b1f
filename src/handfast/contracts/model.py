"""The one protocol behind which every model stands."""

from typing import Protocol, runtime_checkable

from handfast.contracts.errors import ErrorCode, ModelError
from handfast.contracts.messages import ModelRequest, ModelResponse
from handfast.contracts.price import FREE, Price


@runtime_checkable
class Model(Protocol):
    """Something that answers a conversation.

    An implementation maps every failure to `ModelError` once, retries nothing (Temporal does), and raises if a stream
    broke off. It passes the provider's stop reason on as it is: an answer that did not end with `end_turn`, `stop_sequence` or
    `tool_use` executes nothing. A call whose arguments it can't parse as one JSON object it returns with a `fault`.
    """

    @property
    def id(self) -> str:
        """The id that is pinned and recorded when a run starts."""
        ...

    @property
    def price(self) -> Price | None:
        """What its tokens cost; None where the price list knows."""
        ...

    async def respond(self, request: ModelRequest) -> ModelResponse:
        """Answer.

        Raises:
            ModelError: With the cause as its code.
        """
        ...


class NoModel:
    """What an agent has that only carries out plans."""

    id = "none"
    price = FREE

    async def respond(self, request: ModelRequest) -> ModelResponse:
        """Refuse.

        Raises:
            ModelError: Always; it is worth no other try.
        """
        msg = "this agent has no model: it carries out plans, see `Client.start_plan`"
        raise ModelError(msg, code=ErrorCode.MODEL_UNKNOWN)


NO_MODEL = NoModel()
