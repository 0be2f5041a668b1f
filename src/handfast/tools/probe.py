"""Holding what tools ask of their upstreams against the upstreams' own OpenAPI documents."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from handfast.contracts.errors import ToolError
from handfast.contracts.lint import Finding
from handfast.contracts.openapi import Document, misfits
from handfast.contracts.tool import Tool
from handfast.contracts.upstream import Upstream
from handfast.tools.credentials import Credentials
from handfast.tools.http import Upstreams
from handfast.tools.sends import Sends


async def probe(
    tools: Iterable[Tool],
    upstreams: Mapping[str, Upstream],
    documents: Mapping[str, Document] | None = None,
    credentials: Credentials | None = None,
) -> list[Finding]:
    """What tools ask that their upstreams' documents don't offer, and what they expect and are not promised.

    Args:
        tools: Those without `endpoints=` are passed over.
        upstreams: By name, as in the worker's settings; those that a tool brings along count, too.
        documents: OpenAPI 3 documents by upstream. The others are fetched from `Upstream.openapi`.
        credentials: What upstreams are signed in at with; the environment's unless given.
    """
    chosen = [tool for tool in tools if tool.endpoints]
    known = {**{name: one for tool in chosen for name, one in tool.upstreams.items()}, **upstreams}
    lines = Upstreams(known, credentials=credentials)
    findings: list[Finding] = []
    try:
        for name in sorted({endpoint.upstream for tool in chosen for endpoint in tool.endpoints}):
            if name not in known:
                message = "no settings say where it is (HANDFAST_UPSTREAMS)"
                findings.append(Finding(subject=f"upstream {name}", message=message))
                continue
            try:
                document = (documents or {}).get(name) or await _fetch(lines, name, known)
            except ToolError as error:
                findings.append(Finding(subject=f"upstream {name}", message=str(error)))
                continue
            findings += _findings(chosen, name, known[name], document)
    finally:
        await lines.close()
    return findings


def _findings(tools: Iterable[Tool], name: str, upstream: Upstream, document: Document) -> list[Finding]:
    try:
        return [
            Finding(subject=f"tool {tool.name}", message=fault)
            for tool in tools
            for fault in misfits(tool, name, upstream, document)
        ]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        message = f"its document is not what OpenAPI says ({type(error).__name__}: {error})"
        return [Finding(subject=f"upstream {name}", message=message)]


async def _fetch(lines: Upstreams, name: str, upstreams: Mapping[str, Upstream]) -> Document:
    """An upstream's document, signed in as for any request.

    Raises:
        ToolError: There is none, or it is none.
    """
    async with lines.client(name, Sends("")) as client:
        where = upstreams[name].openapi
        # A path is one of the host, wherever the base URL leads.
        url = httpx.URL(upstreams[name].base_url).join(where) if where.startswith("/") else where
        reply = await client.get(url)
    try:
        document: Any = json.loads(reply.content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        msg = f"{reply.url} is no OpenAPI 3 document in JSON: say in the upstream's settings where it is (openapi)"
        raise ToolError(msg)
    return document  # pyright: ignore[reportUnknownVariableType]
