"""The caller's side of HTTP: named upstreams, pooled connections, the idempotency key, errors mapped once."""

import asyncio
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import h11
import httpcore
import httpx

from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.upstream import Upstream
from handfast.telemetry import inject_trace_context
from handfast.tools.answers import (
    KEY_HEADER,
    OWN_FAILURES,
    SERVER_ERROR,
    UNAUTHORISED,
    StillUnderWay,
    status_error,
    transport_error,
)
from handfast.tools.auth import Holder, sign_in
from handfast.tools.body import ENCODINGS, CappedBody
from handfast.tools.circuits import Circuits, CircuitStore
from handfast.tools.connection import last_look
from handfast.tools.credentials import Credentials
from handfast.tools.guard import Guard, GuardedBackend
from handfast.tools.notices import Notices, sunset_notice
from handfast.tools.sends import Sends
from handfast.tools.unsendable import check_headers, not_made

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110, 9.2.1. Every other method carries `Idempotency-Key` (IETF draft-07)."""
FIRST_WAIT, LONGEST_WAIT = 0.25, 5.0
GONE = "handfast.gone"
"""The key of what says that bytes of a request went out."""
LOOK = "handfast.look"
"""The key of what looks whether they still may."""
LAST_WORD = 1.0
"""Seconds that an attempt must have left to ask once more."""
SENT_ELSEWHERE = frozenset({307, 308})
"""Nothing has happened yet: the same request goes to another place."""


@dataclass(frozen=True, kw_only=True)
class Caller(Holder):
    """For whom an attempt calls, and with whose credentials."""

    tenant: str = "default"
    tool: str = ""
    owner: str = ""
    """Who answers for the tool."""
    watch: Callable[[str, Upstream, httpx.Request, httpx.Response], None] | None = None
    """Sees each answer of its upstreams once it is read; one that the tool streams is not seen."""


class Upstreams:
    """The upstreams of one worker.

    Args:
        upstreams: By name, from the settings.
        circuits: Where circuits are shared; without it there are none.
        notices: Where what owners should know is written down.
        credentials: What calls sign in with; the environment's unless given.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        *,
        circuits: CircuitStore | None = None,
        notices: Notices | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        credentials = credentials or Credentials()
        self._circuits = Circuits(circuits)
        self._notices = notices or Notices(None)
        self._lines: dict[str, _Line] = {}
        for name, upstream in upstreams.items():
            self._lines[name] = _Line(name, upstream, self._tls, self._circuits, self._notices, credentials)

    def client(self, name: str, sends: Sends, caller: Caller | None = None) -> httpx.AsyncClient:
        """A client for one attempt, on the upstream's pool; `sends` is the attempt's, over all its clients.

        Raises:
            ToolError: There is no upstream of that name.
        """
        line = self._lines.get(name)
        if line is None:
            known = ", ".join(sorted(self._lines)) or "none"
            message = f"no upstream is named {name!r}; known: {known}"
            hint = "set it in HANDFAST_UPSTREAMS of the worker"
            raise ToolError(message, code=ErrorCode.TOOL_FAILED, hint=hint, happened="no")
        upstream, caller = line.upstream, caller or Caller()
        return _Client(
            name,
            _seeing(name, upstream, caller),
            caller.seen,
            base_url=line.base_url,
            timeout=line.timeout,
            headers={"accept-encoding": ENCODINGS},
            follow_redirects=upstream.most_redirects > 0,
            max_redirects=upstream.most_redirects,
            transport=_Carrier(line, sends, caller),
        )

    async def close(self) -> None:
        """Close every connection."""
        for line in self._lines.values():
            await line.close()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()


def _seeing(name: str, upstream: Upstream, caller: Caller) -> Callable[[httpx.Response], None]:
    def see(response: httpx.Response) -> None:
        if caller.watch is not None:
            caller.watch(name, upstream, response.request, response)

    return see


class _Client(httpx.AsyncClient):
    """An `httpx.AsyncClient` whose every failure is a `ToolError`, and whose answers are seen once they are read."""

    def __init__(
        self, name: str, watch: Callable[[httpx.Response], None], seen: Collection[str], **options: Any
    ) -> None:
        super().__init__(**options)
        self._name = name
        self._watch = watch
        self._seen = seen

    def build_request(self, *args: Any, **options: Any) -> httpx.Request:
        try:
            return super().build_request(*args, **options)
        except Exception as error:
            raise not_made(self._name, error, self._seen) from error

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        try:
            response = await super().send(request, **options)
        except httpx.TooManyRedirects as error:
            message = f"{self._name} redirects more than {self.max_redirects} times"
            raise ToolError(message, code=ErrorCode.UNAVAILABLE) from error
        except httpx.RequestError as error:
            message = f"{self._name} gave no usable answer ({type(error).__name__}: {error})"
            raise ToolError(message, code=ErrorCode.UNAVAILABLE) from error
        if response.is_stream_consumed:
            self._watch(response)
        return response


class _Line:
    """One upstream, and what all calls of it share."""

    def __init__(
        self,
        name: str,
        upstream: Upstream,
        tls: ssl.SSLContext,
        circuits: Circuits,
        notices: Notices,
        credentials: Credentials,
    ) -> None:
        self.name = name
        self.upstream = upstream
        self.base_url = httpx.URL(upstream.base_url)
        self.timeout = httpx.Timeout(upstream.timeout_seconds, connect=upstream.connect_seconds)
        self.guard = Guard(name, upstream)
        self.circuits = circuits
        self.notices = notices
        self._sign_in = sign_in(name, upstream.auth, credentials)
        self._tls = tls

    @cached_property
    def _pool(self) -> httpx.AsyncHTTPTransport:
        pool = httpx.AsyncHTTPTransport(verify=self._tls)
        # httpx has no argument for it; a test connects to a private address and is refused.
        pool._pool = httpcore.AsyncConnectionPool(  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            ssl_context=self._tls,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=GuardedBackend(self.guard),
        )
        return pool

    async def send(self, request: httpx.Request, holder: Holder) -> httpx.Response:
        """Send a request as it leaves this worker: signed, traced, with the headers of the settings."""
        sent = await self._outgoing(request, holder)
        response = await self._send(sent)
        refused = response.status_code == UNAUTHORISED and self.guard.own(request.url) and _body_of(request) is not None
        if refused and self._sign_in is not None and self._sign_in.renewable(sent.headers):
            await response.aclose()
            response = await self._send(await self._outgoing(request, holder))
        return response

    async def _send(self, sent: httpx.Request) -> httpx.Response:
        looking = last_look.set(sent.extensions.get(LOOK))
        try:
            return await self._pool.handle_async_request(sent)
        except h11.LocalProtocolError as error:
            # The pool lets through what is wrong with a body.
            raise httpx.LocalProtocolError(type(error).__name__) from error
        finally:
            last_look.reset(looking)

    async def _outgoing(self, request: httpx.Request, holder: Holder) -> httpx.Request:
        """A copy, so that a redirect, which is made from the original, takes no credentials along."""
        sent = httpx.Request(
            request.method, request.url, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        if self.guard.own(request.url):
            await self._add_headers(sent.headers, holder)
        inject_trace_context(sent.headers)
        return sent

    async def _add_headers(self, headers: httpx.Headers, holder: Holder) -> None:
        upstream = self.upstream
        for name, value in upstream.headers.items():
            headers.setdefault(name, value)
        if upstream.version:
            headers.setdefault(upstream.version_header, upstream.version)
        if self._sign_in is not None:
            await self._sign_in.sign(headers, holder)

    async def close(self) -> None:
        if "_pool" in self.__dict__:
            await self._pool.aclose()


class _Carrier(httpx.AsyncBaseTransport):
    """Puts the key on a request, asks circuit and guard, and turns failures into `ToolError` with the right cause."""

    def __init__(self, line: _Line, sends: Sends, caller: Caller) -> None:
        self._line = line
        self._sends = sends
        self._caller = caller

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method not in SAFE_METHODS:
            return await self._send_unsafe(request)
        try:
            return await self._send(request)
        except ToolError as error:
            error.of_request = True
            error.happened = "unknown" if self._sends.acted else "no"
            raise

    async def _send_unsafe(self, request: httpx.Request) -> httpx.Response:
        """Send a request under its key, and remember what is known of it."""
        same = (request.method, str(request.url), _body_of(request))
        key = request.headers.get(KEY_HEADER) or self._sends.key(same)
        request.headers[KEY_HEADER] = key
        request.extensions[LOOK] = looking(self._sends, request)
        try:
            with self._sends.sending(lambda: GONE in request.extensions):
                response = await self._send_until_ended(request)
        except ToolError as error:
            if GONE not in request.extensions:
                # Such as by a connection that was closed just when it was to be used again.
                error.happened = "no"
            if error.code == ErrorCode.CIRCUIT_OPEN:
                # A call that may have happened is worth waiting for; any other one can do without at once.
                error.retryable = self._sends.in_doubt(key)
            self._sends.failed(same, key, error.happened)
            error.of_request = True
            error.happened = "unknown" if self._sends.acted else error.happened
            raise
        except BaseException:
            # Cut off in the middle: what was not begun to be written surely did not happen.
            gone = GONE in request.extensions
            self._sends.failed(same, key, "unknown" if gone else "no", cut_off=gone)
            raise
        if response.status_code not in SENT_ELSEWHERE:
            self._sends.accepted(key)
        return response

    async def _send_until_ended(self, request: httpx.Request) -> httpx.Response:
        """Send a request; while an earlier one with its key is under way, wait for that one as long as the attempt may act."""
        wait, lease = FIRST_WAIT, self._sends.lease
        while True:
            try:
                return await self._send(request)
            except StillUnderWay as error:
                wait = max(wait, error.retry_after or 0)
                if lease is None or lease.left < wait + LAST_WORD or _body_of(request) is None:
                    raise
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        line = self._line
        line.guard.check(request.url)
        check_headers(line.name, request, self._caller.seen)
        counted = (line.name, line.upstream, self._caller.tenant)
        probe = await line.circuits.enter(*counted)
        try:
            response = await line.send(request, self._caller)
        except httpx.TransportError as error:
            if not isinstance(error, OWN_FAILURES):
                await line.circuits.report(*counted, broken=True, probe=probe)
            elif probe:
                await line.circuits.withdraw(line.name, self._caller.tenant)
            raise transport_error(line.name, error) from error
        except ToolError:
            if probe:
                await line.circuits.withdraw(line.name, self._caller.tenant)
            raise
        await line.circuits.report(*counted, broken=response.status_code >= SERVER_ERROR, probe=probe)
        await line.notices.tell(sunset_notice(line.name, response, self._caller.tool, self._caller.owner))
        response.stream = CappedBody(line.name, line.upstream.most_bytes, response)
        if not response.is_error:
            return response
        try:
            await response.aread()
        except ToolError:
            # Its words are lost; what it says of the request is in the status.
            await response.aclose()
            response = httpx.Response(response.status_code, headers=response.headers, content=b"")
        if self._caller.watch is not None:
            self._caller.watch(line.name, line.upstream, request, response)
        raise status_error(line.name, request, response, self._sends)


def looking(sends: Sends, request: httpx.Request) -> Callable[[], None]:
    """Looks at the lease right before bytes of the request go out, its head as well as its body: the last moment there is."""

    def look() -> None:
        try:
            sends.require()
        except ToolError as error:
            if GONE in request.extensions:
                error.happened = "unknown"
            raise
        request.extensions[GONE] = True

    return look


def _body_of(request: httpx.Request) -> bytes | None:
    """What a request carries, None if it is a stream that can be read only once."""
    try:
        return request.content
    except httpx.RequestNotRead:
        return None
