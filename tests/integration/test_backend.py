"""Tools that live elsewhere: the example backend as a process of its own, called by hand in both dialects, and by an agent."""

import asyncio
import hashlib
import hmac
import json
import signal
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from standardwebhooks import Webhook

from handfast import ContractError, Effect, Outcome, Tier
from handfast.contracts.errors import SignatureRefused
from handfast.contracts.signing import (
    OnceOnly,
    onceonly_headers,
    onceonly_signature,
    verify_onceonly,
    verify_webhook,
    webhook_headers,
    webhook_signature,
)
from handfast.contracts.tool import Tool
from handfast.engine.embedded import free_port
from handfast.ledger import Ledger
from handfast.tools.backend import REMOVED, BackendCall, BackendError, ToolBackend, without_secrets
from handfast.tools.remote import http_tool
from tests.conftest import OpenShop, until
from tests.crash.harness import Process

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_b2xkIHNlY3JldA=="
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'


def test_the_published_vector_passes_and_the_published_library_agrees() -> None:
    assert webhook_signature(SECRET, ID, AT, BODY) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    headers = webhook_headers(SECRET, "msg_1", BODY)
    assert Webhook(SECRET).verify(BODY, headers) == {"test": 2432232314}
    now = datetime.now(UTC)
    theirs = {"webhook-id": "msg_2", "webhook-timestamp": str(int(now.timestamp()))}
    theirs["webhook-signature"] = Webhook(SECRET).sign("msg_2", now, BODY.decode())
    assert verify_webhook(theirs, BODY, [SECRET]) == "msg_2"
    assert verify_webhook(
        {**theirs, "webhook-signature": f"v1,bm8= {theirs['webhook-signature']}"}, BODY, [OLD_SECRET, SECRET]
    )


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": ""},
        {"webhook-id": "other"},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "١٦١٤٢٦٥٣٣٠"},
        {"webhook-timestamp": "-1"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,\N{SNOWMAN}"},
        {"webhook-signature": "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
    ],
    ids=str,
)
def test_every_malformed_header_is_refused(change: Mapping[str, str]) -> None:
    with pytest.raises(SignatureRefused):
        verify_webhook({**webhook_headers(SECRET, "msg_1", BODY), **change}, BODY, [SECRET])


@pytest.mark.parametrize("seconds", [-301, 900])
def test_a_timestamp_of_another_time_is_refused(seconds: int) -> None:
    headers = webhook_headers(SECRET, "msg_1", BODY) | {"webhook-timestamp": str(int(time.time()) + seconds)}
    with pytest.raises(SignatureRefused):
        verify_webhook(headers, BODY, [SECRET])


def test_the_onceonly_format_is_hex_over_the_raw_body_and_its_algorithm_may_be_absent() -> None:
    expected = hmac.new(b"s", b"{}", hashlib.sha256).hexdigest()
    headers = onceonly_headers(OnceOnly(secret="s", secret_id="one"), "s", "pay", b"{}")
    assert headers["x-onceonly-signature"] == onceonly_signature("s", b"{}") == expected
    assert (headers["x-onceonly-tool"], headers["x-onceonly-secret-id"]) == ("pay", "one")
    verify_onceonly(headers, b"{}", ["s"])
    verify_onceonly({n: v for n, v in headers.items() if n != "x-onceonly-signature-alg"}, b"{}", ["old", "s"])
    for change in (
        {"x-onceonly-signature-alg": "none"},
        {"x-onceonly-signature": ""},
        {"x-onceonly-signature": expected[:-1]},
        {"x-onceonly-signature": "é" * 64},
        {"x-onceonly-timestamp": "soon"},
        {"x-onceonly-timestamp": str(int(time.time()) - 1000)},
    ):
        with pytest.raises(SignatureRefused):
            verify_onceonly({**headers, **change}, b"{}", ["s"])


class Nothing(BaseModel):
    pass


def test_a_tool_is_registered_in_the_words_of_the_onceonly_format() -> None:
    def register(**words: Any) -> Tool:
        return http_tool(
            name="nap", url="https://tools.example/nap", description="Nap.", version="1.0.0", effect=Effect.KEYED,
            tier=Tier.REVERSIBLE, scope="naps:w", arguments=Nothing, sign=OnceOnly(secret="tools"), **words,
        )  # fmt: skip

    said = register(timeout_ms=1500, max_retries=0)
    assert (said.timeout, said.attempts) == (timedelta(seconds=1.5), 1)
    with pytest.raises(ContractError, match="timeout_ms and timeout: give one of them") as refused:
        register(timeout_ms=1, timeout=timedelta(seconds=1), max_retries=1, attempts=2)
    assert len(refused.value.faults) == 2


def test_what_looks_like_a_secret_is_taken_out_of_answers() -> None:
    given = {
        "api_key": "abc", "nested": [{"Password": "x", "text": f"Bearer {'a' * 20} and {SECRET} and hunter2"}], "token": "", "n": 1,
    }  # fmt: skip
    assert without_secrets(given, ["hunter2"]) == {
        "api_key": REMOVED,
        "nested": [{"Password": REMOVED, "text": f"{REMOVED} and {REMOVED} and {REMOVED}"}],
        "token": "",
        "n": 1,
    }


@pytest.mark.parametrize("secrets", [[], [""]])
def test_a_backend_without_a_secret_is_refused(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match="at least one signing secret"):
        ToolBackend(None, secrets)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


class Backend:
    """The example backend, and signed requests to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = self.start()
        self.http = httpx.AsyncClient(base_url=self.url)

    def start(self) -> Process:
        env = {
            "TOOL_SECRET": SECRET,
            "TOOL_SECRET_BEFORE": OLD_SECRET,
            "TOOL_HOME": str(self.folder),
            "TOOL_ANSWER_SECONDS": "1",
        }
        words = ("--factory", "examples.tool_backend.app:make_app", "--port", str(self.port), "--log-level", "warning")
        return Process("uvicorn", *words, env=env, output=self.folder / "backend.log")

    async def serves(self) -> bool:
        assert self.process.code is None, self.process.output.read_text()
        try:
            return (await self.http.get("/health")).is_success
        except httpx.TransportError:
            return False

    async def call(
        self, name: str, args: dict[str, Any], *, lease: str = "", secret: str = SECRET, **more: Any
    ) -> httpx.Response:
        """In the OnceOnly format."""
        wanted = {"tool": name, "args": args, "ns": "acme", "lease_id": lease or str(uuid.uuid4()), **more}
        body = json.dumps(wanted).encode()
        headers = onceonly_headers(OnceOnly(secret=""), secret, name, body)
        return await self.http.post(f"/tools/{name}", content=body, headers=headers)

    @property
    def outbox(self) -> int:
        return len(list((self.folder / "outbox").glob("*.eml")))


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    made = Backend(tmp_path)
    await until(made.serves)
    yield made
    await made.http.aclose()
    await made.process.stop()


EMAIL = {"to": "ada@example.com", "subject": "Hello", "text": "Hi"}


async def test_a_repeated_call_is_answered_from_the_store_and_a_key_stands_for_its_arguments(backend: Backend) -> None:
    first = await backend.call("send_email", EMAIL, lease="l1")
    again = await backend.call("send_email", EMAIL, lease="l1", secret=OLD_SECRET)
    assert (first.status_code, first.headers["idempotent-replayed"]) == (200, "false")
    assert (again.json()["result"], again.headers["idempotent-replayed"]) == (first.json()["result"], "true")
    other = await backend.call("send_email", {**EMAIL, "text": "Other"}, lease="l1")
    assert (other.status_code, other.json()["error"]["code"]) == (422, "key_reused")
    # An own key goes before the lease; another namespace is another call.
    for lease, ns in (("l2", "acme"), ("l3", "acme"), ("l4", "umbrella")):
        await backend.call("send_email", {**EMAIL, "idempotency_key": "mine"}, lease=lease, ns=ns)
    assert backend.outbox == 2
    assert await count(backend) == 3


async def count(backend: Backend) -> int:
    def read() -> int:
        with sqlite3.connect(backend.folder / "ledger.db") as database:
            return int(database.execute("SELECT COUNT(*) FROM served WHERE status = 200").fetchone()[0])

    return await asyncio.to_thread(read)


async def test_many_at_once_with_one_key_act_once(backend: Backend) -> None:
    answers = await asyncio.gather(*(backend.call("create_ticket", {"title": "Late"}, lease="l1") for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    tickets = {answer.json()["result"]["ticket"] for answer in answers if answer.is_success}
    assert tickets == {1}


async def test_requests_that_are_not_signed_as_they_must_be_learn_nothing(backend: Backend) -> None:
    body = json.dumps({"tool": "send_email", "args": EMAIL, "lease_id": "l1"}).encode()
    good = webhook_headers(SECRET, "msg_1", body)
    for headers in (
        {},
        {**good, "webhook-signature": "v1,AAAA"},
        {**good, "webhook-timestamp": "1"},
        onceonly_headers(OnceOnly(secret=""), "wrong", "send_email", body),
    ):
        refused = await backend.http.post("/tools/send_email", content=body, headers=headers)
        assert refused.status_code == 401
        assert refused.json()["error"] == {
            "code": "signature_refused",
            "message": "the request is not signed as it must be",
        }
    changed = await backend.http.post("/tools/send_email", content=body + b" ", headers=good)
    assert (changed.status_code, backend.outbox) == (401, 0)


async def test_bad_requests_say_what_is_wrong(backend: Backend) -> None:
    for status, code, answer in (
        (404, "unknown_tool", await backend.call("fly", {})),
        (400, "no_key", await backend.call("send_email", EMAIL, lease="x" * 256)),
        (400, "invalid_arguments", await backend.call("send_email", {"to": "nobody"})),
        (400, "wrong_tool", await backend.call("send_email", EMAIL, tool="create_ticket")),
        (422, "refused_as_asked", await backend.call("failing_test", {"how": "refuse"})),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
    fields = (await backend.call("send_email", {"to": "nobody"})).json()["error"]["fields"]
    assert fields.keys() == {"to", "subject", "text"}


async def test_a_body_that_is_not_json_is_refused_and_says_why(backend: Backend) -> None:
    """RFC 8259, sections 4, 6 and 8.1."""
    for path in ("/tools/send_email", "/batch"):
        for body in (
            b"",
            b"[]",
            b'{"args": {"to": NaN}, "lease_id": "l"}',
            b'{"tool": "a", "tool": "b"}',
            b"\xff",
            b"[" * 100_000,
        ):
            headers = onceonly_headers(OnceOnly(secret=""), SECRET, "send_email", body)
            answer = await backend.http.post(path, content=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_arguments")
            assert answer.json()["error"]["message"].startswith("the body ")


async def test_a_handler_that_fails_or_takes_too_long_is_answered_and_nothing_gets_out(backend: Backend) -> None:
    crashed = await backend.call("failing_test", {"how": "crash"}, lease="l1")
    again = await backend.call("failing_test", {"how": "crash"}, lease="l1")
    assert (crashed.status_code, again.status_code, again.headers["idempotent-replayed"]) == (500, 500, "true")
    assert "whsec" not in crashed.text
    assert "Traceback" not in crashed.text
    late = await backend.call("failing_test", {"how": "late"}, lease="l2")
    assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
    assert (await backend.call("failing_test", {"how": "late"}, lease="l2")).status_code == 409

    async def given_up() -> bool:
        answer = await backend.call("failing_test", {"how": "late"}, lease="l2")
        return bool(answer.json()["error"]["code"] == "outcome_unknown")

    await until(given_up)


async def test_a_refusal_in_a_task_group_is_a_refusal(tmp_path: Path) -> None:
    ledger = Ledger.connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    await ledger.migrate()
    served = ToolBackend(ledger, [SECRET])

    async def refuse(refusal: Exception) -> None:
        raise refusal

    @served.tool("both", Nothing)
    async def both(args: Nothing, call: BackendCall) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            group.create_task(refuse(BackendError("sold out", code="sold_out", status=409)))

    @served.tool("bug", Nothing)
    async def bug(args: Nothing, call: BackendCall) -> None:
        raise ExceptionGroup("both", [BackendError("sold out"), KeyError("x")])

    transport = httpx.ASGITransport(app=served.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        for name, status, code in (("both", 409, "sold_out"), ("bug", 500, "internal")):
            body = json.dumps({"args": {}, "lease_id": "l1"}).encode()
            headers = onceonly_headers(OnceOnly(secret=""), SECRET, name, body)
            answer = await http.post(f"/tools/{name}", content=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    await ledger.close()


async def test_calls_of_a_batch_have_outcomes_of_their_own_and_rates_hold(backend: Backend) -> None:
    calls: list[dict[str, Any]] = [
        {"tool": "send_email", "args": EMAIL, "ns": "acme", "lease_id": "b1"},
        {"tool": "send_email", "args": {}, "ns": "acme", "lease_id": "b2"},
        {"tool": "create_ticket", "args": {"title": "Late"}, "ns": "acme", "lease_id": "b3"},
        *(
            {"tool": "bulk_email", "args": {**EMAIL, "to": ["a@b.example", "nobody"]}, "lease_id": f"m{n}"}
            for n in range(6)
        ),
    ]
    body = json.dumps({"calls": calls}).encode()
    answer = await backend.http.post("/batch", content=body, headers=webhook_headers(SECRET, "batch-1", body))
    outcomes = answer.json()["outcomes"]
    assert (answer.status_code, [one["status"] for one in outcomes]) == (
        207,
        [200, 400, 200, 200, 200, 200, 200, 200, 429],
    )
    assert outcomes[3]["result"]["sent"] == 1
    assert outcomes[3]["result"]["outcomes"][1] == {"to": "nobody", "status": "failed", "reason": "no e-mail address"}
    again = await backend.http.post("/batch", content=body, headers=webhook_headers(SECRET, "batch-1", body))
    assert [one["replayed"] for one in again.json()["outcomes"]] == [True, False, *[True] * 6, False]


async def test_an_agents_calls_reach_it_once_although_it_is_killed_in_the_middle(
    shop: OpenShop, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOL_BACKEND", backend.url)
    monkeypatch.setenv("HANDFAST_SECRET_TOOL", SECRET)
    from examples.tool_backend.agent import clerk

    desk = await shop(clerk, ledger_url=f"sqlite:///{backend.folder / 'agent.db'}")
    backend.process.signal(signal.SIGSTOP)
    run = await desk.client.start("clerk", "Tell Ada", id=f"clerk-{uuid.uuid4()}")
    await until(lambda: run.operations())
    await asyncio.sleep(0.5)
    backend.process.signal(signal.SIGKILL)
    await backend.process.wait()
    backend.process = backend.start()

    async def waiting() -> Any:
        return (await run.state()).waiting

    [email] = await until(waiting, seconds=40)
    assert email.show == "ada@example.com Your order"
    await run.decide(email.operation, approve=True, by="a person")
    result = await run.result()
    assert [operation.outcome for operation in result.operations] == [Outcome.SUCCEEDED] * 2
    assert result.operations[0].result == {"ticket": 1, "priority": "high"}
    assert backend.outbox == 1
