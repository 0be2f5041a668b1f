"""`http_tool`: a tool that lives elsewhere, registered by URL and called with a signed request."""

import hashlib
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, TypeAdapter

from handfast.contracts.context import ToolContext
from handfast.contracts.effects import Effect, Tier
from handfast.contracts.errors import ContractError, ErrorCode, SignatureRefused, ToolError
from handfast.contracts.identity import canonical_json
from handfast.contracts.plain import read_json
from handfast.contracts.signing import Dialect, OnceOnly, onceonly_headers, webhook_headers
from handfast.contracts.tool import Tool, tool
from handfast.contracts.upstream import Upstream


def http_tool(
    *,
    name: str,
    url: str,
    description: str,
    version: str,
    effect: Effect,
    tier: Tier,
    scope: str,
    arguments: type[BaseModel],
    result: Any = Any,
    sign: Dialect,
    timeout_ms: int | None = None,
    max_retries: int | None = None,
    **clauses: Any,
) -> Tool:
    """A tool whose work is done by a signed POST to a URL.

    Each attempt carries the same id (`webhook-id`, or `lease_id` in the body), which is the operation's, and the same
    `Idempotency-Key`. The answer is JSON, the result itself or `{"result": …}`.

    Args:
        name: What the model calls.
        url: Where it is called. A worker can point it elsewhere with an upstream of the tool's name in its settings.
        description: For the model.
        version: Of the contract.
        effect: What happens if it runs twice. `KEYED` fits an endpoint that goes by the id, as `handfast.tools.backend` does.
        tier: The harm it can do.
        scope: What it needs to be allowed to do.
        arguments: A pydantic model.
        result: The type of the result; any JSON unless said.
        sign: The dialect, and the name of the secret.
        timeout_ms: The OnceOnly format's word for `timeout`, in milliseconds.
        max_retries: Its word for `attempts`, which count the first one, too.
        clauses: Every other clause of a contract; see `Tool`.

    Raises:
        ContractError: With every fault of the contract.
    """
    clauses |= _in_our_words(name, clauses, timeout_ms, max_retries)
    parts = urlsplit(url)
    upstream = Upstream(base_url=f"{parts.scheme}://{parts.netloc}")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    adapter: TypeAdapter[Any] = TypeAdapter(result)

    async def call(args: BaseModel, ctx: ToolContext) -> Any:
        body, headers = _signed(sign, name, scope, args, ctx)
        headers |= {"content-type": "application/json", "accept": "application/json"}
        async with ctx.http(name) as client:
            response = await client.post(path or "/", content=body, headers=headers)
        return _result(adapter, name, response.content)

    call.__annotations__ = {"args": arguments, "ctx": ToolContext, "return": result}
    function: Callable[..., Awaitable[Any]] = call
    secrets = tuple({sign.secret, *clauses.pop("secrets", ())})
    return tool(
        name=name,
        description=description,
        version=version,
        effect=effect,
        tier=tier,
        scope=scope,
        secrets=secrets,
        upstreams={name: upstream, **clauses.pop("upstreams", {})},
        **clauses,
    )(function)


def _in_our_words(
    name: str, clauses: dict[str, Any], timeout_ms: int | None, max_retries: int | None
) -> dict[str, Any]:
    pairs = (("timeout_ms", timeout_ms, "timeout"), ("max_retries", max_retries, "attempts"))
    if twice := [f"{word} and {ours}" for word, given, ours in pairs if given is not None and ours in clauses]:
        raise ContractError(f"tool {name!r}", [f"{both}: give one of them" for both in twice])
    said: dict[str, Any] = {}
    if timeout_ms is not None:
        said["timeout"] = timedelta(milliseconds=timeout_ms)
    if max_retries is not None:
        said["attempts"] = max_retries + 1
    return said


def _signed(sign: Dialect, name: str, scope: str, args: BaseModel, ctx: ToolContext) -> tuple[bytes, dict[str, str]]:
    secret, given = ctx.secret(sign.secret), args.model_dump(mode="json")
    if isinstance(sign, OnceOnly):
        wanted = {
            "tool": name,
            "args": given,
            "agent_id": sign.agent_id,
            "ns": ctx.tenant,
            "key_hash": hashlib.sha256(ctx.idempotency_key.encode()).hexdigest(),
            "ts": int(time.time()),
            "lease_id": ctx.operation_id,
            "scope_id": scope,
        }
        body = canonical_json(wanted).encode()
        return body, onceonly_headers(sign, secret, name, body)
    wanted = {"tool": name, "args": given, "ns": ctx.tenant, "user": ctx.user, "operation": ctx.operation_id}
    body = canonical_json(wanted).encode()
    try:
        return body, webhook_headers(secret, ctx.operation_id, body)
    except SignatureRefused as error:
        raise ToolError(f"secret {sign.secret!r}: {error}", hint="an operator must correct it", happened="no") from None


def _result(adapter: TypeAdapter[Any], name: str, content: bytes) -> Any:
    """The result in an answer. What can't be read was carried out nevertheless."""
    try:
        answer: Any = read_json(content) if content else None
        inner = cast("dict[str, Any]", answer).get("result", answer) if isinstance(answer, dict) else answer
        return adapter.validate_json(canonical_json(inner))
    except (ValueError, RecursionError) as error:  # a ValidationError is a ValueError
        message = f"{name} answered with what its contract does not promise: {error}"
        raise ToolError(message, code=ErrorCode.RESULT_NOT_SERIALISABLE) from error
