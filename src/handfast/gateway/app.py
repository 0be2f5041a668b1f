"""`POST /callbacks/{operation}`: the signed result of work that a tool left `Pending`.

The body is `{"result": …}`, or `{"error": {"message": …, "code": …}}` if the work failed. The ledger takes the other side's word
once; a callback that is repeated is answered in the same way. Only then the run is woken, and finds the result there: who can
reach Temporal can wake it, too, and changes nothing by it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from handfast.contracts.effects import Outcome
from handfast.contracts.errors import ErrorCode, LedgerError, SignatureRefused, ToolError
from handfast.contracts.provenance import marks_of
from handfast.contracts.registry import Registry
from handfast.contracts.signing import OnceOnly, verify_onceonly, verify_webhook
from handfast.contracts.tool import Tool
from handfast.contracts.versions import version_numbers
from handfast.ledger import Ledger, Settlement
from handfast.ledger.late import OUTSIDE
from handfast.ledger.pending import Begun
from handfast.tools.credentials import Credentials, Wanted

MOST_BYTES = 5_000_000
Wake = Callable[[str, str], Awaitable[None]]
"""Tells a run, by its id, that somebody has a word on one of its operations."""
log = structlog.get_logger()


class Callback(BaseModel):
    """What the other side posts."""

    model_config = ConfigDict(extra="allow")

    result: Any = None
    error: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "Callback":
        if ("result" in self.model_fields_set) is ("error" in self.model_fields_set):
            msg = "give either result or error"
            raise ValueError(msg)
        return self


class _Refusal(Exception):
    def __init__(self, *, status: int, code: str, message: str, fields: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.fields = status, code, message, fields


def make_app(registry: Registry, ledger: Ledger, wake: Wake, credentials: Credentials) -> FastAPI:
    """The gateway's application for the tools of a registry."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        await credentials.close()
        await ledger.close()

    app = FastAPI(title="handfast gateway", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.post("/callbacks/{operation_id}")
    async def callback(operation_id: str, request: Request) -> JSONResponse:
        try:
            return JSONResponse(await _take(registry, ledger, wake, credentials, operation_id, request))
        except _Refusal as refusal:
            log.warning("callback refused", operation_id=operation_id, code=refusal.code, reason=refusal.message)
            told: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
            if refusal.fields:
                told["fields"] = refusal.fields
            return JSONResponse({"error": told}, refusal.status)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


async def _take(
    registry: Registry, ledger: Ledger, wake: Wake, credentials: Credentials, operation_id: str, request: Request
) -> dict[str, str]:
    body = await _body(request)
    try:
        begun = await ledger.find_operation(operation_id)
        tool = None if begun is None else _tool_of(registry, begun)
        if begun is None or tool is None or tool.callback is None:
            # The same word for each of them: who does not know the secret learns nothing.
            raise _Refusal(
                status=401, code="refused", message="no callback is expected here, or it is not signed as it must be"
            )
        await _verify(tool, begun.tenant, credentials, request, body)
        new = _settlement(tool, body, operation_id)
        settled = await ledger.settle(begun.run_id, operation_id, OUTSIDE, new)
    except LedgerError as error:
        raise _Refusal(status=503, code="unavailable", message="not taken yet, post it again later") from error
    outcome = settled.result.outcome
    log.info("callback taken", operation_id=operation_id, run_id=begun.run_id, outcome=outcome, first=settled.mine)
    try:
        await wake(begun.run_id, operation_id)
    except OSError as error:
        raise _Refusal(
            status=503, code="unavailable", message="taken, but the run sleeps: post it again later"
        ) from error
    return {"operation": operation_id, "outcome": outcome}


def _tool_of(registry: Registry, begun: Begun) -> Tool | None:
    versions = registry.tools.get(begun.tool)
    return versions.of_major(version_numbers(begun.version)[0]) if versions is not None and begun.version else None


async def _verify(tool: Tool, tenant: str, credentials: Credentials, request: Request, body: bytes) -> None:
    headers = {name.lower(): value for name, value in request.headers.items()}
    callback = tool.callback
    try:
        secrets = [await credentials.read(Wanted(callback.secret, tenant, tool.scope))] if callback else []
        verify = verify_onceonly if isinstance(callback, OnceOnly) else verify_webhook
        verify(headers, body, secrets)
    except SignatureRefused as error:
        log.warning("signature refused", tool=tool.name, reason=str(error))
        message = "no callback is expected here, or it is not signed as it must be"
        raise _Refusal(status=401, code="refused", message=message) from error
    except ToolError as error:
        log.error("callbacks can't be verified", tool=tool.name, reason=str(error), hint=error.hint)
        raise _Refusal(status=503, code="unavailable", message="not taken yet, post it again later") from error


def _settlement(tool: Tool, body: bytes, operation_id: str) -> Settlement:
    try:
        callback = Callback.model_validate_json(body)
        if callback.error is not None:
            told = {"code": ErrorCode.TOOL_FAILED, "message": "the work failed", **callback.error}
            content = {**told, "operation": operation_id}
            meta = {"callback": True, "code": str(told["code"]), **marks_of(tool, Outcome.FAILED, content)}
            return Settlement(outcome=Outcome.FAILED, content=content, meta=meta)
        result = tool.result_adapter.load(callback.result)
    except ValidationError as error:
        fields = {".".join(map(str, fault["loc"])) or "body": fault["msg"] for fault in error.errors(include_url=False)}
        message = f"it does not fit what {tool.name} promises"
        raise _Refusal(status=400, code="invalid_result", message=message, fields=fields) from error
    content = tool.result_adapter.store(result)
    meta = {"callback": True, **marks_of(tool, Outcome.SUCCEEDED, content)}
    return Settlement(outcome=Outcome.SUCCEEDED, content=content, meta=meta)


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise _Refusal(status=413, code="too_large", message=f"more than {MOST_BYTES} bytes")
    return body
