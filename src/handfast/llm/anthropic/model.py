"""Claude through Anthropic's SDK: one streamed call of the Messages API.

The SDK sends the request; its events are read here. Its own accumulator completes arguments that were cut off, so that half
of a call looks like a whole one.
"""

import asyncio
from typing import Any

import anthropic
import httpx2

from handfast.contracts.errors import ErrorCode, ModelError
from handfast.contracts.messages import ModelRequest, ModelResponse
from handfast.contracts.price import Price
from handfast.llm.anthropic.events import read_event
from handfast.llm.anthropic.failures import HINTS, body_of, no_stream_failure, shown, status_failure
from handfast.llm.anthropic.request import to_api
from handfast.llm.sse import EventTooLarge, server_sent_events
from handfast.llm.stream import AnswerStream

MAX_STREAM = 64_000_000
"""Bytes of one stream. An event of a few bytes of text takes a hundred, so this is far above the size of an answer."""
MAX_SECONDS = 1800.0
"""Of one call, from its request to the end of its stream."""


class AnthropicModel:
    """One Claude model.

    Args:
        model: The model id, such as `claude-sonnet-5`.
        api_key: The key; without one every call fails with `model_authentication`.
        base_url: Where the API is, if not at its usual place.
    """

    def __init__(self, model: str, *, api_key: str = "", base_url: str = "") -> None:
        self._model = model
        self._api_key = api_key
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key or "none", base_url=base_url or None, max_retries=0, middleware=[self._require_success]
        )

    @property
    def id(self) -> str:
        """The model id."""
        return self._model

    @property
    def price(self) -> Price | None:
        """None: the price list knows."""
        return None

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def respond(self, request: ModelRequest) -> ModelResponse:
        """One call of the Messages API, streamed.

        Raises:
            ModelError: With the cause, the provider's request id, and how long it asked to wait.
        """
        if not self._api_key:
            message = f"no key for {self._model}: {HINTS[ErrorCode.MODEL_AUTHENTICATION]}"
            raise ModelError(message, ErrorCode.MODEL_AUTHENTICATION)
        answer = AnswerStream()
        try:
            async with asyncio.timeout(MAX_SECONDS):
                await self._read(request, answer)
        except EventTooLarge:
            answer.too_large = True
        except TimeoutError as error:
            message = f"{self._model} had not finished its answer after {MAX_SECONDS:.0f} s"
            raise ModelError(message, ErrorCode.MODEL_UNAVAILABLE) from error
        except (anthropic.APIError, httpx2.HTTPError) as error:
            message = f"{self._model} could not be reached or broke off: {shown(str(error)) or type(error).__name__}"
            code = ErrorCode.MODEL_STREAM_BROKEN if answer.begun else ErrorCode.MODEL_UNAVAILABLE
            raise ModelError(message, code, request_id=answer.request_id or None) from error
        return answer.response(request)

    async def _read(self, request: ModelRequest, answer: AnswerStream) -> None:
        """Send the request, and read its answer until that is over or larger than allowed."""
        create = self._client.messages.with_streaming_response.create
        async with create(**to_api(request), stream=True) as response:
            answer.request_id = response.request_id or ""
            content_type = response.headers.get("content-type", "text/event-stream")
            if not content_type.startswith("text/event-stream"):
                body = await body_of(response.iter_bytes())
                raise no_stream_failure(self._model, content_type, response.headers, body)
            async for event in server_sent_events(response.iter_bytes(), max_bytes=MAX_STREAM):
                read_event(event, answer, self._model)
                if answer.ended or answer.too_large:
                    return

    async def _require_success(self, request: Any, call_next: anthropic.AsyncCallNext) -> Any:
        """Raise for an error status with the beginning of what it says. The SDK itself would read all of it.

        Raises:
            ModelError: The status is not 2xx.
        """
        response = await call_next(request)
        answered = response.http_response
        if answered.is_success:
            return response
        try:
            body = await body_of(answered.aiter_bytes())
        finally:
            await answered.aclose()
        raise status_failure(self._model, answered.status_code, answered.headers, body)
