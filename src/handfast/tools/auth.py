"""Signing in with what belongs to a call: an API key, or OAuth 2.0 client credentials with one refresh for all who wait."""

import asyncio
from collections import OrderedDict
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from handfast.contracts.credentials import Wanted
from handfast.contracts.errors import ErrorCode, ToolError
from handfast.contracts.upstream import ApiKey, Auth, OAuth2
from handfast.tools.credentials import Credentials

MOST_TOKENS = 500
"""Kept for one upstream; those not used longest go first."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Whose credentials a request carries."""

    tenant: str = ""
    scope: str = ""
    seen: set[str] = field(default_factory=set[str])
    """What it was given is added here, so that it can be kept out of what is written down."""


class KeySignIn:
    """An API key."""

    def __init__(self, auth: ApiKey, credentials: Credentials) -> None:
        self._auth = auth
        self._credentials = credentials

    async def sign(self, headers: MutableMapping[str, str], holder: Holder) -> None:
        """Add the key, as it is now.

        Raises:
            ToolError: There is none; nothing was sent.
        """
        key = await self._credentials.read(Wanted(self._auth.secret, holder.tenant, holder.scope))
        holder.seen.add(key)
        headers[self._auth.header] = f"{self._auth.prefix}{key}"

    def renewable(self, headers: MutableMapping[str, str]) -> bool:
        """Whether a key that was refused (401) can be replaced by a new one: it can't."""
        del headers
        return False


class _Client(NamedTuple):
    """For what a token is good."""

    client_id: str
    secret: str
    scope: str


class _Token:
    """One token, fetched when needed and shared by all calls of the process that may have it."""

    def __init__(self) -> None:
        self.one_at_a_time = asyncio.Lock()
        self.told: Any = None

    def renew_after(self, leeway: float) -> float:
        """A token that lives for less than two leeways is used for half its life."""
        return min(leeway, float(self.told.get("expires_in") or 3600) / 2)


class TokenSignIn:
    """Bearer tokens, one for each client and scope."""

    def __init__(self, name: str, auth: OAuth2, credentials: Credentials) -> None:
        self._name = name
        self._auth = auth
        self._credentials = credentials
        self._tokens: OrderedDict[_Client, _Token] = OrderedDict()

    async def sign(self, headers: MutableMapping[str, str], holder: Holder) -> None:
        """Add the token; whoever comes while it is being fetched waits for that one.

        Raises:
            ToolError: There is none to be had; nothing was sent.
        """
        client = await self._client_of(holder)
        token = self._tokens.setdefault(client, _Token())
        self._tokens.move_to_end(client)
        while len(self._tokens) > MOST_TOKENS:
            self._tokens.popitem(last=False)
        async with token.one_at_a_time:
            leeway = self._auth.renew_before_seconds
            if token.told is None or token.told.is_expired(leeway=token.renew_after(leeway)):
                token.told = await self._fetch(client)
            bearer = str(token.told["access_token"])
        holder.seen.update({client.secret, bearer})
        headers["Authorization"] = f"Bearer {bearer}"

    def renewable(self, headers: MutableMapping[str, str]) -> bool:
        """Forget the token that was refused (401), unless it was renewed since: the next `sign` fetches a new one."""
        sent = headers.get("Authorization", "")
        for token in self._tokens.values():
            if token.told is not None and sent == f"Bearer {token.told['access_token']}":
                token.told = None
        return True

    async def _client_of(self, holder: Holder) -> _Client:
        auth, whose = self._auth, (holder.tenant, holder.scope)
        client_id = auth.client_id or await self._credentials.read(Wanted(auth.client_id_secret, *whose))
        secret = await self._credentials.read(Wanted(auth.secret, *whose))
        fitting = (asked for glob, asked in auth.scopes.items() if fnmatchcase(holder.scope, glob))
        return _Client(client_id, secret, next(fitting, auth.scope))

    async def _fetch(self, client: _Client) -> Any:
        # Half a second to import, which only workers with such an upstream pay.
        try:
            import httpx2
            from authlib.integrations.base_client import OAuthError
            from authlib.integrations.httpx_client import AsyncOAuth2Client
        except ImportError as error:
            message = f"{self._name} signs in with OAuth 2.0, which this worker lacks"
            hint = "an operator must install handfast[oauth] on the workers"
            raise ToolError(message, hint=hint, happened="no") from error
        more = {"audience": self._auth.audience} if self._auth.audience else {}
        try:
            asking: Any = AsyncOAuth2Client(client.client_id, client.secret, scope=client.scope or None, timeout=10.0)
            async with asking:
                return await asking.fetch_token(self._auth.token_url, grant_type="client_credentials", **more)
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


def sign_in(name: str, auth: Auth | None, credentials: Credentials) -> SignIn | None:
    """How to sign in, as the settings say."""
    if auth is None:
        return None
    return KeySignIn(auth, credentials) if isinstance(auth, ApiKey) else TokenSignIn(name, auth, credentials)
