"""Which Temporal server Handfast needs, and which one there is."""

import re
import subprocess
from functools import lru_cache

import structlog
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError

from handfast.contracts.errors import EngineUnavailable

MIN_SERVER = (1, 31)
"""Older ones never move a run to the newest version of a versioned deployment, and say nothing of it."""
WHY = "older ones never move runs to a new version of a worker deployment"
VERSION_SECONDS = 10.0
OF_SERVER = re.compile(r"[Ss]erver (\d+)\.(\d+)(?:\.\d+)?")
OF_ANSWER = re.compile(r"v?(\d+)\.(\d+)")
log = structlog.get_logger()


def told(version: tuple[int, int]) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))


async def require_server_version(client: Client, address: str) -> None:
    """Refuse a server that is too old. One that does not say which it is counts as new enough, and the log says so.

    Raises:
        EngineUnavailable: It is too old, or does not answer.
    """
    try:
        answer = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    except RPCError as error:
        msg = f"the Temporal server at {address} does not say which version it is: {error.message}"
        raise EngineUnavailable(msg) from error
    found = OF_ANSWER.match(answer.server_version)
    if found is None:
        log.warning("the server's version can't be read", found=answer.server_version, needed=told(MIN_SERVER))
    elif (int(found[1]), int(found[2])) < MIN_SERVER:
        msg = (
            f"the Temporal server at {address} is version {answer.server_version}, and Handfast needs {told(MIN_SERVER)} "
            f"or newer: {WHY}. Upgrade the server, one minor version after the other"
        )
        raise EngineUnavailable(msg)


@lru_cache(maxsize=8)
def server_of(binary: str) -> tuple[int, int] | None:
    """The version of the server within a `temporal` binary; None if it does not tell."""
    try:
        ran = subprocess.run(  # noqa: S603 - the program that is about to be started as the engine
            [binary, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = OF_SERVER.search(ran.stdout)
    return (int(found[1]), int(found[2])) if found else None


def is_adequate(binary: str) -> bool:
    """Whether a `temporal` binary has a server that is new enough."""
    found = server_of(binary)
    return found is not None and found >= MIN_SERVER


def of_binary(binary: str) -> str:
    """What is said of a `temporal` binary that is not taken."""
    found = server_of(binary)
    return f"{binary} has {f'server {told(found)}' if found else 'a server whose version it does not tell'}"
