"""Requests that can't be sent as they are: told before the service could be blamed for them, and without what they hold."""

from collections.abc import Collection

import httpx

from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.http_fields import control_fault, name_fault


def check_headers(name: str, request: httpx.Request, secrets: Collection[str]) -> None:
    """Refuse headers that no connection takes (RFC 9110, section 5.5).

    Args:
        name: The upstream's.
        request: What is to be sent.
        secrets: Those that the call has got.

    Raises:
        ToolError: A header can't be sent. Nothing was.
    """
    for raw_name, raw_value in request.headers.raw:
        header, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        fault = name_fault(header) or control_fault(value)
        if fault:
            message = f"header {header!r} of a request to {name} can't be sent: {fault}"
            raise _refused(message, value, secrets)


def not_made(name: str, error: Exception, secrets: Collection[str]) -> ToolError:
    """What it means that httpx could make no request of what a tool gave it."""
    value = error.object if isinstance(error, UnicodeEncodeError) else ""
    return _refused(f"the request to {name} can't be made ({type(error).__name__})", value, secrets)


def unusable_key(name: str, secret: str, fault: str) -> ToolError:
    """What it means that an API key can be the value of no header."""
    message = f"{name} can't be signed in to with secret {secret!r}: {fault}"
    hint = "an operator must correct the secret; as it is no request can carry it"
    return ToolError(message, code=ErrorCode.AUTHENTICATION_FAILED, hint=hint, happened="no")


def _refused(message: str, value: str, secrets: Collection[str]) -> ToolError:
    if any(secret in value for secret in secrets):
        hint = "an operator must correct the secret that is in it"
        return ToolError(message, code=ErrorCode.AUTHENTICATION_FAILED, hint=hint, happened="no")
    return ToolError(message, hint="this tool's author must correct its URL, headers or body")
