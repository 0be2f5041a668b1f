"""Keys and headers that no request can carry: told as such, never the service's failure."""

import json
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from handfast import Effect, Outcome, Tier, ToolContext, ToolError, ask, tool
from handfast.contracts.circuit import Circuit, CircuitPolicy
from handfast.contracts.credentials import FileSecrets, VaultSecrets, VaultToken
from handfast.contracts.http_fields import control_fault, name_fault, value_fault
from handfast.contracts.upstream import ApiKey, Upstream
from handfast.ledger import Ledger
from handfast.tools.credentials import Credentials, Wanted
from handfast.tools.http import Caller, Upstreams
from handfast.tools.lease import Lease
from handfast.tools.sends import Sends
from tests.conftest import OpenShop
from tests.effects.agents import agent, ended
from tests.loopback import Loopback, answer_json, body_of


class Service(Loopback):
    def __init__(self) -> None:
        self.keys: list[str | None] = []
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body_of(request)
        self.keys.append(request.headers["Authorization"])
        answer_json(request, 200, {})

    @property
    def upstreams(self) -> dict[str, Upstream]:
        return {"s": Upstream(base_url=self.url, auth=ApiKey(secret="s"), circuit=CircuitPolicy(failures=1))}


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as made:
        yield made


@pytest.mark.parametrize(
    "key", ["key-12345678\n", "key-12345678\r\n", "\nkey-12345678", " key-12345678 ", "key-12345678\t\n\n"]
)
async def test_spaces_and_line_breaks_around_a_key_are_not_part_of_it(
    service: Service, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("HANDFAST_SECRET_S", key)
    upstreams = Upstreams(service.upstreams)
    await upstreams.client("s", Sends("op")).post("/")
    assert service.keys == ["Bearer key-12345678"]
    await upstreams.close()


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("key-1234\n5678", "a line break"),
        ("key-1234\r5678", "a line break"),
        ("key-1234\x075678", "a control character"),
        ("key-1234\x7f5678", "a control character"),
        ("schlüssel-5678", "a character outside ASCII"),
        ("ключ-12345678", "a character outside ASCII"),
        ("\ufeffkey-12345678", "a character outside ASCII"),
        ("   ", "nothing but spaces"),
    ],
)
async def test_a_key_that_can_be_no_header_fails_the_call_at_once_and_opens_no_circuit(
    shop: OpenShop, service: Service, monkeypatch: pytest.MonkeyPatch, key: str, why: str
) -> None:
    """RFC 9110, section 5.5."""
    monkeypatch.setenv("HANDFAST_SECRET_S", key)
    tried: list[int] = []

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def pay(ctx: ToolContext) -> str:
        """Pay."""
        tried.append(ctx.attempt)
        await ctx.http("s").post("/")
        return "paid"

    desk = await shop(agent(ask("pay"), "done", tools=[pay]), upstreams=service.upstreams)
    operation = await ended(await desk.client.start("tester", "Go", id=f"key-{uuid.uuid4()}"))
    assert (operation.outcome, operation.result["code"], tried) == (Outcome.FAILED, "authentication_failed", [1])
    assert why in operation.result["message"]
    assert operation.result["hint"].startswith("an operator must correct the secret")
    assert not key.strip() or key.strip() not in json.dumps(operation.result, ensure_ascii=False)
    assert (await desk.ledger.shared.read_circuit("s", "default"), service.keys) == (Circuit(), [])


async def test_a_secret_that_an_author_puts_into_a_header_is_told_as_the_operators(service: Service) -> None:
    upstreams = Upstreams({"s": Upstream(base_url=service.url, circuit=CircuitPolicy(failures=1))})
    caller = Caller(seen={"key-1234\n5678", "schlüssel-5678"})
    for key in caller.seen:
        with pytest.raises(ToolError) as raised:
            await upstreams.client("s", Sends("op"), caller).post("/", headers={"x-api-key": f"k {key}"})
        error = raised.value
        assert (error.code, error.retryable, error.happened) == ("authentication_failed", False, "no")
        assert key not in f"{error} {error.hint}"
    assert service.keys == []
    await upstreams.close()


@pytest.mark.parametrize(
    "request_",
    [
        {"headers": {"x-note": "two\nlines"}},
        {"headers": {"x-note": "ü"}},
        {"headers": {"two words": "x"}},
        {"headers": {"x-note": " spaces "}},
        {"url": "/\x00"},
        {"json": {"x": float("nan")}},
        {"json": {1, 2}},
    ],
    ids=repr,
)
async def test_a_request_that_can_not_be_made_or_sent_is_its_authors_fault_and_surely_did_not_happen(
    tmp_path: Path, service: Service, request_: dict[str, object]
) -> None:
    ledger = Ledger.connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    await ledger.migrate()
    upstream = Upstream(base_url=service.url, circuit=CircuitPolicy(failures=1))
    upstreams = Upstreams({"s": upstream}, circuits=ledger.shared)
    for lease in (None, Lease(30)):
        for method in ("GET", "POST"):
            sends = Sends("op", lease=lease)
            given: dict[str, object] = {"url": "/", **request_}
            with pytest.raises(ToolError, match="can't be") as raised:
                await upstreams.client("s", sends).request(method, **given)  # type: ignore[arg-type]
            error = raised.value
            assert (error.code, error.retryable, error.happened or "no") == ("tool_failed", False, "no")
            assert sends.acted is False
    await upstreams.client("s", Sends("op")).post("/")
    assert (await ledger.shared.read_circuit("s", "default"), len(service.keys)) == (Circuit(), 1)
    await upstreams.close()
    await ledger.close()


async def test_a_body_that_is_longer_than_it_says_is_not_the_services_failure_but_may_have_acted(
    tmp_path: Path, service: Service
) -> None:
    """Its head has gone out when the connection refuses the rest of it (RFC 9112, section 6.2)."""
    ledger = Ledger.connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    await ledger.migrate()
    upstream = Upstream(base_url=service.url, circuit=CircuitPolicy(failures=1))
    upstreams = Upstreams({"s": upstream}, circuits=ledger.shared)
    with pytest.raises(ToolError, match="can't be sent") as raised:
        await upstreams.client("s", Sends("op")).post("/", content=b"long", headers={"content-length": "1"})
    assert (raised.value.happened, raised.value.code) == ("unknown", "unavailable")
    assert await ledger.shared.read_circuit("s", "default") == Circuit()
    await upstreams.close()
    await ledger.close()


async def test_a_probe_that_was_not_sent_leaves_its_place_to_the_next_request(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The circuit is half-open, and the key of the first request is unusable: nothing is known of the service by that."""
    ledger = Ledger.connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    await ledger.migrate()
    await ledger.shared.change_circuit("s", "default", lambda _, now: (Circuit(failures=1, opened_at=1), now))
    upstreams = Upstreams(service.upstreams, circuits=ledger.shared)
    monkeypatch.setenv("HANDFAST_SECRET_S", "key-1234\n5678")
    with pytest.raises(ToolError, match="can't be signed in to"):
        await upstreams.client("s", Sends("op")).get("/")
    monkeypatch.setenv("HANDFAST_SECRET_S", "key-12345678")
    await upstreams.client("s", Sends("op")).get("/")
    assert (await ledger.shared.read_circuit("s", "default")).successes == 1
    await upstreams.close()
    await ledger.close()


@pytest.mark.parametrize(
    "settings_",
    [
        {"headers": {"x-key": "a\nb"}},
        {"headers": {"x key": "a"}},
        {"headers": {"x-key": "ü"}},
        {"headers": {"x-key": "a "}},
        {"version": "2026\n"},
        {"version_header": "Api Version"},
        {"auth": {"kind": "api_key", "secret": "s", "header": "X Key"}},
        {"auth": {"kind": "api_key", "secret": "s", "prefix": "Schlüssel "}},
    ],
    ids=repr,
)
def test_settings_that_no_request_could_carry_are_refused_when_they_are_read(settings_: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"can't be sent|is not the name of an HTTP field"):
        Upstream.model_validate({"base_url": "https://x", **settings_})


async def test_every_place_for_secrets_leaves_line_breaks_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s").write_text("\nkey-12345678\r\n\n")
    assert await Credentials(FileSecrets(folder=tmp_path)).read(Wanted("s")) == "key-12345678"
    monkeypatch.setenv("HANDFAST_SECRET_S", "two\nlines\n")
    assert await Credentials().read(Wanted("s")) == "two\nlines"
    monkeypatch.setenv("HANDFAST_SECRET_S", "\r\n")
    with pytest.raises(ToolError, match="no secret 's'"):
        await Credentials().read(Wanted("s"))


@pytest.mark.parametrize(
    ("auth", "code", "message"),
    [
        ({"client_token": None}, "unavailable", "no header can hold"),
        ({"client_token": ""}, "unavailable", "no header can hold"),
        ({"client_token": 17}, "unavailable", "no header can hold"),
        ({"client_token": "a\nb"}, "unavailable", "no header can hold"),
        ({}, "unavailable", "with no token"),
        (None, "unavailable", "with no token"),
        ([], "unavailable", "with no token"),
    ],
    ids=repr,
)
async def test_a_sign_in_at_vault_without_a_token_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, auth: object, code: str, message: str
) -> None:
    answers: list[object] = [auth, {"client_token": "t-12345678", "lease_duration": "soon"}]

    def answer(request: BaseHTTPRequestHandler) -> None:
        body_of(request)
        signing_in = request.path.startswith("/v1/auth")
        told = {"auth": answers.pop(0)} if signing_in else {"data": {"data": {"s": "key-12345678\n"}}}
        answer_json(request, 200, told)

    monkeypatch.setenv("VAULT_SECRET_ID", "id-12345678\n")
    with Loopback(answer) as vault:
        role = {"kind": "approle", "role_id": "agents"}
        credentials = Credentials(VaultSecrets.model_validate({"address": vault.url, "auth": role}))
        with pytest.raises(ToolError, match=message) as raised:
            await credentials.read(Wanted("s"))
        assert (raised.value.code, raised.value.retryable, raised.value.happened) == (code, True, "no")
        assert await credentials.read(Wanted("s")) == "key-12345678"
        await credentials.close()


async def test_a_vault_token_that_can_be_no_header_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Credentials(VaultSecrets(address="http://127.0.0.1:1", auth=VaultToken()))
    monkeypatch.setenv("VAULT_TOKEN", "t-1234\n5678")
    with pytest.raises(ToolError, match="token for Vault can't be sent: it holds a line break") as raised:
        await credentials.read(Wanted("s"))
    assert (raised.value.code, raised.value.retryable, raised.value.happened) == ("authentication_failed", False, "no")
    await credentials.close()


@settings(max_examples=400)
@given(st.text(max_size=30))
def test_what_has_no_fault_can_be_sent(value: str) -> None:
    """RFC 9110, section 5.5, held against the library that writes the bytes."""
    import h11

    try:
        httpx.Headers({"x-key": value})
        h11.Request(method="GET", target="/", headers=[("host", "x"), ("x-key", value)])
    except (h11.LocalProtocolError, UnicodeEncodeError):
        assert value_fault(value)
    assert not value_fault(value) or control_fault(value) or not value.isascii()


@settings(max_examples=300)
@given(st.text(max_size=10) | st.text(alphabet="abc-_!#:", max_size=8))
def test_what_is_the_name_of_a_field_can_be_sent(name: str) -> None:
    """RFC 9110, sections 5.1 and 5.6.2."""
    import h11

    try:
        h11.Request(method="GET", target="/", headers=[("host", "x"), (name, "1")])
    except (h11.LocalProtocolError, UnicodeEncodeError):
        if name.lower() not in {"host", "content-length", "transfer-encoding"}:
            assert name_fault(name)
    else:
        assert not name_fault(name)
