"""Asking a token endpoint for an access token by client credentials (RFC 6749, section 4.4).

| answer | what it means |
|---|---|
| 200 with `access_token` (section 5.1) | a token |
| an error code of section 5.2, or 400, 401, 403 without one that passes | `authentication_failed`: an operator must look |
| 429 | `rate_limited`, tried again after `Retry-After` |
| anything else: no answer, no JSON, no token, 500 and above | `unavailable`, tried again |

Whatever it is, nothing of the call has happened, and nothing of a failed answer is kept.
"""

import base64
import json
import re
import time
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import httpx

from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.upstream import OAuth2
from handfast.contracts.waits import lifetime_seconds, longest_retry_after

SECONDS = 10.0
"""For an answer."""
MAX_BYTES = 1_000_000
LIFETIME_SECONDS = 3600.0
"""Of a token whose answer does not say how long it lives, or nothing that can be understood."""
REFUSALS = frozenset(
    {
        "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
    }
)  # fmt: skip
"""The error codes of section 5.2. They are final with any status, also with 200."""
PASSING = frozenset({"server_error", "temporarily_unavailable", "slow_down"})
"""Error codes that a later request may not meet (section 4.1.2.1, and RFC 8628, section 3.5), also with 400."""
REFUSED, TOO_MANY_REQUESTS = frozenset({400, 401, 403}), 429
TOKEN = re.compile(r"[\x21-\x7e]+")
"""An access token that a header can carry (appendix A.12, without the space)."""
ERROR_CODE = re.compile(r"[A-Za-z0-9_.-]{1,50}")


class Client(NamedTuple):
    """For whom and for what a token is."""

    client_id: str
    secret: str
    scope: str


@dataclass(frozen=True, kw_only=True)
class Token:
    """An access token."""

    value: str
    lifetime: float
    """Seconds, from when it was fetched."""
    ends_at: float
    """By the monotonic clock."""

    def is_due(self, leeway: float) -> bool:
        """Whether it is time for a new one: so many seconds before its end, but not before half its life."""
        return time.monotonic() >= self.ends_at - min(leeway, self.lifetime / 2)


async def fetch_token(name: str, auth: OAuth2, client: Client) -> Token:
    """A new token.

    Args:
        name: The upstream's.
        auth: Where to ask, and for which audience.
        client: For whom.

    Raises:
        ToolError: There is none to be had; nothing was sent to the upstream itself.
    """
    try:
        response = await _ask(auth, client)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unavailable(name, f"does not answer ({type(error).__name__})") from None
    body = _object_of(response)
    _check(name, response, body)
    value = body.get("access_token")
    if not isinstance(value, str) or not TOKEN.fullmatch(value := value.strip()):
        raise _unavailable(name, f"answered {response.status_code} without an access token that can be sent")
    kind = body.get("token_type")
    if isinstance(kind, str) and kind and "bearer" not in kind.lower():
        # Section 7.1: a client must not use a token of a type that it does not understand.
        raise _refused(name, "it gives tokens of another type than Bearer")
    lifetime = lifetime_seconds(body.get("expires_in"))
    lifetime = LIFETIME_SECONDS if lifetime is None else lifetime
    return Token(value=value, lifetime=lifetime, ends_at=time.monotonic() + lifetime)


async def _ask(auth: OAuth2, client: Client) -> httpx.Response:
    wanted = {"grant_type": "client_credentials", "scope": client.scope, "audience": auth.audience}
    basic = base64.b64encode(f"{client.client_id}:{client.secret}".encode()).decode()
    headers = {"accept": "application/json", "authorization": f"Basic {basic}"}
    form = {field: value for field, value in wanted.items() if value}
    async with (
        httpx.AsyncClient(timeout=SECONDS, follow_redirects=False) as http,
        http.stream("POST", auth.token_url, data=form, headers=headers) as response,
    ):
        content = b""
        async for part in response.aiter_bytes():
            content += part
            if len(content) > MAX_BYTES:
                content = b""
                break
    plain = {field: value for field, value in response.headers.items() if field == "retry-after"}
    return httpx.Response(response.status_code, headers=plain, content=content)


def _object_of(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer; empty if it is none."""
    try:
        body: object = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}


def _check(name: str, response: httpx.Response, body: dict[str, Any]) -> None:
    """Raise what an answer that is none means. Its words may hold what was sent, so only an error's code is told."""
    status, error = response.status_code, body.get("error")
    code = error if isinstance(error, str) and ERROR_CODE.fullmatch(error) else ""
    wait = longest_retry_after(response.headers.get_list("retry-after"))
    if status == TOO_MANY_REQUESTS:
        message = f"the token endpoint of {name} asks for fewer requests"
        raise ToolError(message, code=ErrorCode.RATE_LIMITED, retryable=True, happened="no", retry_after=wait)
    if code in REFUSALS or (status in REFUSED and code not in PASSING):
        raise _refused(name, code or f"status {status}")
    if not response.is_success or error:
        raise _unavailable(name, f"answered {status} with {f'error {code!r}' if code else 'no token'}", wait)


def _refused(name: str, why: str) -> ToolError:
    message = f"{name} refused this worker's client credentials ({why})"
    hint = "an operator must look at the client id, the secret and the scope of the upstream"
    return ToolError(message, code=ErrorCode.AUTHENTICATION_FAILED, hint=hint, happened="no")


def _unavailable(name: str, why: str, wait: float | None = None) -> ToolError:
    message = f"the token endpoint of {name} {why}"
    return ToolError(message, code=ErrorCode.UNAVAILABLE, retryable=True, happened="no", retry_after=wait)
