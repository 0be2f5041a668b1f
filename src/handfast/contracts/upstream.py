"""An HTTP service that tools call by name: where it is, how to sign in, how far its answers are trusted."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from handfast.contracts.circuit import CircuitPolicy
from handfast.contracts.http_fields import name_fault, value_fault
from handfast.contracts.messages import Frozen


def has_host(url: str) -> bool:
    """Whether it is an HTTP URL that names a host."""
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def require_field(name: str, value: str) -> None:
    """Refuse what can't be sent as an HTTP field.

    Raises:
        ValueError: Why it can't.
    """
    if fault := name_fault(name):
        raise ValueError(fault)
    if fault := value_fault(value):
        msg = f"the value of header {name!r} can't be sent: {fault}"
        raise ValueError(msg)


class ApiKey(Frozen):
    """A key that is sent with every request."""

    kind: Literal["api_key"] = "api_key"
    secret: str
    """The name of a secret, as for `ctx.secret`: of the call's tenant and scope, read at each request, so that it can be rotated."""
    header: str = "Authorization"
    prefix: str = "Bearer "

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        require_field(self.header, self.prefix.rstrip(" "))
        return self


class OAuth2(Frozen):
    """OAuth 2.0 client credentials (RFC 6749, 4.4)."""

    kind: Literal["oauth2"] = "oauth2"
    token_url: str
    client_id: str = ""
    client_id_secret: str = ""
    """Instead: the name of a secret that holds it, where tenants have clients of their own."""
    secret: str
    """The name of the secret that holds the client's secret: of the call's tenant and scope."""
    scope: str = ""
    """What a token is asked for, such as `refunds:write`."""
    scopes: dict[str, str] = Field(default_factory=dict)
    """By glob over the scopes of contracts: what is asked for instead, for a call of such a scope. The first that fits counts."""
    audience: str = ""
    """Sent with the token request, where the service asks for it."""
    renew_before_seconds: float = Field(default=60.0, ge=0)
    """A token is renewed so long before it expires."""

    @model_validator(mode="after")
    def _one_client(self) -> Self:
        if bool(self.client_id) == bool(self.client_id_secret):
            msg = "oauth2 takes client_id, or client_id_secret: give one of them"
            raise ValueError(msg)
        return self


Auth = Annotated[ApiKey | OAuth2, Field(discriminator="kind")]


class Upstream(Frozen):
    """One HTTP service that tools call by name."""

    base_url: str
    """`https://HOST/PATH`. Its host is trusted, wherever it is; every other one must be named in `domains`."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Sent with every request to the base URL's own origin, and to no other."""
    auth: Auth | None = None
    """How to sign in, at the base URL's own origin."""
    version: str = ""
    """The version of its API that the tools were written for; sent with every request."""
    version_header: str = "Api-Version"
    openapi: str = "/openapi.json"
    """Where its OpenAPI document is, for `handfast tools probe`: a path of its host, or a URL."""
    domains: tuple[str, ...] = ()
    """Further hosts that absolute URLs and redirects may lead to: `files.example.com`, `*.example.com` or `*`."""
    private_addresses: bool = False
    """Hosts in `domains` may resolve to addresses that are not public."""
    timeout_seconds: float = Field(default=30.0, gt=0)
    connect_seconds: float = Field(default=5.0, gt=0)
    most_bytes: int = Field(default=10_000_000, gt=0)
    """Of one answer, unpacked. A longer one is refused while it arrives, so that it can't fill the worker's memory."""
    most_redirects: int = Field(default=5, ge=0)
    circuit: CircuitPolicy | None = CircuitPolicy()
    """When calls are answered at once because the service is down; None for never."""

    @field_validator("base_url")
    @classmethod
    def _has_host(cls, url: str) -> str:
        if not has_host(url):
            msg = f"base_url {url!r}: write https://HOST or https://HOST/PATH"
            raise ValueError(msg)
        return url

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        for name, value in (*self.headers.items(), (self.version_header, self.version)):
            require_field(name, value)
        return self

    @model_validator(mode="after")
    def _one_way_to_sign_in(self) -> Self:
        given = {name.lower() for name in self.headers}
        header = "Authorization" if isinstance(self.auth, OAuth2) else self.auth.header if self.auth else ""
        if header.lower() in given:
            msg = f"headers holds {header!r}, which auth sends too: leave one of them out"
            raise ValueError(msg)
        return self
