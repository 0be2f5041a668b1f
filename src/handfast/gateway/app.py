"""`POST /callbacks/{operation}`: the signed result of work that a tool left `Pending`.

The body is `{"result": …}`, or `{"error": {"message": …, "code": …}}` if the work failed; a field that is null counts as left out,
unless null is a result that the tool may have. The ledger takes the other side's word
once; a callback that is repeated is answered in the same way. Only then the run is woken, and finds the result there: who can
reach Temporal can wake it, too, and changes nothing by it.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from handfast.contracts.effects import Outcome
from handfast.contracts.errors import ErrorCode, LedgerError, SignatureRefused, ToolError
from handfast.contracts.provenance import marks_of
from handfast.contracts.registry import Registry
from handfast.contracts.signing import OnceOnly, verify_onceonly, verify_webhook
from handfast.contracts.strict_json import NotJson, read_object
from handfast.contracts.texts import clean_value
from handfast.contracts.tool import Tool
from handfast.contracts.versions import version_numbers
from handfast.ledger import Ledger, Settlement
from handfast.ledger.late import OUTSIDE
from handfast.ledger.pending import Begun
from handfast.logs import trace_of
from handfast.tools.credentials import Credentials, Wanted

MOST_BYTES = 5_000_000
OPERATION_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Nothing else is looked up: there are texts that a database can't even be asked for."""
MAX_CODE = 100
"""Characters of an error's code that are kept beside the outcome."""
Wake = Callable[[str, str], Awaitable[None]]
"""Tells a run, by its id, that somebody has a word on one of its operations."""
log = structlog.get_logger()


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
        begun = await ledger.find_operation(operation_id) if OPERATION_ID.fullmatch(operation_id) else None
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
        answer = clean_value(read_object(body))
    except NotJson as error:
        raise _misfit(str(error)) from None
    failure = answer.get("error")
    if failure is not None and answer.get("result") is not None:
        raise _misfit("the body holds both a result and an error: give one of them")
    if failure is not None:
        return _failed(tool, failure, operation_id)
    if answer.get("result") is None and not _takes_null(tool, answer):
        raise _misfit('the body holds no result: give {"result": …}, or {"error": {"message": …, "code": …}}')
    return _succeeded(tool, answer["result"])


def _takes_null(tool: Tool, answer: Mapping[str, Any]) -> bool:
    """Whether null is the result: it was given, and is one of the declared type. Anywhere else null counts as left out."""
    if "result" not in answer:
        return False
    try:
        tool.result_adapter.load(None)
    except Exception:  # noqa: BLE001 - the author's validators may raise anything
        return False
    return True


def _failed(tool: Tool, failure: object, operation_id: str) -> Settlement:
    """What an error in a callback settles. Null counts as left out in it, too."""
    fields = {} if not isinstance(failure, dict) else cast("dict[str, Any]", failure)
    given = {name: value for name, value in fields.items() if value is not None}
    if not given:
        raise _misfit("the error says nothing: give an object with message, code or both")
    told = {"code": ErrorCode.TOOL_FAILED, "message": "the work failed", **given}
    content = {**told, "operation": operation_id}
    meta = {"callback": True, "code": str(told["code"])[:MAX_CODE], **marks_of(tool, Outcome.FAILED, content)}
    return Settlement(outcome=Outcome.FAILED, content=content, meta=meta)


def _succeeded(tool: Tool, given: object) -> Settlement:
    try:
        result = tool.result_adapter.load(given)
        content = tool.result_adapter.store(result, read_back=tool.compensate is not None)
        meta = {"callback": True, **marks_of(tool, Outcome.SUCCEEDED, content)}
    except ValidationError as error:
        fields = {".".join(map(str, fault["loc"])) or "body": fault["msg"] for fault in error.errors(include_url=False)}
        raise _misfit(f"it does not fit what {tool.name} promises", fields) from error
    except Exception as error:
        log.warning(
            "result of a callback can't be read", tool=tool.name, error=type(error).__name__, exception=trace_of(error)
        )
        raise _misfit(f"{tool.name} can't read this result ({type(error).__name__})") from error
    return Settlement(outcome=Outcome.SUCCEEDED, content=content, meta=meta)


def _misfit(message: str, fields: dict[str, str] | None = None) -> _Refusal:
    return _Refusal(status=400, code="invalid_result", message=message, fields=fields)


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                raise _Refusal(status=413, code="too_large", message=f"more than {MOST_BYTES} bytes")
    except ClientDisconnect:
        raise _Refusal(status=400, code="cut_off", message="the connection ended before the body did") from None
    return body
