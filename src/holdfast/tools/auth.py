"""Signing in at an upstream: an API key, or OAuth 2.0 client credentials with one refresh for all who wait."""

import asyncio
import os
from typing import TYPE_CHECKING, Any

from holdfast.contracts.errors import ErrorCode, ToolError
from holdfast.contracts.upstream import ApiKey, Auth, OAuth2

if TYPE_CHECKING:
    from collections.abc import MutableMapping


def read_secret(name: str) -> str:
    """A secret of this worker's environment, `HOLDFAST_SECRET_<NAME>`.

    Raises:
        ToolError: It has none of that name.
    """
    variable = f"HOLDFAST_SECRET_{name.upper()}"
    value = os.environ.get(variable, "")
    if not value:
        hint = f"an operator must set {variable} for the workers that serve this tool"
        raise ToolError(f"this worker has no secret {name!r}", hint=hint, happened="no")
    return value


class KeySignIn:
    """An API key."""

    def __init__(self, auth: ApiKey) -> None:
        self._auth = auth

    async def sign(self, headers: "MutableMapping[str, str]") -> None:
        """Add the key, as it stands in the environment now.

        Raises:
            ToolError: There is none; nothing was sent.
        """
        headers[self._auth.header] = f"{self._auth.prefix}{read_secret(self._auth.secret)}"

    def renewable(self, headers: "MutableMapping[str, str]") -> bool:
        """Whether a key that was refused (401) can be replaced by a new one: it can't."""
        del headers
        return False

    async def close(self) -> None:
        """There is nothing to let go of."""


class TokenSignIn:
    """A bearer token, fetched when needed and shared by all calls of the process."""

    def __init__(self, name: str, auth: OAuth2) -> None:
        self._name = name
        self._auth = auth
        self._one_at_a_time = asyncio.Lock()
        self._token: Any = None
        self._client: Any = None

    async def sign(self, headers: "MutableMapping[str, str]") -> None:
        """Add the token; whoever comes while it is being fetched waits for that one.

        Raises:
            ToolError: There is none to be had; nothing was sent.
        """
        async with self._one_at_a_time:
            if self._token is None or self._token.is_expired(leeway=self._leeway()):
                self._token = await self._fetch()
            headers["Authorization"] = f"Bearer {self._token['access_token']}"

    def renewable(self, headers: "MutableMapping[str, str]") -> bool:
        """Forget the token that was refused (401), unless it was renewed since: the next `sign` fetches a new one."""
        if self._token is not None and headers.get("Authorization") == f"Bearer {self._token['access_token']}":
            self._token = None
        return True

    def _leeway(self) -> float:
        """A token that lives for less than two leeways is used for half its life."""
        return min(self._auth.renew_before_seconds, float(self._token.get("expires_in") or 3600) / 2)

    async def close(self) -> None:
        """Close the connections to the token endpoint."""
        if self._client is not None:
            await self._client.aclose()

    async def _fetch(self) -> Any:
        # Half a second to import, which only workers with such an upstream pay.
        try:
            import httpx2
            from authlib.integrations.base_client import OAuthError
            from authlib.integrations.httpx_client import AsyncOAuth2Client
        except ImportError as error:
            message = f"{self._name} signs in with OAuth 2.0, which this worker lacks"
            hint = "an operator must install holdfast[oauth] on the workers"
            raise ToolError(message, hint=hint, happened="no") from error
        secret = read_secret(self._auth.secret)
        if self._client is None or self._client.client_secret != secret:
            await self.close()
            self._client = AsyncOAuth2Client(self._auth.client_id, secret, scope=self._auth.scope or None, timeout=10.0)
        more = {"audience": self._auth.audience} if self._auth.audience else {}
        try:
            return await self._client.fetch_token(self._auth.token_url, grant_type="client_credentials", **more)
        except OAuthError as error:
            # Its words may hold what was sent; its code does not.
            message = f"{self._name} refused this worker's client credentials ({error.error or 'no reason given'})"
            hint = "an operator must look at the client id, the secret and the scope of the upstream"
            code = ErrorCode.AUTHENTICATION_FAILED
            raise ToolError(message, code=code, hint=hint, happened="no") from None
        except (httpx2.HTTPError, ValueError, KeyError) as error:
            message = f"the token endpoint of {self._name} does not answer ({type(error).__name__})"
            raise ToolError(message, code=ErrorCode.UNAVAILABLE, retryable=True, happened="no") from None


SignIn = KeySignIn | TokenSignIn


def sign_in(name: str, auth: Auth | None) -> SignIn | None:
    """How to sign in, as the settings say."""
    if auth is None:
        return None
    return KeySignIn(auth) if isinstance(auth, ApiKey) else TokenSignIn(name, auth)
