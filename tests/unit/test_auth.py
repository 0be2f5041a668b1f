"""Signing in: OAuth 2.0 client credentials against a real token endpoint, API keys, and what an owner hears of sunsets."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from handfast import ToolError
from handfast.contracts.errors import ErrorCode
from handfast.contracts.upstream import ApiKey, OAuth2, Upstream
from handfast.contracts.waits import rate_limit_reset_seconds
from handfast.engine.embedded import free_port
from handfast.ledger import Ledger
from handfast.tools.http import Caller, Upstreams
from handfast.tools.notices import Notices
from handfast.tools.sends import Sends
from tests.loopback import Loopback, answer_json, body_of


class Guarded(Loopback):
    """A service with a token endpoint. Tokens count up; only the newest is good."""

    def __init__(self) -> None:
        self.tokens: list[dict[str, list[str]]] = []
        self.lifetime = 3600
        self.good: set[str] = set()
        self.calls: list[tuple[str, str | None]] = []
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = body_of(request)
        if request.path != "/token":
            good = (request.headers["Authorization"] or "").removeprefix("Bearer ") in self.good
            self.calls.append((request.path, request.headers["Idempotency-Key"]))
            self._send(request, 200 if good else 401, b'{"detail": "who are you?"}')
            return
        self.tokens.append(parse_qs(body.decode()))
        if request.headers["Authorization"] != "Basic Y2xpZW50OnMzY3JldA==":
            self._send(request, 401, b'{"error": "invalid_client", "error_description": "got s3cret"}')
            return
        token = f"t{len(self.tokens)}"
        self.good = {token}
        told = {"access_token": token, "token_type": "bearer", "expires_in": self.lifetime}
        self._send(request, 200, json.dumps(told).encode())

    def _send(self, request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        time.sleep(0.02)
        request.send_response(status)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def upstreams(self, **more: Any) -> Upstreams:
        auth = OAuth2(token_url=f"{self.url}/token", client_id="client", secret="pay", **more)
        return Upstreams({"s": Upstream(base_url=self.url, auth=auth)})


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    monkeypatch.setenv("HANDFAST_SECRET_PAY", "s3cret")
    with Guarded() as made:
        yield made


async def test_many_calls_at_once_fetch_one_token(service: Guarded) -> None:
    upstreams = service.upstreams(scope="pay:write", audience="https://pay.example")
    await asyncio.gather(*(upstreams.client("s", Sends(f"op{n}")).post("/pay") for n in range(10)))
    assert service.tokens == [
        {"grant_type": ["client_credentials"], "scope": ["pay:write"], "audience": ["https://pay.example"]}
    ]
    await upstreams.close()


async def test_a_token_is_renewed_before_it_expires_and_a_short_one_lives_half_its_life(service: Guarded) -> None:
    service.lifetime = 50
    upstreams = service.upstreams()
    client = upstreams.client("s", Sends("op"))
    await client.get("/")
    await client.get("/")
    assert len(service.tokens) == 1
    await upstreams.close()
    service.lifetime = 61
    upstreams = service.upstreams(renew_before_seconds=60)
    client = upstreams.client("s", Sends("op"))
    await client.get("/")
    assert len(service.tokens) == 2
    await upstreams.close()


async def test_a_token_that_was_revoked_is_renewed_once_and_the_request_keeps_its_key(service: Guarded) -> None:
    upstreams = service.upstreams()
    await upstreams.client("s", Sends("a")).get("/")
    service.good = set()
    sends = [Sends(f"op{n}") for n in range(5)]
    await asyncio.gather(*(upstreams.client("s", one).post("/pay", json={"n": 1}) for one in sends))
    assert len(service.tokens) == 2
    assert {key for path, key in service.calls if path == "/pay"} == {f"op{n}" for n in range(5)}
    await upstreams.close()


async def test_credentials_that_are_refused_for_good_fail_the_call_and_tell_no_secret(
    service: Guarded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HANDFAST_SECRET_PAY", "wrong")
    upstreams = service.upstreams()
    with pytest.raises(ToolError, match="s refused this worker's client credentials") as refused:
        await upstreams.client("s", Sends("op")).post("/pay")
    error = refused.value
    assert (error.code, error.retryable, error.happened) == (ErrorCode.AUTHENTICATION_FAILED, False, "no")
    assert "s3cret" not in f"{error} {error.hint} {(error.__context__ and error.__suppress_context__) or ''}"
    monkeypatch.delenv("HANDFAST_SECRET_PAY")
    with pytest.raises(ToolError, match="no secret 'pay'"):
        await upstreams.client("s", Sends("op")).post("/pay")
    assert "wrong" not in capsys.readouterr().out
    await upstreams.close()


async def test_a_token_endpoint_that_is_away_is_worth_another_attempt(
    service: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = OAuth2(token_url=f"http://127.0.0.1:{free_port()}/token", client_id="client", secret="pay")
    upstreams = Upstreams({"s": Upstream(base_url=service.url, auth=auth)})
    with pytest.raises(ToolError, match="token endpoint of s does not answer") as away:
        await upstreams.client("s", Sends("op")).post("/pay")
    assert (away.value.retryable, away.value.happened) == (True, "no")
    await upstreams.close()


async def test_a_key_is_sent_as_the_service_wants_it_and_is_not_renewed(
    service: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.good = {"s3cret"}
    upstreams = Upstreams({"s": Upstream(base_url=service.url, auth=ApiKey(secret="pay"))})
    await upstreams.client("s", Sends("op")).post("/pay")
    monkeypatch.setenv("HANDFAST_SECRET_PAY", "old")
    with pytest.raises(ToolError, match="answered 401"):
        await upstreams.client("s", Sends("op")).post("/pay")
    assert len(service.calls) == 2
    await upstreams.close()


@pytest.mark.parametrize("url", ["", "payments", "ftp://x", "https://"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="write https://HOST"):
        Upstream(base_url=url)


def test_two_ways_to_sign_in_are_refused() -> None:
    with pytest.raises(ValidationError, match="headers holds 'Authorization', which auth sends too"):
        Upstream(base_url="https://x", headers={"authorization": "Bearer 1"}, auth=ApiKey(secret="pay"))


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (['"default";r=0;t=30'], 30.0),
        (['"burst";r=0;t=3, "day";r=0;t=900'], 900.0),
        (['"burst";r=0;t=3', '"day";r=70;t=900'], 3.0),
        (['"default";r=5;t=30'], None),
        (['"default";r=0;t=999999999'], 3600.0),
        (['"default";r=0;t=-5'], None),
        (["nonsense", ""], None),
        ([], None),
    ],
)
def test_rate_limit_fields_say_when_a_quota_is_there_again(values: list[str], seconds: float | None) -> None:
    assert rate_limit_reset_seconds(values) == seconds


async def test_what_an_upstream_says_of_its_end_is_told_to_the_owner_once(tmp_path: Path) -> None:
    def ending(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("deprecation", "@1688169599")
        request.send_header("sunset", "Sun, 30 Jun 2030 23:59:59 GMT")
        request.send_header("link", '<https://pay.example/v2>; rel="deprecation"')
        request.send_header("content-length", "0")
        request.end_headers()

    ledger = Ledger.connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    await ledger.migrate()
    with Loopback(ending) as service:
        upstreams = Upstreams({"pay": Upstream(base_url=service.url)}, notices=Notices(ledger.shared))
        client = upstreams.client("pay", Sends("op"), Caller(tool="issue_refund", owner="payments@example"))
        await client.get("/")
        await client.get("/")
        await upstreams.close()
    again = Notices(ledger.shared)
    [told] = await ledger.shared.list_notices()
    assert (told.kind, told.subject, told.owner) == (
        "upstream_deprecated",
        "pay through issue_refund",
        "payments@example",
    )
    assert told.text == (
        "pay has deprecated what issue_refund uses since 2023-06-30 and removes it on 2030-06-30; "
        "see https://pay.example/v2"
    )
    await again.tell(told)
    [twice] = await ledger.shared.list_notices()
    assert (told.count, twice.count, twice.first_at) == (1, 2, told.first_at)
    await ledger.close()


async def test_each_tenant_signs_in_as_its_own_client_for_what_the_calls_scope_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str]] = []
    called: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        body, signed = parse_qs(body_of(request).decode()), request.headers["Authorization"]
        if request.path == "/token":
            asked.append((base64.b64decode(signed.removeprefix("Basic ")).decode(), body["scope"][0]))
            told = {"access_token": f"{asked[-1][0]}/{asked[-1][1]}", "token_type": "bearer", "expires_in": 3600}
        else:
            called.append(signed.removeprefix("Bearer "))
            told = {}
        answer_json(request, 200, told)

    for tenant in ("acme", "globex"):
        monkeypatch.setenv(f"HANDFAST_SECRET_CLIENT__TENANT_{tenant.upper()}", tenant)
        monkeypatch.setenv(f"HANDFAST_SECRET_PAY__TENANT_{tenant.upper()}", f"{tenant}-secret")
    with Loopback(answer) as service:
        scopes = {"pay:read": "read", "pay:*": "write"}
        auth = OAuth2(token_url=f"{service.url}/token", client_id_secret="client", secret="pay", scopes=scopes)
        upstreams = Upstreams({"s": Upstream(base_url=service.url, auth=auth)})
        for _ in range(2):
            for tenant, scope in (("acme", "pay:read"), ("acme", "pay:refund:write"), ("globex", "pay:read")):
                await upstreams.client("s", Sends("op"), Caller(tenant=tenant, scope=scope)).get("/")
        with pytest.raises(ToolError, match="no secret 'client' for tenant 'other'"):
            await upstreams.client("s", Sends("op"), Caller(tenant="other", scope="pay:read")).get("/")
        await upstreams.close()
    clients = [("acme:acme-secret", "read"), ("acme:acme-secret", "write"), ("globex:globex-secret", "read")]
    assert asked == clients
    assert called == [f"{client}/{scope}" for client, scope in clients] * 2


def test_a_client_is_named_once() -> None:
    both: list[dict[str, Any]] = [{}, {"client_id": "a", "client_id_secret": "b"}]
    for more in both:
        with pytest.raises(ValidationError, match="oauth2 takes client_id, or client_id_secret"):
            OAuth2(token_url="https://x", secret="pay", **more)
