"""`handfast tools probe`: what tools ask, held against the document that a real service gives of itself."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
import uvicorn
from fastapi import FastAPI, Header, Query
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from handfast import Effect, Endpoint, Tier, ToolContext, tool
from handfast.client.cli.app import app as commands
from handfast.client.cli.exits import Exit
from handfast.contracts.openapi import misfits
from handfast.contracts.tool import Tool
from handfast.contracts.upstream import Upstream
from handfast.engine.embedded import free_port
from handfast.tools.probe import probe
from tests.conftest import until


class RefundBody(BaseModel):
    """What the service takes."""

    payment: str = Field(max_length=20)
    amount: int = Field(le=500)
    reason: Literal["lost", "broken"] | None = None


class RefundAnswer(BaseModel):
    id: str
    amount: int
    note: str | None = None


service = FastAPI(title="payments")


@service.post("/v2/refunds/{account}")
async def refund(account: str, body: RefundBody, idempotency_key: str = Header()) -> RefundAnswer:
    """Refund."""
    raise NotImplementedError


@service.get("/v2/refunds", deprecated=True)
async def refunds(limit: int = Query(), after: str = "", x_region: str = Header()) -> list[RefundAnswer]:
    """List."""
    raise NotImplementedError


DOCUMENT: dict[str, Any] = service.openapi()
UPSTREAM = Upstream(base_url="https://payments.example/v2")


def calling(endpoint: Endpoint) -> Tool:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y", endpoints=(endpoint,))
    async def call(ctx: ToolContext) -> str:
        """Call."""
        return "called"

    return call


class Good(BaseModel):
    payment: str = Field(max_length=20)
    amount: int = Field(gt=0, le=500)


class Bad(BaseModel):
    payment: str
    amount: int | None = None
    reason: Literal["lost", "late"] = "lost"
    colour: str = ""


class Read(BaseModel):
    id: str
    note: str
    currency: str


def post(**options: Any) -> Endpoint:
    where: dict[str, Any] = {"upstream": "pay", "method": "POST", "path": "/refunds/{to}"}
    return Endpoint(**where | options)


def get(**options: Any) -> Endpoint:
    return post(method="GET", path="/refunds", **options)


@pytest.mark.parametrize(
    ("endpoint", "faults"),
    [
        (post(sends=Good, answers=RefundAnswer), []),
        (
            post(sends=Bad),
            [
                "body field 'amount', type: sent integer or null, accepted integer",
                "body field 'colour' is sent, and not accepted",
                "body field 'payment', maxLength: sent anything, accepted 20",
                "body field 'reason', type: sent string, accepted null or string",
                "body field 'amount' is required, and is not always sent",
            ],
        ),
        (
            post(sends=Good, answers=Read),
            [
                "answer field 'note', type: promised null or string, read string",
                "answer field 'note' is required, and is not always promised",
                "answer field 'currency' is required, and is not always promised",
            ],
        ),
        (post(), ["a body is required, and the tool declares none (sends=)"]),
        (post(path="/charges"), ["the document has no such operation"]),
        (post(method="PUT"), ["the document has no such operation"]),
        (
            get(query=("after", "before")),
            [
                "the document calls it deprecated",
                "query parameter 'limit' is required, and the tool does not send it",
                "header 'x-region' is required, and neither the tool's settings nor the engine send it",
                "query parameter 'before' is not in the document",
            ],
        ),
    ],
    ids=["good", "body", "answer", "no body", "no path", "no method", "parameters"],
)
def test_what_a_tool_asks_is_held_against_the_document(endpoint: Endpoint, faults: list[str]) -> None:
    found = [fault.removeprefix(f"{endpoint}: ") for fault in misfits(calling(endpoint), "pay", UPSTREAM, DOCUMENT)]
    assert sorted(found) == sorted(faults)


def test_documents_of_the_older_kind_are_read_too() -> None:
    schemas = {
        "Money": {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer", "format": "int64"}}},
        "Body": {
            "allOf": [{"$ref": "#/components/schemas/Money"}],
            "type": "object",
            "required": ["payment"],
            "properties": {
                "payment": {"type": "string", "example": "pay_1"},
                "note": {"type": "string", "nullable": True},
                "share": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "x-unit": "%"},
            },
        },
    }  # fmt: skip
    reference = {"content": {"application/json; charset=utf-8": {"schema": {"$ref": "#/components/schemas/Body"}}}}
    document = {
        "openapi": "3.0.3",
        "servers": [{"url": "https://payments.example/v2"}],
        "paths": {"/refunds/{id}": {"post": {"requestBody": {"$ref": "#/components/requestBodies/B"}}}},
        "components": {"schemas": schemas, "requestBodies": {"B": reference}},
    }

    class Old(BaseModel):
        payment: str
        note: str | None = None
        share: float = Field(default=1, ge=0)

    found = [*misfits(calling(post(sends=Old)), "pay", UPSTREAM, document)]
    assert [fault.removeprefix("POST pay/refunds/{to}: ") for fault in found] == [
        "body field 'share', exclusiveMinimum: sent anything, accepted 0",
        "body field 'amount' is required, and is not always sent",
    ]


@pytest.fixture
async def payments() -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(service, port=free_port(), log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await until(started)
    yield f"http://127.0.0.1:{server.config.port}/v2"
    server.should_exit = True
    await serving


async def test_a_service_is_asked_for_its_document(payments: str) -> None:
    tools = [calling(post(sends=Good, path="/charges"))]
    found = await probe(tools, {"pay": Upstream(base_url=payments)})
    assert [(one.subject, one.message) for one in found] == [
        ("tool call", "POST pay/charges: the document has no such operation")
    ]
    [missing] = await probe(tools, {"pay": Upstream(base_url=payments, openapi="/docs")})
    assert (missing.subject, "is no OpenAPI 3 document" in missing.message) == ("upstream pay", True)
    [unknown] = await probe(tools, {})
    assert "HANDFAST_UPSTREAMS" in unknown.message
    broken = {"openapi": "3.1.0", "paths": {"/refunds/{id}": {"post": {"parameters": [{"name": "x"}]}}}}
    [fault] = await probe([calling(post())], {"pay": Upstream(base_url=payments)}, {"pay": broken})
    assert "not what OpenAPI says" in fault.message
    [down] = await probe(tools, {"pay": Upstream(base_url=f"http://127.0.0.1:{free_port()}")})
    assert down.subject == "upstream pay"


AGENTS = '''
from pydantic import BaseModel
from handfast import Agent, Effect, Endpoint, Script, Tier, ToolContext, tool

class Body(BaseModel):
    payment: str

@tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y",
      endpoints=(Endpoint(upstream="pay", method="POST", path="/refunds/{account}", sends=Body),))
async def refund(payment: str, ctx: ToolContext) -> str:
    """Refund a payment."""
    return "refunded"

desk = Agent(name="desk", model=Script(["Hello."]), instructions="Refund.", tools=[refund])
silent = Agent(name="silent", model=Script(["Hello."]), instructions="Greet.")
'''


async def test_the_command_probes_an_agents_tools(
    payments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "probed_desk.py").write_text(AGENTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("HANDFAST_UPSTREAMS", json.dumps({"pay": {"base_url": payments}}))

    async def command(*words: str) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, commands, ["tools", "probe", *words])
        return done.exit_code, " ".join((done.output + done.stderr).split())

    code, output = await command("probed_desk:desk")
    assert (code, "'amount' is required" in output, "'payment', maxLength" in output) == (1, True, True)
    (tmp_path / "pay.json").write_text(json.dumps({"openapi": "3.1.0", "paths": {}}))
    code, output = await command("probed_desk:desk", "--document", "pay=pay.json", "--json")
    assert (code, "no such operation" in output) == (1, True)
    code, output = await command("probed_desk:desk", "--document", "pay")
    assert (code, "write NAME=FILE" in output) == (Exit.CONTRACT, True)
    code, output = await command("probed_desk:silent")
    assert (code, "nothing to probe" in output) == (Exit.CONTRACT, True)
