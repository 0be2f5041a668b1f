"""What a failed call of the Messages API means: one table for the statuses of answers, one for the types of errors in a stream.

Source: https://platform.claude.com/docs/en/api/errors, and the SDK's `_exceptions.py` and `types/shared/error_type.py`.
"""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

from handfast.contracts.errors import ErrorCode, ModelError
from handfast.contracts.texts import clean_text, printable
from handfast.contracts.waits import retry_after_seconds

MAX_BODY = 65_536
"""Bytes that are read of the body of an answer that is an error."""
MAX_MESSAGE = 500
"""Characters of what it says that are passed on."""
STATUS_CODES: Mapping[int, ErrorCode] = {
    401: ErrorCode.MODEL_AUTHENTICATION,
    402: ErrorCode.MODEL_AUTHENTICATION,
    403: ErrorCode.MODEL_AUTHENTICATION,
    404: ErrorCode.MODEL_UNKNOWN,
    408: ErrorCode.MODEL_UNAVAILABLE,
    409: ErrorCode.MODEL_UNAVAILABLE,
    425: ErrorCode.MODEL_UNAVAILABLE,
    429: ErrorCode.MODEL_UNAVAILABLE,
    499: ErrorCode.MODEL_UNAVAILABLE,
}
"""Every other 4xx says that the request is wrong; everything else (500, 503, 504, 529) may heal."""
ERROR_TYPES: Mapping[str, ErrorCode] = {
    "invalid_request_error": ErrorCode.MODEL_REQUEST_INVALID,
    "request_too_large": ErrorCode.MODEL_REQUEST_INVALID,
    "authentication_error": ErrorCode.MODEL_AUTHENTICATION,
    "billing_error": ErrorCode.MODEL_AUTHENTICATION,
    "permission_error": ErrorCode.MODEL_AUTHENTICATION,
    "not_found_error": ErrorCode.MODEL_UNKNOWN,
    "rate_limit_error": ErrorCode.MODEL_UNAVAILABLE,
    "timeout_error": ErrorCode.MODEL_UNAVAILABLE,
    "api_error": ErrorCode.MODEL_UNAVAILABLE,
    "overloaded_error": ErrorCode.MODEL_UNAVAILABLE,
    "conflict_error": ErrorCode.MODEL_UNAVAILABLE,
}
"""By `error.type`, where the status was 200. Every other type may heal."""
HINTS: Mapping[ErrorCode, str] = {
    ErrorCode.MODEL_AUTHENTICATION: "check ANTHROPIC_API_KEY of the worker, and the account's credit and permissions",
    ErrorCode.MODEL_UNKNOWN: "check the agent's model id",
}


async def body_of(chunks: AsyncIterator[bytes]) -> str:
    """The beginning of a body, as text; the rest is not read."""
    read: list[bytes] = []
    left = MAX_BODY
    async for chunk in chunks:
        read.append(chunk[:left])
        left -= len(chunk)
        if left <= 0:
            break
    return b"".join(read).decode("utf-8", "replace")


def status_failure(model: str, status: int, headers: Mapping[str, str], body: str) -> ModelError:
    """Why a call failed that was answered with an error status."""
    default = ErrorCode.MODEL_REQUEST_INVALID if 400 <= status < 500 else ErrorCode.MODEL_UNAVAILABLE
    code = STATUS_CODES.get(status, default)
    request_id = headers.get("request-id")
    said = f"{model} answered {status}{_named(request_id)}: {_message_in(body)}"
    retry_after = retry_after_seconds(headers.get("retry-after"))
    return ModelError(_with_hint(said, code), code, retry_after=retry_after, request_id=request_id)


def stream_failure(model: str, event: Mapping[str, Any], request_id: str) -> ModelError:
    """Why a call failed in the middle of its stream."""
    error = event.get("error")
    kind = cast("dict[str, Any]", error).get("type") if isinstance(error, dict) else None
    code = ERROR_TYPES.get(kind, ErrorCode.MODEL_UNAVAILABLE) if isinstance(kind, str) else ErrorCode.MODEL_UNAVAILABLE
    said = f"{model} broke off with {shown(str(kind or 'an error'))}{_named(request_id)}: {_message_of(event)}"
    return ModelError(_with_hint(said, code), code, request_id=request_id or None)


def no_stream_failure(model: str, content_type: str, headers: Mapping[str, str], body: str) -> ModelError:
    """Why a call failed that was answered with 200 and no event stream.

    JSON will not become a stream by asking again; another page, such as a proxy's about its maintenance, may.
    """
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    request_id = headers.get("request-id")
    if isinstance(data, dict) and "error" in data:
        return stream_failure(model, cast("dict[str, Any]", data), request_id or "")
    is_json = content_type.startswith("application/json")
    code = ErrorCode.MODEL_REQUEST_INVALID if is_json else ErrorCode.MODEL_UNAVAILABLE
    message = f"{model} answered with {shown(content_type)!r}{_named(request_id)}; allowed is 'text/event-stream'"
    return ModelError(f"{message}: check ANTHROPIC_BASE_URL of the worker", code, request_id=request_id)


def shown(text: str) -> str:
    """What a provider says, as a message may carry it."""
    return printable(clean_text(text[:MAX_MESSAGE]))


def _with_hint(said: str, code: ErrorCode) -> str:
    return f"{said}: {HINTS[code]}" if code in HINTS else said


def _named(request_id: str | None) -> str:
    return f" (request {shown(request_id[:100])})" if request_id else ""


def _message_in(body: str) -> str:
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        return shown(body.strip())
    return _message_of(cast("dict[str, Any]", data)) if isinstance(data, dict) else shown(body.strip())


def _message_of(data: Mapping[str, Any]) -> str:
    error = data.get("error")
    message = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else None
    return shown(message if isinstance(message, str) else json.dumps(error or dict(data))[:MAX_MESSAGE])
