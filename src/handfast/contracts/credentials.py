"""Where a worker finds the secrets of its calls, each by the tenant and the scope of the call."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator

from handfast.contracts.messages import Frozen
from handfast.contracts.upstream import has_host

SECRET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
RESERVED_IN_SECRETS = ("__TENANT_", "__SCOPE_")
"""What marks a variable as the secret of a tenant, or of a scope: no name of a secret may hold it."""


def is_secret_name(name: str) -> bool:
    """Whether every place for secrets can have one of that name, for all tenants and scopes."""
    marked = any(mark in name.upper() for mark in RESERVED_IN_SECRETS)
    return SECRET_NAME.fullmatch(name) is not None and not marked


class Wanted(NamedTuple):
    """A secret that a call wants."""

    name: str
    tenant: str = ""
    """Of the call; empty for what the engine itself does, such as telling people."""
    scope: str = ""
    """Of the call's contract."""


class Place(NamedTuple):
    """Where a secret may be: a tenant's own or for all, for one scope or for all of them."""

    tenant: str = ""
    scope: str = ""


def places_of(wanted: Wanted, *, shared: bool) -> Iterator[Place]:
    """Where to look, in this order: the tenant's own before what is `shared`, the whole scope before its beginnings.

    `payments:refund:write` is looked for as that, as `payments:refund`, as `payments`, and for every scope.
    """
    steps = wanted.scope.split(":") if wanted.scope else []
    scopes = [":".join(steps[:count]) for count in range(len(steps), -1, -1)]
    for tenant in (wanted.tenant, "") if wanted.tenant and shared else (wanted.tenant,):
        yield from (Place(tenant, scope) for scope in scopes)


class _Secrets(Frozen):
    shared: bool = True
    """Calls of a tenant that has no secret of its own get the one for all. False: they get none."""


class EnvironmentSecrets(_Secrets):
    """Variables of the worker: `HANDFAST_SECRET_PAY`, with `__TENANT_ACME`, `__SCOPE_PAYMENTS_REFUND` or both, in this order.

    Only tenants of small letters, digits and single underscores can have variables of their own.
    """

    kind: Literal["environment"] = "environment"


class FileSecrets(_Secrets):
    """Files of a folder, as Docker and Kubernetes mount them.

    `NAME`, `scopes/SCOPE/NAME`, `tenants/TENANT/NAME` and `tenants/TENANT/scopes/SCOPE/NAME`, where the scope's colons are dots:
    `payments.refund`.
    """

    kind: Literal["files"] = "files"
    folder: Path


class VaultToken(Frozen):
    """A token that somebody else gets and renews, such as Vault's agent. It is read each time it is used."""

    kind: Literal["token"] = "token"
    file: Path | None = None
    variable: str = "VAULT_TOKEN"
    """Where it is if there is no file."""


class VaultAppRole(Frozen):
    """Signing in as an AppRole (`/v1/auth/MOUNT/login`)."""

    kind: Literal["approle"] = "approle"
    mount: str = "approle"
    role_id: str
    secret_id_file: Path | None = None
    secret_id_variable: str = "VAULT_SECRET_ID"  # noqa: S105 - the name of a variable
    """Where the secret id is if there is no file."""


class VaultKubernetes(Frozen):
    """Signing in with the pod's service account."""

    kind: Literal["kubernetes"] = "kubernetes"
    mount: str = "kubernetes"
    role: str
    token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


VaultAuth = Annotated[VaultToken | VaultAppRole | VaultKubernetes, Field(discriminator="kind")]


class VaultSecrets(_Secrets):
    """A KV secrets engine of HashiCorp Vault, or of OpenBao.

    Its secrets at `PATH/shared`, `PATH/shared/scopes/SCOPE`, `PATH/tenants/TENANT` and `PATH/tenants/TENANT/scopes/SCOPE` hold each
    secret under its name.

    Source: Vault HTTP API, "KV secrets engine" versions 1 and 2, and "AppRole" and "Kubernetes auth method".
    """

    kind: Literal["vault"] = "vault"
    address: str
    """`https://HOST:8200`."""
    auth: VaultAuth = VaultToken()
    mount: str = "secret"
    path: str = "handfast"
    version: Literal[1, 2] = 2
    """Of the KV engine."""
    namespace: str = ""
    """Of Vault Enterprise."""
    keep_seconds: float = Field(default=60.0, ge=0)
    """For how long what was read is gone by: a rotated secret counts after that."""
    timeout_seconds: float = Field(default=5.0, gt=0)
    ca_file: Path | None = None
    """The certificate authority of its certificate, if it is one of your own."""

    @field_validator("address")
    @classmethod
    def _has_host(cls, address: str) -> str:
        if not has_host(address):
            msg = f"address {address!r}: write https://HOST:PORT"
            raise ValueError(msg)
        return address.rstrip("/")


class OwnSecrets(Frozen):
    """A `SecretsProvider` of yours."""

    kind: Literal["own"] = "own"
    provider: str = Field(pattern=r"^[\w.]+:\w+$")
    """`module:name` of the provider, or of a function without arguments that makes it."""


Secrets = Annotated[EnvironmentSecrets | FileSecrets | VaultSecrets | OwnSecrets, Field(discriminator="kind")]
