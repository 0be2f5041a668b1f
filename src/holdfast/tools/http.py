"""The caller's side of HTTP: named upstreams, one connection pool, the idempotency key, errors mapped once."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import cast

import httpx

from holdfast.contracts.errors import ErrorCode, ToolError
from holdfast.contracts.upstream import Upstream
from holdfast.contracts.waits import retry_after_seconds
from holdfast.telemetry import inject_trace_context
from holdfast.tools.sends import Sends

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110, 9.2.1. Every other method carries `Idempotency-Key` (IETF draft-07)."""
KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
"""Says that the other side has looked at the key: `true` with a first answer repeated, `false` with a new one."""
KEY_MISUSED = frozenset({400, 422})
"""What a key used before with another payload is refused with, by Stripe and by the draft: no answer to the first use."""
CONFLICT, TOO_MANY_REQUESTS, SERVER_ERROR, SERVICE_UNAVAILABLE = 409, 429, 500, 503


class Upstreams:
    """The upstreams of one worker."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._upstreams = dict(upstreams)
        self._pool: httpx.AsyncHTTPTransport | None = None

    def client(self, name: str, sends: Sends) -> httpx.AsyncClient:
        """A client for one attempt, on the shared pool; `sends` is the attempt's, over all its clients.

        Raises:
            ToolError: There is no upstream of that name.
        """
        upstream = self._upstreams.get(name)
        if upstream is None:
            known = ", ".join(sorted(self._upstreams)) or "none"
            message = f"no upstream is named {name!r}; known: {known}"
            raise ToolError(message, code=ErrorCode.TOOL_FAILED, hint="set it in HOLDFAST_UPSTREAMS of the worker")
        if self._pool is None:
            self._pool = httpx.AsyncHTTPTransport()
        return httpx.AsyncClient(
            base_url=upstream.base_url,
            headers=upstream.headers,
            timeout=upstream.timeout_seconds,
            transport=_Carrier(self._pool, name, sends, upstream.most_bytes),
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            await self._pool.aclose()


class _Carrier(httpx.AsyncBaseTransport):
    """Puts key and trace on a request, and turns failures into `ToolError` with the right cause."""

    def __init__(self, pool: httpx.AsyncBaseTransport, name: str, sends: Sends, most_bytes: int) -> None:
        self._pool = pool
        self._name = name
        self._sends = sends
        self._most_bytes = most_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        inject_trace_context(request.headers)
        if request.method not in SAFE_METHODS:
            return await self._send_unsafe(request)
        try:
            return await self._send(request)
        except ToolError as error:
            error.happened = "unknown" if self._sends.acted else "no"
            raise

    async def _send_unsafe(self, request: httpx.Request) -> httpx.Response:
        """Send a request under its key, and remember what is known of it."""
        same = (request.method, str(request.url), _body_of(request))
        key = request.headers.get(KEY_HEADER) or self._sends.key(same)
        request.headers[KEY_HEADER] = key
        try:
            response = await self._send(request)
        except ToolError as error:
            self._sends.failed(same, key, error.happened)
            error.happened = "unknown" if self._sends.acted else error.happened
            raise
        except BaseException:
            self._sends.failed(same, key, "unknown")
            raise
        self._sends.accepted(key)
        return response

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self._pool.handle_async_request(request)
        except httpx.TransportError as error:
            raise self._transport_error(error) from error
        response.stream = _Body(self, response.stream)
        if not response.is_error:
            return response
        try:
            await response.aread()
        except ToolError:
            # Its words are lost; what it says of the request is in the status.
            await response.aclose()
            response = httpx.Response(response.status_code, headers=response.headers, content=b"")
        raise self._status_error(request, response)

    async def read(self, stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The answer's bytes as they arrive, up to the upstream's limit.

        Raises:
            ToolError: It is longer, or breaks off. Whether anything happened is known by the requests so far.
        """
        size = 0
        try:
            async for part in stream:
                size += len(part)
                if size > self._most_bytes:
                    message = f"{self._name} answered with more than {self._most_bytes} bytes"
                    raise ToolError(
                        message, code=ErrorCode.RESPONSE_TOO_LARGE, hint="ask for less, such as one page of it"
                    )
                yield part
        except httpx.TransportError as error:
            broken_off = self._transport_error(error)
            broken_off.happened = ""
            raise broken_off from error

    def _transport_error(self, error: httpx.TransportError) -> ToolError:
        never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        code = ErrorCode.TIMEOUT if isinstance(error, httpx.TimeoutException) else ErrorCode.UNAVAILABLE
        message = f"{self._name} could not be reached" if never_sent else f"{self._name} did not answer"
        happened = "no" if never_sent else "unknown"
        return ToolError(f"{message} ({type(error).__name__})", code=code, retryable=True, happened=happened)

    def _status_error(self, request: httpx.Request, response: httpx.Response) -> ToolError:
        status, key = response.status_code, request.headers.get(KEY_HEADER, "")
        message = f"{self._name} answered {status} to {request.method} {request.url.path}: {_detail(response)}"
        wait = retry_after_seconds(response.headers.get("retry-after"))
        replayed = response.headers.get(REPLAYED_HEADER, "") if key else ""
        looked_at = replayed == "true" or (bool(replayed) and status not in KEY_MISUSED)
        if status == TOO_MANY_REQUESTS:
            return ToolError(message, code=ErrorCode.RATE_LIMITED, retryable=True, happened="no", retry_after=wait)
        if status == SERVICE_UNAVAILABLE:
            # With a time to come back it is a refusal; without, perhaps a gateway that lost the service in the middle.
            happened = "unknown" if wait is None else "no"
            return ToolError(message, code=ErrorCode.UNAVAILABLE, retryable=True, happened=happened, retry_after=wait)
        if status >= SERVER_ERROR:
            retryable = status in {500, 502, 504} and not looked_at
            return ToolError(message, code=ErrorCode.UNAVAILABLE, retryable=retryable, happened="unknown")
        if status == CONFLICT and key and not looked_at and (wait is not None or self._sends.in_doubt(key)):
            # An earlier request with this key may still be under way: its answer comes later, under the same key.
            return ToolError(message, code=ErrorCode.UNAVAILABLE, retryable=True, happened="unknown", retry_after=wait)
        hint = "the service refused this request; change it, or tell the user"
        return ToolError(message, code=f"http_{status}", hint=hint, happened="never" if looked_at else "no")


class _Body(httpx.AsyncByteStream):
    """An answer's body, read through the carrier."""

    def __init__(self, carrier: _Carrier, stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> None:
        self._carrier = carrier
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._carrier.read(cast("AsyncIterable[bytes]", self._stream)):
            yield part

    async def aclose(self) -> None:
        await cast("httpx.AsyncByteStream", self._stream).aclose()


def _body_of(request: httpx.Request) -> bytes | None:
    """What a request carries, None if it is a stream that can be read only once."""
    try:
        return request.content
    except httpx.RequestNotRead:
        return None


def _detail(response: httpx.Response) -> str:
    """The problem in words: problem+json's detail (RFC 9457), a usual error field, or the beginning of the body."""
    try:
        body: object = response.json()
    except ValueError:
        return response.text[:200] or response.reason_phrase
    problem = cast("dict[str, object]", body) if isinstance(body, dict) else {}
    for field in ("detail", "message", "error", "title"):
        told = problem.get(field)
        if isinstance(told, str):
            return told[:500]
    return response.text[:200]
