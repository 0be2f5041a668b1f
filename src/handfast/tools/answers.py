"""What an answer means to a call: each failure as one `ToolError`, and what is known of the effect by it."""

import json
from typing import cast

import httpx

from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.waits import longest_retry_after, rate_limit_reset_seconds
from handfast.tools.sends import Sends

KEY_HEADER = "Idempotency-Key"
MAX_DETAIL = 10_000
"""Characters of what a service says: more than anybody is told of it, so that what lies across that cut is seen, and hidden."""
REPLAYED_HEADER = "Idempotent-Replayed"
"""Says that the other side has looked at the key: `true` with a first answer repeated, `false` with a new one."""
KEY_MISUSED = frozenset({400, 422})
"""What a key used before with another payload is refused with, by Stripe and by the draft: no answer to the first use."""
UNAUTHORISED, CONFLICT, TOO_MANY_REQUESTS, SERVER_ERROR, SERVICE_UNAVAILABLE = 401, 409, 429, 500, 503

OWN_FAILURES = (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.PoolTimeout)
"""Failures of this side, which say nothing about the service."""


class StillUnderWay(ToolError):
    """An earlier request with the same key may still be under way: its answer comes later, under the same key."""


def transport_error(name: str, error: httpx.TransportError) -> ToolError:
    """What a request came to that got no answer."""
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        # Its words may hold what was to be sent. Whether bytes went out before it is known to the caller.
        message = f"the request to {name} can't be sent ({type(error).__name__})"
        return ToolError(message, code=ErrorCode.UNAVAILABLE, retryable=True, happened="unknown")
    never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    code = ErrorCode.TIMEOUT if isinstance(error, httpx.TimeoutException) else ErrorCode.UNAVAILABLE
    message = f"{name} could not be reached" if never_sent else f"{name} did not answer"
    happened = "no" if never_sent else "unknown"
    return ToolError(f"{message} ({type(error).__name__})", code=code, retryable=True, happened=happened)


def status_error(name: str, request: httpx.Request, response: httpx.Response, sends: Sends) -> ToolError:
    """What an answer of 400 and above means."""
    status, key = response.status_code, request.headers.get(KEY_HEADER, "")
    message = f"{name} answered {status} to {request.method} {request.url.path}: {_detail(response)}"
    wait = longest_retry_after(response.headers.get_list("retry-after"))
    replayed = response.headers.get(REPLAYED_HEADER, "") if key else ""
    looked_at = replayed == "true" or (bool(replayed) and status not in KEY_MISUSED)
    if status == TOO_MANY_REQUESTS:
        wait = rate_limit_reset_seconds(response.headers.get_list("ratelimit")) if wait is None else wait
        return ToolError(message, code=ErrorCode.RATE_LIMITED, retryable=True, happened="no", retry_after=wait)
    if status == SERVICE_UNAVAILABLE:
        # With a time to come back it is a refusal; without, perhaps a gateway that lost the service in the middle.
        happened = "unknown" if wait is None else "no"
        return ToolError(message, code=ErrorCode.UNAVAILABLE, retryable=True, happened=happened, retry_after=wait)
    if status >= SERVER_ERROR:
        retryable = status in {500, 502, 504} and not looked_at
        return ToolError(message, code=ErrorCode.UNAVAILABLE, retryable=retryable, happened="unknown", retry_after=wait)
    if status == CONFLICT and key and not looked_at and (wait is not None or sends.in_doubt(key)):
        return StillUnderWay(message, code=ErrorCode.UNAVAILABLE, retryable=True, happened="unknown", retry_after=wait)
    hint = "the service refused this request; change it, or tell the user"
    return ToolError(message, code=f"http_{status}", hint=hint, happened="never" if looked_at else "no")


def _detail(response: httpx.Response) -> str:
    """The problem in words: `detail` or `title` of problem+json (RFC 9457, section 3.1), a usual error field, or the body's beginning.

    A member of another type than text is ignored, as section 3.1 asks.
    """
    try:
        body: object = json.loads(response.content)
    except (ValueError, RecursionError):
        return _beginning(response) or response.reason_phrase
    problem = cast("dict[str, object]", body) if isinstance(body, dict) else {}
    for field in ("detail", "message", "error", "error_description", "title"):
        told = problem.get(field)
        if isinstance(told, dict):
            told = cast("dict[str, object]", told).get("message")
        if isinstance(told, str) and told.strip():
            return told[:MAX_DETAIL]
    return _beginning(response)


def _beginning(response: httpx.Response) -> str:
    """The first characters of a body, whatever encoding its header names."""
    return response.content[: 4 * MAX_DETAIL].decode("utf-8", "replace")[:MAX_DETAIL]
