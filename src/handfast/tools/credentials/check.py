"""Whether the secrets are there that calls of a tenant would want; never what they are."""

from collections.abc import Iterable, Mapping

from handfast.contracts.credentials import Wanted
from handfast.contracts.errors import ToolError
from handfast.contracts.lint import Finding
from handfast.contracts.tool import Tool
from handfast.contracts.upstream import OAuth2, Upstream
from handfast.tools.credentials.reader import Credentials


async def check_secrets(
    tools: Iterable[Tool], upstreams: Mapping[str, Upstream], credentials: Credentials, tenant: str
) -> tuple[list[str], list[Finding]]:
    """Look for what contracts name, and what the upstreams that they name are signed in at with.

    Returns:
        What is there, and what is missing, with what to do.
    """
    there: list[str] = []
    missing: list[Finding] = []
    for tool in tools:
        for what, name in _wanted(tool, upstreams):
            try:
                await credentials.read(Wanted(name, tenant, tool.scope))
            except ToolError as error:
                missing.append(Finding(subject=f"tool {tool.name}", message=f"{what}: {error}; {error.hint}"))
            else:
                there.append(f"tool {tool.name}: {what} is there for tenant {tenant!r} and scope {tool.scope!r}")
    return there, missing


def _wanted(tool: Tool, upstreams: Mapping[str, Upstream]) -> Iterable[tuple[str, str]]:
    for name in tool.secrets:
        yield f"secret {name!r}", name
    for called in sorted({*tool.upstreams, *(endpoint.upstream for endpoint in tool.endpoints)}):
        upstream = upstreams.get(called) or tool.upstreams.get(called)
        auth = None if upstream is None else upstream.auth
        for name in () if auth is None else (auth.secret, auth.client_id_secret if isinstance(auth, OAuth2) else ""):
            if name:
                yield f"secret {name!r} of upstream {called}", name
