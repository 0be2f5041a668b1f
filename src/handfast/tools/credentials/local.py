"""Secrets of the worker's machine: its environment, or files that its platform mounts."""

import asyncio
import os
import re
from pathlib import Path

from typing_extensions import override

from handfast.contracts.credentials import (
    RESERVED_IN_SECRETS,
    EnvironmentSecrets,
    FileSecrets,
    Place,
    Wanted,
    places_of,
)
from handfast.contracts.errors import ErrorCode, ToolError
from handfast.tools.credentials.paths import steps_of
from handfast.tools.credentials.provider import SecretsProvider

PLAIN_TENANT = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
"""Tenants that a variable can name: no two of them have the same variable."""
MOST_BYTES = 65_536


class FromEnvironment(SecretsProvider):
    """Variables of the worker, read when they are used."""

    def __init__(self, settings: EnvironmentSecrets) -> None:
        self._shared = settings.shared

    @override
    async def read(self, wanted: Wanted) -> str | None:
        if any(mark in wanted.name.upper() for mark in RESERVED_IN_SECRETS):
            # It would be the secret of a tenant or a scope that the call may not have.
            return None
        for place in places_of(wanted, shared=self._shared):
            variable = variable_of(wanted.name, place)
            if variable and (value := os.environ.get(variable, "").strip("\r\n")):
                return value
        return None

    @override
    def missing(self, wanted: Wanted) -> str:
        place = Place() if self._shared else Place(wanted.tenant)
        variable = variable_of(wanted.name, place)
        if not variable:
            return (
                f"no variable can name tenant {wanted.tenant!r}: an operator must keep its secrets in files or in Vault"
            )
        return f"an operator must set {variable} for the workers that serve this tool"


def variable_of(name: str, place: Place) -> str:
    """The variable of a secret; empty if none can name the tenant."""
    if place.tenant and not PLAIN_TENANT.fullmatch(place.tenant):
        return ""
    tenant = f"{RESERVED_IN_SECRETS[0]}{place.tenant}" if place.tenant else ""
    scope = f"{RESERVED_IN_SECRETS[1]}{re.sub('[^a-z0-9]', '_', place.scope.lower())}" if place.scope else ""
    return f"HANDFAST_SECRET_{name}{tenant}{scope}".upper()


class FromFiles(SecretsProvider):
    """Files of a folder, read when they are used."""

    def __init__(self, settings: FileSecrets) -> None:
        self._folder = settings.folder
        self._shared = settings.shared

    @override
    async def read(self, wanted: Wanted) -> str | None:
        return await asyncio.to_thread(self._read, wanted)

    def _read(self, wanted: Wanted) -> str | None:
        for place in places_of(wanted, shared=self._shared):
            path = self._path(wanted.name, place)
            if path is not None and (value := _read_file(path)) is not None:
                return value
        return None

    @override
    def missing(self, wanted: Wanted) -> str:
        path = self._path(wanted.name, Place() if self._shared else Place(wanted.tenant))
        return f"an operator must mount {path} for the workers that serve this tool"

    def _path(self, name: str, place: Place) -> Path | None:
        steps = steps_of(place, name=name) if name else None
        return None if steps is None else self._folder.joinpath(*steps)


def _read_file(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode().strip("\r\n") or None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        message = f"a secret of this worker can't be read ({why})"
        hint = f"an operator must look at {path}"
        raise ToolError(message, code=ErrorCode.UNAVAILABLE, hint=hint, retryable=True, happened="no") from None
