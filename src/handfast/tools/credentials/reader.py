"""The secrets of a worker's calls, wherever they are kept."""

import importlib
from collections.abc import Mapping

from handfast.contracts.credentials import EnvironmentSecrets, FileSecrets, OwnSecrets, Secrets, VaultSecrets, Wanted
from handfast.contracts.errors import ErrorCode, SettingsError, ToolError
from handfast.contracts.tool import Tool
from handfast.tools.credentials.local import FromEnvironment, FromFiles
from handfast.tools.credentials.provider import SecretsProvider

Given = Mapping[str, str | ToolError]
"""What a call was given, by name; where it could not be, why."""


class Credentials:
    """The secrets of the calls of one worker."""

    def __init__(self, settings: Secrets | None = None) -> None:
        self._provider = _provider(settings or EnvironmentSecrets())

    async def read(self, wanted: Wanted) -> str:
        """One secret, without line breaks around it: they come from how it was written down, and no header could hold them.

        Raises:
            ToolError: There is none, or its place does not answer; nothing of the call has happened.
        """
        try:
            value = (await self._provider.read(wanted) or "").strip("\r\n")
        except ToolError:
            raise
        except Exception as error:  # noqa: BLE001 - a provider of somebody else's may raise anything, and its words may hold anything
            message = f"the secrets of this worker can't be read ({type(error).__name__})"
            hint = "an operator must look at HANDFAST_SECRETS"
            raise ToolError(message, code=ErrorCode.UNAVAILABLE, hint=hint, retryable=True, happened="no") from None
        if not value:
            whose = f" for tenant {wanted.tenant!r}" if wanted.tenant else ""
            raise ToolError(
                f"this worker has no secret {wanted.name!r}{whose}", hint=self._provider.missing(wanted), happened="no"
            )
        return value

    async def given_to(self, tool: Tool, tenant: str) -> Given:
        """What a call gets of what its contract names, read when it begins."""
        given: dict[str, str | ToolError] = {}
        for name in tool.secrets:
            try:
                given[name] = await self.read(Wanted(name, tenant, tool.scope))
            except ToolError as error:
                given[name] = error
        return given

    async def close(self) -> None:
        """Let go of every connection."""
        await self._provider.close()


def _provider(settings: Secrets) -> SecretsProvider:
    match settings:
        case EnvironmentSecrets():
            return FromEnvironment(settings)
        case FileSecrets():
            return FromFiles(settings)
        case VaultSecrets():
            from handfast.tools.credentials.vault import FromVault

            return FromVault(settings)
        case OwnSecrets():
            return _own(settings.provider)


def _own(name: str) -> SecretsProvider:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        msg = f"HANDFAST_SECRETS: provider {name!r} can't be imported ({error}): write module:name"
        raise SettingsError(msg) from error
    made = found() if callable(found) and not isinstance(found, SecretsProvider) else found
    if not isinstance(made, SecretsProvider):
        msg = (
            f"HANDFAST_SECRETS: {name!r} is a {type(made).__name__}, not a SecretsProvider (handfast.tools.credentials)"
        )
        raise SettingsError(msg)
    return made
