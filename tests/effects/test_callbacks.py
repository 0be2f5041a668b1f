"""Callbacks as others write them: what counts as a result, and a clear refusal for everything that does not."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

from handfast import Effect, Outcome, Pending, Tier, ToolContext, tool
from handfast.contracts.registry import Registry
from handfast.contracts.signing import StandardWebhooks, webhook_headers
from handfast.contracts.tool import Tool
from handfast.gateway.app import (
    MOST_BYTES,
    _Refusal,  # pyright: ignore[reportPrivateUsage] - hundreds of bodies, without a server for each
    _settlement,  # pyright: ignore[reportPrivateUsage]
    make_app,
)
from handfast.tools.credentials import Credentials
from tests.conftest import OpenShop, Shop, new_database, until
from tests.effects import jobs
from tests.effects.agents import ended


class Country(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        return {"DE": "Germany"}[name]


def job(result: Any) -> Tool:
    async def work(ctx: ToolContext) -> Any:
        """Work."""
        return Pending()

    work.__annotations__ = {"ctx": ToolContext, "return": result}
    signed = StandardWebhooks(secret="s")
    return tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y", callback=signed)(work)


NUMBERS = job(dict[str, float] | Pending)
NULLABLE = job(dict[str, float] | None | Pending)
ANYTHING = job(Any)
NOTHING = job(None)


def settled(made: Tool, body: Any) -> tuple[str, Any]:
    """The outcome and the content of a callback, or `refused` and why."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        settlement = _settlement(made, content, "op")
    except _Refusal as refusal:
        return "refused" if (refusal.status, refusal.code) == (400, "invalid_result") else "", refusal.message
    return str(settlement.outcome), settlement.content


@pytest.mark.parametrize(
    ("made", "body", "result"),
    [
        (NUMBERS, {"result": {"n": 1}}, {"n": 1}),
        (NUMBERS, {"result": {"n": 1}, "error": None}, {"n": 1}),
        (NUMBERS, {"result": {}, "error": None}, {}),
        (NUMBERS, {"result": {"n": 1}, "status": "done"}, {"n": 1}),
        (NULLABLE, {"result": {"n": 1}, "error": None}, {"n": 1}),
        (NULLABLE, {"result": None}, None),
        (NULLABLE, {"result": None, "error": None}, None),
        (ANYTHING, {"result": None}, None),
        (ANYTHING, {"result": 0, "error": None}, 0),
        (ANYTHING, {"result": False}, False),
        (ANYTHING, {"result": ""}, ""),
        (NOTHING, {"result": None, "error": None}, None),
        (NUMBERS, b'\xef\xbb\xbf{"result": {"n": 1}}', {"n": 1}),
    ],
)
def test_a_result_counts_whatever_else_is_null(made: Tool, body: Any, result: Any) -> None:
    assert settled(made, body) == (Outcome.SUCCEEDED, result)


@pytest.mark.parametrize("made", [NUMBERS, NULLABLE, ANYTHING])
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"error": {"message": "out of paper", "code": "no_paper"}}, ("no_paper", "out of paper")),
        ({"result": None, "error": {"message": "out of paper"}}, ("tool_failed", "out of paper")),
        ({"error": {"message": None, "code": "no_paper"}}, ("no_paper", "the work failed")),
        ({"error": {"message": "out of paper", "code": None}}, ("tool_failed", "out of paper")),
    ],
)
def test_an_error_counts_whatever_else_is_null(made: Tool, body: Any, told: tuple[str, str]) -> None:
    code, message = told
    assert settled(made, body) == (Outcome.FAILED, {"code": code, "message": message, "operation": "op"})


@pytest.mark.parametrize("made", [NUMBERS, NULLABLE, ANYTHING])
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "no result"),
        ({"error": None}, "no result"),
        ({"status": "done"}, "no result"),
        ({"result": {"n": 1}, "error": {"message": "x"}}, "both a result and an error"),
        ({"error": {}}, "says nothing"),
        ({"error": {"message": None}}, "says nothing"),
        ({"error": "boom"}, "says nothing"),
        ({"error": ["boom"]}, "says nothing"),
        ({"error": False}, "says nothing"),
        ([], "a list, not a JSON object"),
        (None, "null, not a JSON object"),
        ("done", "a text, not a JSON object"),
        (17, "a number, not a JSON object"),
        (b"", "not JSON"),
        (b"result=1", "not JSON"),
        (b'{"result": NaN}', "holds NaN"),
        (b'{"result": {"n": Infinity}}', "holds Infinity"),
        (b'{"error": {"code": -Infinity}}', "holds -Infinity"),
        (b'{"result": {"n": 1e400}}', "too large"),
        (b'{"result": {"n": 1}, "result": {"n": 2}}', "names 'result' twice"),
        (b'{"result": {"n": 1, "n": 2}}', "names 'n' twice"),
        (b'{"result": "\xff"}', "not UTF-8"),
        ('{"result": {"n": 1}}'.encode("utf-16"), "not UTF-8"),
        (b'{"result":' + b"[" * 100_000, "nested deeper"),
        (b'{"result":' + b"[" * 500 + b"]" * 500 + b"}", "nested deeper"),
        (b'{"result": ' + b"9" * 10_000 + b"}", "too many digits"),
    ],
    ids=lambda value: repr(value)[:50],
)  # fmt: skip
def test_a_body_that_is_neither_is_refused_with_the_reason(made: Tool, body: Any, why: str) -> None:
    """RFC 8259, sections 4, 6 and 8.1."""
    outcome, message = settled(made, body)
    assert (outcome, why in message) == ("refused", True)


@pytest.mark.parametrize("body", [{"result": None}, {"result": None, "error": None}])
def test_null_is_no_result_where_the_tool_promises_another_one(body: Any) -> None:
    assert settled(NUMBERS, body) == (
        "refused",
        'the body holds no result: give {"result": …}, or {"error": {"message": …, "code": …}}',
    )


def test_a_result_that_the_authors_own_type_can_not_read_is_refused() -> None:
    assert settled(job(Country), {"result": {"name": "DE"}}) == (Outcome.SUCCEEDED, {"name": "Germany"})
    assert settled(job(Country), {"result": {"name": "XX"}}) == ("refused", "work can't read this result (KeyError)")
    assert settled(job(Country | None), {"result": None}) == (Outcome.SUCCEEDED, None)


@settings(max_examples=300)
@given(
    st.binary(max_size=60)
    | st.sampled_from(
        ["null", "{}", "[]", '""', "NaN", '{"message": "x"}', "1", '"\\ud83d"', '{"n": 1, "n": 1}']
    ).flatmap(
        lambda one: st.sampled_from(["{}", "null", one]).map(
            lambda other: f'{{"result": {one}, "error": {other}}}'.encode()
        )
    )
)
def test_no_body_comes_to_anything_but_a_settlement_or_a_refusal(body: bytes) -> None:
    for made in (NUMBERS, NULLABLE, ANYTHING, job(Country)):
        settled(made, body)


class Posting:
    """A gateway's application over a real ledger, and callbacks to it."""

    def __init__(self, desk: Shop) -> None:
        self.desk = desk
        self.woken: list[str] = []
        app = make_app(Registry(jobs.both), desk.ledger, self._wake, Credentials())
        # raise_app_exceptions: what would be a 500 fails the test.
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway")

    async def _wake(self, run_id: str, operation_id: str) -> None:
        self.woken.append(operation_id)
        await self.desk.client.temporal.get_workflow_handle(run_id).signal("wake", operation_id)

    async def post(self, operation_id: str, content: bytes) -> httpx.Response:
        headers = webhook_headers(jobs.SECRET, "msg_1", content)
        return await self.http.post(f"/callbacks/{operation_id}", content=content, headers=headers)


@pytest.fixture(params=["sqlite", "postgresql"])
async def posting(
    shop: OpenShop, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Posting]:
    monkeypatch.setenv("HANDFAST_SECRET_JOBS", f"{jobs.SECRET}\n")
    url = new_database(request.getfixturevalue("postgres")) if request.param == "postgresql" else ""
    made = Posting(await shop(*jobs.both, gateway_url="http://gateway", ledger_url=url))
    yield made
    await made.http.aclose()


async def test_whatever_is_posted_is_answered_and_the_call_goes_on_waiting_for_its_result(posting: Posting) -> None:
    run = await posting.desk.client.start("jobs", "Go", id=f"callback-{uuid.uuid4()}")

    async def pending() -> str:
        return next((one.operation_id for one in await run.operations() if one.state == "pending"), "")

    operation = await until(pending)
    refused = [
        (b"", 400), (b"[" * 100_000, 400), (b'{"result": NaN}', 400), (b'{"error": null}', 400), (b"\xff", 400),
        (b'{"result": {"pages": 0}}', 400), (b'{"result": {"pages": "\\ud83d"}}', 400), (b"x" * (MOST_BYTES + 1), 413),
    ]  # fmt: skip
    for body, status in refused:
        answer = await posting.post(operation, body)
        assert (answer.status_code, bool(answer.json()["error"]["message"])) == (status, True)
    for stranger in ("%00", "a%00b", "%ff", "x" * 5000, "%F0%9F%98%80", "' OR 1=1"):
        assert (await posting.post(stranger, b"{}")).status_code == 401
    assert posting.woken == []
    taken = await posting.post(operation, b'{"result": {"pages": 3}, "error": null}')
    assert (taken.status_code, taken.json()["outcome"]) == (200, "SUCCEEDED")
    assert (await asyncio.wait_for(ended(run), 20)).result == {"pages": 3}


async def test_an_error_with_any_text_is_taken(posting: Posting) -> None:
    """RFC 8259, section 8.2: a text may hold what no UTF-8 does; and PostgreSQL takes no NUL."""
    run = await posting.desk.client.start("jobs", "Go", id=f"callback-{uuid.uuid4()}")

    async def pending() -> str:
        return next((one.operation_id for one in await run.operations() if one.state == "pending"), "")

    operation = await until(pending)
    body = b'{"result": null, "error": {"message": "nul \\u0000 and half \\ud83d", "code": "c\\u0000"}}'
    taken = await posting.post(operation, body)
    assert (taken.status_code, taken.json()["outcome"]) == (200, "FAILED")
    assert (await asyncio.wait_for(ended(run), 20)).result["message"].startswith("nul ")
