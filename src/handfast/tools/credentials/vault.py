"""Secrets in HashiCorp Vault, or OpenBao.

Source: Vault HTTP API: `GET /v1/MOUNT/data/PATH` (KV version 2) or `/v1/MOUNT/PATH` (version 1) with `X-Vault-Token`;
`POST /v1/auth/MOUNT/login` gives `auth.client_token` for `auth.lease_duration` seconds; 307 names the active node.
"""

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import httpx
from typing_extensions import override

from handfast.contracts.credentials import (
    Place,
    VaultAppRole,
    VaultKubernetes,
    VaultSecrets,
    VaultToken,
    Wanted,
    places_of,
)
from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.http_fields import value_fault
from handfast.contracts.waits import lifetime_seconds
from handfast.tools.credentials.paths import steps_of
from handfast.tools.credentials.provider import SecretsProvider

MOST_PLACES = 2_000
"""What one process keeps; those not used longest go first."""
REDIRECT, REFUSED, NOT_THERE = 307, 403, 404
LIFETIME_SECONDS = 3600.0
"""Of a token whose answer does not say how long it lives."""
RENEW_AT = 0.8
"""Of a token's life."""
Found = Mapping[str, Any]
_NOTHING: Found = {}


class FromVault(SecretsProvider):
    """A KV secrets engine. What was read is kept for a while, also that there is nothing."""

    def __init__(self, settings: VaultSecrets) -> None:
        self._settings = settings
        self._client: httpx.AsyncClient | None = None
        self._tokens = _Tokens(settings, self._send)
        self._kept: OrderedDict[Place, tuple[float, Found]] = OrderedDict()
        self._being_read: WeakValueDictionary[Place, asyncio.Lock] = WeakValueDictionary()

    @override
    async def read(self, wanted: Wanted) -> str | None:
        for place in places_of(wanted, shared=self._settings.shared):
            value = (await self._at(place)).get(wanted.name)
            if value is not None and not isinstance(value, str):
                message = f"secret {wanted.name!r} is no text in Vault"
                raise ToolError(message, hint=f"an operator must correct it at {self._path(place)}", happened="no")
            if value:
                return value
        return None

    @override
    def missing(self, wanted: Wanted) -> str:
        path = self._path(Place() if self._settings.shared else Place(wanted.tenant))
        return f"an operator must add {wanted.name!r} to {self._settings.mount}/{path} in Vault, and let this worker read it"

    @override
    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _at(self, place: Place) -> Found:
        """All secrets of a place; whoever wants them while they are being read waits for that."""
        async with self._being_read.setdefault(place, asyncio.Lock()):
            until, found = self._kept.get(place, (0.0, _NOTHING))
            if time.monotonic() >= until:
                found = await self._fetch(place)
                self._kept[place] = (time.monotonic() + self._settings.keep_seconds, found)
                while len(self._kept) > MOST_PLACES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(place)
            return found

    async def _fetch(self, place: Place) -> Found:
        path = self._path(place)
        if path is None:
            return _NOTHING
        inside = "/data" if self._settings.version == 2 else ""
        reply = await self._ask(f"/v1/{self._settings.mount}{inside}/{path}")
        if reply.status_code in {NOT_THERE, REFUSED}:
            # Where this worker may not look there is nothing for it.
            return _NOTHING
        _require_success(reply)
        try:
            data = reply.json()["data"]
            found = data["data"] if self._settings.version == 2 else data
            return dict(found or {})
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _unreadable(
                f"answered for {path} with what is no KV secret of version {self._settings.version}"
            ) from None

    def _path(self, place: Place) -> str | None:
        """Where the secrets of a place are; None if no path can name it."""
        steps = steps_of(place, shared="shared")
        return None if steps is None else "/".join([self._settings.path.strip("/"), *steps])

    async def _ask(self, path: str) -> httpx.Response:
        """Read with the token there is, and once more with a new one if that no longer counts."""
        token, fresh = await self._tokens.get()
        reply = await self._send("GET", path, token=token)
        if reply.status_code == REFUSED and not fresh:
            token, fresh = await self._tokens.renewed(token)
            if fresh:
                reply = await self._send("GET", path, token=token)
        return reply

    async def _send(self, method: str, path: str, *, token: str = "", body: Any = None) -> httpx.Response:
        headers = {"X-Vault-Request": "true"}
        if token:
            headers["X-Vault-Token"] = token
        if self._settings.namespace:
            headers["X-Vault-Namespace"] = self._settings.namespace
        if self._client is None:
            verify = httpx.create_ssl_context(verify=str(self._settings.ca_file) if self._settings.ca_file else True)
            self._client = httpx.AsyncClient(timeout=self._settings.timeout_seconds, verify=verify)
        url = self._settings.address + path
        try:
            reply = await self._client.request(method, url, headers=headers, json=body)
            if reply.status_code == REDIRECT and (active := reply.headers.get("location", "")):
                # A standby node names the active one. The token goes along, but never from https to http.
                target = httpx.URL(url).join(active)
                if target.scheme == httpx.URL(url).scheme:
                    reply = await self._client.request(method, target, headers=headers, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreadable(f"does not answer ({type(error).__name__})") from None
        return reply


class _Tokens:
    """The token that the worker reads with."""

    def __init__(self, settings: VaultSecrets, send: Any) -> None:
        self._auth = settings.auth
        self._send = send
        self._one_at_a_time = asyncio.Lock()
        self._token = ""
        self._until = 0.0

    async def get(self) -> tuple[str, bool]:
        """The token, and whether it was made just now."""
        if isinstance(self._auth, VaultToken):
            return _of_operator("token", self._auth.file, self._auth.variable), True
        async with self._one_at_a_time:
            if self._token and time.monotonic() < self._until:
                return self._token, False
            return await self._sign_in(self._auth), True

    async def renewed(self, refused: str) -> tuple[str, bool]:
        """Another one in the place of one that was refused; whoever comes second gets the same."""
        if isinstance(self._auth, VaultToken):
            return refused, False
        async with self._one_at_a_time:
            if self._token != refused:
                return self._token, True
            return await self._sign_in(self._auth), True

    async def _sign_in(self, auth: VaultAppRole | VaultKubernetes) -> str:
        if isinstance(auth, VaultAppRole):
            secret_id = _of_operator("secret id", auth.secret_id_file, auth.secret_id_variable)
            body = {"role_id": auth.role_id, "secret_id": secret_id}
        else:
            body = {"role": auth.role, "jwt": _of_operator("service account's token", auth.token_file, "")}
        reply = await self._send("POST", f"/v1/auth/{auth.mount}/login", body=body)
        if reply.status_code in {400, REFUSED}:
            message = f"Vault refused this worker's {auth.kind} sign-in"
            hint = "an operator must look at the role, and at the secret id or the service account"
            raise ToolError(message, code=ErrorCode.AUTHENTICATION_FAILED, hint=hint, happened="no")
        _require_success(reply)
        try:
            told = reply.json()["auth"]
            token, lasts = told["client_token"], lifetime_seconds(told.get("lease_duration"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _unreadable("answered a sign-in with no token") from None
        if not isinstance(token, str) or not token or value_fault(token):
            raise _unreadable("answered a sign-in with a token that no header can hold")
        # A root token's lease is 0: it does not end.
        self._token, self._until = token, time.monotonic() + (lasts or LIFETIME_SECONDS) * RENEW_AT
        return token


def _of_operator(what: str, file: Path | None, variable: str) -> str:
    """What an operator has given this worker, so that it can sign in at Vault."""
    try:
        value = (file.read_text() if file else os.environ.get(variable, "")).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        message = f"this worker's {what} for Vault can't be read ({why})"
        raise ToolError(message, hint=f"an operator must look at {file}", happened="no") from None
    if not value:
        raise ToolError(
            f"this worker has no {what} for Vault", hint=f"an operator must set {file or variable}", happened="no"
        )
    if fault := value_fault(value):
        message, hint = (
            f"this worker's {what} for Vault can't be sent: {fault}",
            f"an operator must correct {file or variable}",
        )
        raise ToolError(message, code=ErrorCode.AUTHENTICATION_FAILED, hint=hint, happened="no")
    return value


def _require_success(reply: httpx.Response) -> None:
    if not reply.is_success:
        raise _unreadable(f"answered {reply.status_code}")


def _unreadable(why: str) -> ToolError:
    hint = "nothing was done; if it stays so, an operator must look at HANDFAST_SECRETS and at Vault"
    return ToolError(f"Vault {why}", code=ErrorCode.UNAVAILABLE, hint=hint, retryable=True, happened="no")
