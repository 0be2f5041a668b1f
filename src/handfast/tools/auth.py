"""Signing in with what belongs to a call: an API key, or OAuth 2.0 client credentials with one refresh for all who wait."""

import asyncio
from collections import OrderedDict
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from handfast.contracts.credentials import Wanted
from handfast.contracts.http_fields import value_fault
from handfast.contracts.upstream import ApiKey, Auth, OAuth2
from handfast.tools.credentials import Credentials
from handfast.tools.token_endpoint import Client, Token, fetch_token
from handfast.tools.unsendable import unusable_key

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

    def __init__(self, name: str, auth: ApiKey, credentials: Credentials) -> None:
        self._name = name
        self._auth = auth
        self._credentials = credentials

    async def sign(self, headers: MutableMapping[str, str], holder: Holder) -> None:
        """Add the key, as it is now.

        Raises:
            ToolError: There is none, or none that a header can hold; nothing was sent.
        """
        key = (await self._credentials.read(Wanted(self._auth.secret, holder.tenant, holder.scope))).strip()
        if fault := value_fault(key) if key else "it holds nothing but spaces":
            raise unusable_key(self._name, self._auth.secret, fault)
        holder.seen.add(key)
        headers[self._auth.header] = f"{self._auth.prefix}{key}"

    def renewable(self, headers: MutableMapping[str, str]) -> bool:
        """Whether a key that was refused (401) can be replaced by a new one: it can't."""
        del headers
        return False


class _Place:
    """The token of one client, fetched when needed and shared by all calls of the process that may have it."""

    def __init__(self) -> None:
        self.one_at_a_time = asyncio.Lock()
        self.token: Token | None = None


class TokenSignIn:
    """Bearer tokens, one for each client and scope."""

    def __init__(self, name: str, auth: OAuth2, credentials: Credentials) -> None:
        self._name = name
        self._auth = auth
        self._credentials = credentials
        self._tokens: OrderedDict[Client, _Place] = OrderedDict()

    async def sign(self, headers: MutableMapping[str, str], holder: Holder) -> None:
        """Add the token; whoever comes while it is being fetched waits for that one.

        Raises:
            ToolError: There is none to be had; nothing was sent.
        """
        client = await self._client_of(holder)
        place = self._tokens.setdefault(client, _Place())
        self._tokens.move_to_end(client)
        while len(self._tokens) > MOST_TOKENS:
            self._tokens.popitem(last=False)
        async with place.one_at_a_time:
            token = place.token
            if token is None or token.is_due(self._auth.renew_before_seconds):
                place.token = None
                token = place.token = await fetch_token(self._name, self._auth, client)
        holder.seen.update({client.secret, token.value})
        headers["Authorization"] = f"Bearer {token.value}"

    def renewable(self, headers: MutableMapping[str, str]) -> bool:
        """Forget the token that was refused (401), unless it was renewed since: the next `sign` fetches a new one."""
        sent = headers.get("Authorization", "")
        for place in self._tokens.values():
            if place.token is not None and sent == f"Bearer {place.token.value}":
                place.token = None
        return True

    async def _client_of(self, holder: Holder) -> Client:
        auth, whose = self._auth, (holder.tenant, holder.scope)
        client_id = auth.client_id or await self._credentials.read(Wanted(auth.client_id_secret, *whose))
        secret = await self._credentials.read(Wanted(auth.secret, *whose))
        fitting = (asked for glob, asked in auth.scopes.items() if fnmatchcase(holder.scope, glob))
        return Client(client_id, secret, next(fitting, auth.scope))


SignIn = KeySignIn | TokenSignIn


def sign_in(name: str, auth: Auth | None, credentials: Credentials) -> SignIn | None:
    """How to sign in, as the settings say."""
    if auth is None:
        return None
    return KeySignIn(name, auth, credentials) if isinstance(auth, ApiKey) else TokenSignIn(name, auth, credentials)
