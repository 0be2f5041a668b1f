"""The other side of `http_tool`: endpoints whose calls are signed, happen once, and are answered in one shape.

Needs `handfast[backend]`. `ToolBackend.app` is a FastAPI application with `POST /tools/{tool}`, `POST /batch` and `GET /health`.
"""

import asyncio
import json
import math
import os
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, cast

import structlog
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field, ValidationError

from handfast.contracts.causes import members
from handfast.contracts.clauses import Rate
from handfast.contracts.errors import LedgerUnavailable, SignatureRefused
from handfast.contracts.identity import canonical_json, digest
from handfast.contracts.messages import Frozen
from handfast.contracts.served import ServedCall, Stand, Standing
from handfast.contracts.signing import verify_onceonly, verify_webhook
from handfast.contracts.strict_json import NotJson, read_object

ANSWER_WITHIN = timedelta(seconds=30)
MOST_BYTES = 1_000_000
MOST_IN_A_BATCH = 100
REPLAYED = "idempotent-replayed"
SECRET_NAMES = re.compile(r"secret|token|passw|api[_-]?key|authorization|credential|private[_-]?key", re.IGNORECASE)
SECRET_VALUES = re.compile(
    r"(?:sk-|sk_live_|whsec_|ghp_|xox[bp]-|AKIA)[A-Za-z0-9+/=_-]{8,}|Bearer [A-Za-z0-9._~+/=-]{8,}"
)
REMOVED = "[removed]"
log = structlog.get_logger()


class CallStore(Protocol):
    """Where calls and their answers are kept, such as a `Ledger`."""

    async def begin_served(self, call: ServedCall, *, abandoned_ms: int, again: bool) -> Standing:
        """What stands about a call; a new one is the asker's."""
        ...

    async def answer_served(self, call: ServedCall, status: int, body: str) -> None:
        """Write an answer down."""
        ...

    async def withdraw_served(self, call: ServedCall) -> None:
        """Forget that a call was begun."""
        ...

    async def take_place(self, tool: str, tenant: str, rates: Sequence[Rate]) -> int:
        """Take a place in a tool's windows; 0, or in how many milliseconds to come back."""
        ...


class BackendError(Exception):
    """What a handler raises to refuse a call: it surely had no effect, and the caller is told why.

    Args:
        message: For the caller.
        code: The cause, in one word.
        status: Of HTTP, 400 to 499.
        retryable: The same call may succeed later: it is not remembered as refused.
    """

    def __init__(self, message: str, *, code: str = "refused", status: int = 422, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.retryable = retryable


class BackendCall(Frozen):
    """What a handler knows besides its arguments."""

    tool: str
    ns: str
    """The namespace: the tenant for which the caller works."""
    key: str
    """`args.idempotency_key`, else the lease id: the same for every repeat of this call."""
    request_id: str


Handler = Callable[[Any, BackendCall], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class _Served:
    name: str
    arguments: type[BaseModel]
    handler: Handler
    rates: tuple[Rate, ...]
    repeatable: bool


class _Item(BaseModel):
    """A call as it comes in, in either dialect."""

    tool: str = ""
    args: dict[str, Any] = Field(default_factory=dict[str, Any])
    ns: str = "default"
    lease_id: str = ""
    operation: str = ""

    @property
    def key(self) -> str:
        """What makes it the same call."""
        own = self.args.get("idempotency_key")
        return own if isinstance(own, str) and own else self.lease_id or self.operation


class _Batch(BaseModel):
    calls: list[_Item] = Field(min_length=1, max_length=MOST_IN_A_BATCH)


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class ToolBackend:
    """Serves tools to others.

    Args:
        store: Where calls are kept; give the process's `Ledger`.
        secrets: The signing secrets, the current one first; all are accepted, so that they can be rotated.
        answer_within: How long a call may take.
    """

    def __init__(self, store: CallStore, secrets: Sequence[str], *, answer_within: timedelta = ANSWER_WITHIN) -> None:
        if not secrets or not all(secrets):
            msg = "a tool backend needs at least one signing secret, and none may be empty"
            raise ValueError(msg)
        self._store = store
        self._secrets = tuple(secrets)
        self._seconds = answer_within.total_seconds()
        self._tools: dict[str, _Served] = {}
        self._under_way: set[asyncio.Task[Any]] = set()
        self.app = FastAPI(title="tool backend", docs_url=None, redoc_url=None, openapi_url=None)
        self.app.post("/tools/{tool}")(self._one)
        self.app.post("/batch")(self._many)
        self.app.get("/health")(self._health)

    def tool(
        self, name: str, arguments: type[BaseModel], *, rates: Sequence[Rate] = (), repeatable: bool = False
    ) -> Callable[[Handler], Handler]:
        """Serve a tool: `async def handler(args, call)`, whose result is JSON or a pydantic model.

        Args:
            name: As callers name it.
            arguments: What they may send; anything else is refused by field.
            rates: How often, for each namespace with `each="tenant"`.
            repeatable: The handler may run again for a call whose first one was cut off, such as by a crash: it looks for
                itself what it has done. Unless said, such a call is answered as not known.
        """

        def serve(handler: Handler) -> Handler:
            if name in self._tools:
                msg = f"tool {name!r} is served already"
                raise ValueError(msg)
            self._tools[name] = _Served(
                name=name, arguments=arguments, handler=handler, rates=tuple(rates), repeatable=repeatable
            )
            return handler

        return serve

    async def _health(self) -> dict[str, Any]:
        return {"status": "ok", "tools": sorted(self._tools)}

    async def _one(self, tool: str, request: Request) -> Response:
        request_id = _request_id(request)
        try:
            body = await _body(request)
            item = _Item.model_validate(_object(self._verified(request, body)))
        except _Refused as refused:
            return _response(refused.answer, request_id)
        except ValidationError as error:
            return _response(_invalid(error), request_id)
        if item.tool and item.tool != tool:
            return _response(
                _error(400, "wrong_tool", f"the body is for {item.tool!r}, the URL for {tool!r}"), request_id
            )
        return _response(await self._carry_out(item.model_copy(update={"tool": tool}), request_id), request_id)

    async def _many(self, request: Request) -> Response:
        """Each call has an outcome of its own; one that fails takes none of the others along."""
        request_id = _request_id(request)
        try:
            batch = _Batch.model_validate(_object(self._verified(request, await _body(request))))
        except _Refused as refused:
            return _response(refused.answer, request_id)
        except ValidationError as error:
            return _response(_invalid(error), request_id)
        answers = [await self._carry_out(item, f"{request_id}-{n}") for n, item in enumerate(batch.calls, 1)]
        outcomes = [{"status": a.status, **a.body, "replayed": a.headers.get(REPLAYED) == "true"} for a in answers]
        succeeded = sum(answer.status < 400 for answer in answers)
        told = {"outcomes": outcomes, "succeeded": succeeded, "failed": len(answers) - succeeded}
        return _response(_Answer(status=200 if succeeded == len(answers) else 207, body=told), request_id)

    def _verified(self, request: Request, body: bytes) -> bytes:
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            if "x-onceonly-signature" in headers:
                verify_onceonly(headers, body, self._secrets)
            else:
                verify_webhook(headers, body, self._secrets)
        except SignatureRefused as error:
            log.warning("signature refused", path=request.url.path, reason=str(error))
            raise _Refused(_error(401, "signature_refused", "the request is not signed as it must be")) from error
        return body

    async def _carry_out(self, item: _Item, request_id: str) -> _Answer:
        served = self._tools.get(item.tool)
        if served is None:
            return _error(
                404, "unknown_tool", f"no tool is named {item.tool!r}; known: {', '.join(sorted(self._tools))}"
            )
        if not 0 < len(item.key) <= 255:
            return _error(
                400, "no_key", "neither args.idempotency_key nor lease_id is there, with up to 255 characters"
            )
        given = {name: value for name, value in item.args.items() if name != "idempotency_key"}
        if "idempotency_key" in served.arguments.model_fields:
            given = item.args
        try:
            arguments = served.arguments.model_validate(given)
        except ValidationError as error:
            return _invalid(error)
        call = ServedCall(
            tool=item.tool, ns=item.ns, key=item.key, digest=digest(item.tool, 0, item.args), request_id=request_id
        )
        try:
            return await self._once(served, arguments, call)
        except LedgerUnavailable:
            log.warning("the store is away", tool=item.tool, request_id=request_id)
            return _error(503, "unavailable", "nothing was done, come back later", {"retry-after": "2"})

    async def _once(self, served: _Served, arguments: BaseModel, call: ServedCall) -> _Answer:
        standing = await self._store.begin_served(
            call, abandoned_ms=int(self._seconds * 1000) + 1000, again=served.repeatable
        )
        match standing.stand:
            case Stand.DONE:
                return _Answer(status=standing.status, body=json.loads(standing.body), headers={REPLAYED: "true"})
            case Stand.OTHER:
                return _error(422, "key_reused", "this key was used with other arguments", {REPLAYED: "false"})
            case Stand.UNDER_WAY:
                return _error(409, "under_way", "the first request with this key is under way", {"retry-after": "1"})
            case Stand.ABANDONED:
                return _error(500, "outcome_unknown", "the first request with this key never ended: look what it did")
            case Stand.NEW:
                pass
        wait_ms = await self._store.take_place(f"backend/{served.name}", call.ns, served.rates) if served.rates else 0
        if wait_ms:
            await self._store.withdraw_served(call)
            return _error(429, "rate_limited", "too many calls", {"retry-after": str(math.ceil(wait_ms / 1000))})
        # Whoever called may go away, or wait no longer; the handler's end is written down nevertheless.
        task = asyncio.create_task(self._handled(served, arguments, call))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        done, _ = await asyncio.wait([task], timeout=self._seconds)
        if not done:
            message = f"no answer within {self._seconds:g} s; ask again with the same key"
            return _error(504, "timeout", message, {"retry-after": "5"})
        return task.result()

    async def _handled(self, served: _Served, arguments: BaseModel, call: ServedCall) -> _Answer:
        told = BackendCall(tool=call.tool, ns=call.ns, key=call.key, request_id=call.request_id)
        try:
            result = await served.handler(arguments, told)
            plain = result.model_dump(mode="json") if isinstance(result, BaseModel) else result
            dumped = json.loads(canonical_json(plain))
            answer = _Answer(status=200, body={"result": without_secrets(dumped, self._secrets)})
        except Exception as error:
            refusal = _refusal_in(error)
            if refusal is None:
                log.exception("handler failed", tool=call.tool, request_id=call.request_id, error=type(error).__name__)
                answer = _error(500, "internal", f"something went wrong; ask for it by request id {call.request_id}")
            else:
                message = str(without_secrets(str(refusal), self._secrets))
                answer = _error(refusal.status, refusal.code, message)
            if refusal is not None and refusal.retryable:
                await self._store.withdraw_served(call)
                return answer
        await self._store.answer_served(call, answer.status, canonical_json(answer.body))
        return _Answer(status=answer.status, body=answer.body, headers={REPLAYED: "false"})


def secrets_from_environment(*names: str) -> tuple[str, ...]:
    """Secrets by the names of their environment variables; those that are not set are left out."""
    return tuple(value for name in names if (value := os.environ.get(name, "")))


def without_secrets(value: Any, secrets: Sequence[str] = ()) -> Any:
    """JSON without what looks like a secret: by the name of its field, by its form, or by being one of those given."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {
            name: REMOVED if SECRET_NAMES.search(name) and inner else without_secrets(inner, secrets)
            for name, inner in fields.items()
        }
    if isinstance(value, list):
        return [without_secrets(inner, secrets) for inner in cast("list[object]", value)]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, REMOVED)
        return SECRET_VALUES.sub(REMOVED, value)
    return value


class _Refused(Exception):
    def __init__(self, answer: _Answer) -> None:
        super().__init__(answer.body)
        self.answer = answer


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise _Refused(_error(413, "too_large", f"more than {MOST_BYTES} bytes"))
    return body


def _refusal_in(error: Exception) -> BackendError | None:
    """The refusal that an exception is, or a group of nothing else; of several one that is final."""
    raised = [one for one in members(error) if not isinstance(one, asyncio.CancelledError)]
    refusals = [one for one in raised if isinstance(one, BackendError)]
    return min(refusals, key=lambda one: one.retryable) if refusals and len(refusals) == len(raised) else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        return read_object(body)
    except NotJson as error:
        raise _Refused(_error(400, "invalid_arguments", str(error))) from None


def _request_id(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    return given if re.fullmatch(r"[A-Za-z0-9._-]{1,48}", given) else uuid.uuid4().hex


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None, **more: Any) -> _Answer:
    return _Answer(status=status, body={"error": {"code": code, "message": message, **more}}, headers=headers or {})


def _invalid(error: ValidationError) -> _Answer:
    fields = {".".join(map(str, fault["loc"])) or "body": fault["msg"] for fault in error.errors(include_url=False)}
    return _error(400, "invalid_arguments", "the arguments don't fit", fields=fields)


def _response(answer: _Answer, request_id: str) -> Response:
    body = {**answer.body, "request_id": request_id}
    return Response(
        canonical_json(body), answer.status, {**answer.headers, "x-request-id": request_id}, "application/json"
    )
