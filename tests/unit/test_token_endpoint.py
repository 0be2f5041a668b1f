"""Token endpoints as they really answer (RFC 6749, section 5): only a usable token is kept, and a call waits for the next try."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from handfast import Effect, Outcome, Tier, ToolContext, ToolError, ask, tool
from handfast.contracts.upstream import OAuth2, Upstream
from handfast.tools.http import Upstreams
from handfast.tools.sends import Sends
from tests.conftest import OpenShop
from tests.effects.agents import agent, ended
from tests.loopback import Loopback, body_of

GOOD: dict[str, Any] = {"access_token": "tok-12345678", "token_type": "bearer", "expires_in": 3600}


class Issuer(Loopback):
    """A token endpoint with planned answers, the last of them again and again, and a service that wants a bearer token."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes, dict[str, str]]] = []
        self.asked = 0
        self.called: list[str] = []
        super().__init__(self._answer)

    def plan(self, *answers: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Bytes are a body as it is, everything else is JSON."""
        for answer in answers:
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.answers.append((status, body, headers or {}))

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body_of(request)
        if request.path == "/token":
            self.asked += 1
            status, body, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        else:
            self.called.append(request.headers["Authorization"])
            status, body, headers = 200, b"{}", dict[str, str]()
        request.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    @property
    def upstreams(self) -> dict[str, Upstream]:
        auth = OAuth2(token_url=f"{self.url}/token", client_id="client", secret="pay")
        return {"s": Upstream(base_url=self.url, auth=auth)}


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    monkeypatch.setenv("HANDFAST_SECRET_PAY", "s3cret-of-the-client")
    with Issuer() as made:
        yield made


NO_TOKENS: list[Any] = [
    {"message": "maintenance"},
    {},
    {"access_token": None},
    {"access_token": ""},
    {"access_token": "   "},
    {"access_token": 17},
    {"access_token": ["t"]},
    {"access_token": {"value": "t"}},
    {"access_token": True},
    {"access_token": "two\nlines-12345678"},
    {"access_token": "with space"},
    {"access_token": "nul\x00-12345678"},
    {"access_token": "schlüssel-12345678"},
    {"access_token": "half-\ud83d-emoji"},
    {"error": "server_error"},
    {"error": "temporarily_unavailable", "access_token": "tok-12345678"},
    {"error": "maintenance"},
    {"error": {"message": "down"}},
    {"error": True},
    [],
    None,
    "tok-12345678",
    17,
    b"",
    b"<html>login</html>",
    b"\xff\xfe",
    b"{",
    b"[" * 100_000,
    b'{"access_token": "' + b"x" * 2_000_000 + b'"}',
]


@pytest.mark.parametrize("answer", NO_TOKENS, ids=lambda answer: repr(answer)[:40])
async def test_an_answer_without_a_token_is_tried_again_and_nothing_of_it_is_kept(issuer: Issuer, answer: Any) -> None:
    """RFC 6749, sections 5.1 and 5.2, and appendix A.12."""
    issuer.plan(answer, answer, GOOD)
    upstreams = Upstreams(issuer.upstreams)
    sends = Sends("op")
    for _ in range(2):
        with pytest.raises(ToolError, match="the token endpoint of s") as raised:
            await upstreams.client("s", sends).post("/pay")
        error = raised.value
        assert (error.code, error.retryable, error.happened, sends.acted) == ("unavailable", True, "no", False)
    await upstreams.client("s", sends).post("/pay")
    assert (issuer.asked, issuer.called) == (3, ["Bearer tok-12345678"])
    await upstreams.close()


@pytest.mark.parametrize(
    ("status", "answer", "code", "retryable", "wait"),
    [
        (400, {"error": "invalid_client"}, "authentication_failed", False, None),
        (401, b"", "authentication_failed", False, None),
        (403, b"<html>", "authentication_failed", False, None),
        (400, {"error": "access_denied"}, "authentication_failed", False, None),
        (200, {"error": "invalid_client"}, "authentication_failed", False, None),
        (200, {"error": "invalid_scope", "access_token": "tok-12345678"}, "authentication_failed", False, None),
        (200, {**GOOD, "token_type": "mac"}, "authentication_failed", False, None),
        (400, {"error": "temporarily_unavailable"}, "unavailable", True, 9.0),
        (404, b"", "unavailable", True, 9.0),
        (302, b"", "unavailable", True, 9.0),
        (429, b"", "rate_limited", True, 9.0),
        (503, b"<html>", "unavailable", True, 9.0),
        (500, GOOD, "unavailable", True, 9.0),
    ],
)
async def test_a_refusal_of_the_client_is_final_and_everything_else_is_tried_again(
    issuer: Issuer, status: int, answer: Any, code: str, retryable: bool, wait: float | None
) -> None:
    """RFC 6749, sections 5.2 and 7.1; RFC 9110, section 10.2.3."""
    issuer.plan(answer, status=status, headers={"retry-after": "9", "location": "/elsewhere"})
    upstreams = Upstreams(issuer.upstreams)
    with pytest.raises(ToolError) as raised:
        await upstreams.client("s", Sends("op")).post("/pay")
    error = raised.value
    assert (error.code, error.retryable, error.happened, error.retry_after) == (code, retryable, "no", wait)
    assert "s3cret" not in f"{error} {error.hint}"
    assert issuer.called == []
    await upstreams.close()


@pytest.mark.parametrize(
    ("expires", "fetched"),
    [
        (3600, 1), ("3600", 1), (None, 1), ("soon", 1), (True, 1), ([], 1), (10**400, 1), (0, 2), (-5, 2), ("-1", 2),
        (b'{"access_token": "tok-12345678", "expires_in": NaN}', 1),
        (b'{"access_token": "tok-12345678", "expires_in": 1e999}', 1),
        (b'{"access_token": "tok-12345678", "token_type": null}', 1),
    ],
    ids=lambda value: repr(value)[:60],
)  # fmt: skip
async def test_a_lifetime_that_can_not_be_understood_does_not_keep_a_token_from_being_used(
    issuer: Issuer, expires: Any, fetched: int
) -> None:
    """RFC 6749, section 5.1: `expires_in` is optional. What is over already is good for the request that waited for it."""
    issuer.plan(expires if isinstance(expires, bytes) else {**GOOD, "expires_in": expires})
    upstreams = Upstreams(issuer.upstreams)
    for _ in range(2):
        await upstreams.client("s", Sends("op")).get("/")
    assert (issuer.asked, issuer.called) == (fetched, ["Bearer tok-12345678"] * 2)
    await upstreams.close()


async def test_a_token_with_a_line_break_behind_it_is_sent_without(issuer: Issuer) -> None:
    issuer.plan({**GOOD, "access_token": "tok-12345678\n"})
    upstreams = Upstreams(issuer.upstreams)
    await upstreams.client("s", Sends("op")).get("/")
    assert issuer.called == ["Bearer tok-12345678"]
    await upstreams.close()


async def test_a_secret_of_any_letters_can_sign_in(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7617, section 2.1: what Basic carries is UTF-8."""
    monkeypatch.setenv("HANDFAST_SECRET_PAY", "schlüssel-日本-12345678\n")
    issuer.plan(GOOD)
    upstreams = Upstreams(issuer.upstreams)
    await upstreams.client("s", Sends("op")).get("/")
    assert issuer.asked == 1
    await upstreams.close()


async def test_a_call_goes_on_when_the_token_endpoint_is_back(shop: OpenShop, issuer: Issuer) -> None:
    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def pay(ctx: ToolContext) -> str:
        """Pay."""
        await ctx.http("s").post("/pay")
        return "paid"

    issuer.plan({"message": "maintenance"}, {"access_token": None}, GOOD)
    desk = await shop(agent(ask("pay"), "done", tools=[pay]), upstreams=issuer.upstreams)
    operation = await ended(await desk.client.start("tester", "Go", id="maintenance"))
    assert (operation.outcome, operation.attempts) == (Outcome.SUCCEEDED, 3)
    assert issuer.called == ["Bearer tok-12345678"]
