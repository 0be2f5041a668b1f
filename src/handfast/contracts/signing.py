"""Signed requests to and from tools that live elsewhere, in two dialects.

Standard Webhooks (standardwebhooks.com): `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,<base64>` (several when secrets
rotate), HMAC-SHA256 over `id.timestamp.body`. OnceOnly: `X-OnceOnly-Signature`, the hex HMAC-SHA256 of the raw body; its timestamp
is not signed, so a replay is recognised by the lease id in the body.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from handfast.contracts.errors import SignatureRefused
from handfast.contracts.messages import Frozen

TOLERANCE_SECONDS = 300.0
"""How far a timestamp may be from now, by Standard Webhooks."""
PREFIX = "whsec_"
ALGORITHM = "hmac_sha256"


class StandardWebhooks(Frozen):
    """Sign by Standard Webhooks."""

    kind: Literal["standard_webhooks"] = "standard_webhooks"
    secret: str
    """The name of the secret, as for `ctx.secret`; its value is `whsec_` and base64."""


class OnceOnly(Frozen):
    """Sign in the OnceOnly format."""

    kind: Literal["onceonly"] = "onceonly"
    secret: str
    """The name of the secret; its value is used as it is."""
    secret_id: str = ""
    """Which of several secrets, for the other side."""
    agent_id: str = Field(default="handfast")


Dialect = StandardWebhooks | OnceOnly


def webhook_signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64>` over `id.timestamp.body`.

    Raises:
        SignatureRefused: The secret is no base64.
    """
    signed = hmac.new(_webhook_key(secret), f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed.digest()).decode()}"


def onceonly_signature(secret: str, body: bytes) -> str:
    """The hex HMAC of the raw body."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def webhook_headers(secret: str, message_id: str, body: bytes) -> dict[str, str]:
    """The headers of a request signed now."""
    now = int(time.time())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": webhook_signature(secret, message_id, now, body),
    }


def onceonly_headers(dialect: OnceOnly, secret: str, tool: str, body: bytes) -> dict[str, str]:
    """The headers of a request signed now."""
    headers = {
        "x-onceonly-signature": onceonly_signature(secret, body),
        "x-onceonly-signature-alg": ALGORITHM,
        "x-onceonly-timestamp": str(int(time.time())),
        "x-onceonly-tool": tool,
        "x-onceonly-agent-id": dialect.agent_id,
    }
    return {**headers, "x-onceonly-secret-id": dialect.secret_id} if dialect.secret_id else headers


def verify_webhook(
    headers: Mapping[str, str], body: bytes, secrets: Iterable[str], *, tolerance: float = TOLERANCE_SECONDS
) -> str:
    """The message id of a request that one of the secrets has signed in time.

    Args:
        headers: With names in lower case.
        body: As it came, byte for byte.
        secrets: The current one, and older ones while they are rotated.
        tolerance: Seconds.

    Raises:
        SignatureRefused: It is not.
    """
    message_id, at, given = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not message_id or not at.isascii() or not at.isdecimal() or len(at) > 12:
        raise SignatureRefused("webhook-id or webhook-timestamp is missing or malformed")
    if abs(time.time() - int(at)) > tolerance:
        raise SignatureRefused(f"webhook-timestamp {at} is more than {tolerance:g} s from now")
    expected = [webhook_signature(secret, message_id, int(at), body) for secret in secrets]
    if not _one_fits(given.split(" "), expected):
        raise SignatureRefused("webhook-signature fits none of the secrets")
    return message_id


def verify_onceonly(
    headers: Mapping[str, str], body: bytes, secrets: Iterable[str], *, tolerance: float = TOLERANCE_SECONDS
) -> None:
    """Refuse a request that none of the secrets has signed. Whether it is a replay says the lease id in its body.

    Raises:
        SignatureRefused: It is not signed, by another algorithm, or long ago. An absent algorithm header means HMAC-SHA256.
    """
    if headers.get("x-onceonly-signature-alg", ALGORITHM).lower() != ALGORITHM:
        raise SignatureRefused(f"x-onceonly-signature-alg is not {ALGORITHM}")
    at = headers.get("x-onceonly-timestamp", "")
    if not at.isascii() or not at.isdecimal() or len(at) > 12 or abs(time.time() - int(at)) > tolerance:
        raise SignatureRefused("x-onceonly-timestamp is missing, malformed or too far from now")
    given = headers.get("x-onceonly-signature", "").lower()
    if not _one_fits([given], [onceonly_signature(secret, body) for secret in secrets]):
        raise SignatureRefused("x-onceonly-signature fits none of the secrets")


def _one_fits(given: Iterable[str], expected: Iterable[str]) -> bool:
    """Compared in constant time, all with all."""
    fits = [hmac.compare_digest(one.encode(), other.encode()) for one in given for other in expected]
    return any(fits)


def _webhook_key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise SignatureRefused(f"a Standard Webhooks secret is {PREFIX!r} and base64") from error
