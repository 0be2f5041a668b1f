"""Secrets by tenant and scope: variables, files, and a Vault that speaks HashiCorp's protocol on loopback."""

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from typer.testing import CliRunner

from handfast import ToolError
from handfast.client.cli.app import app as commands
from handfast.contracts.credentials import (
    EnvironmentSecrets,
    FileSecrets,
    OwnSecrets,
    Secrets,
    VaultAppRole,
    VaultKubernetes,
    VaultSecrets,
    VaultToken,
    places_of,
)
from handfast.contracts.errors import ErrorCode, SettingsError
from handfast.engine.embedded import free_port
from handfast.tools.credentials import Credentials, SecretsProvider, Wanted
from handfast.tools.credentials.local import variable_of
from handfast.tools.credentials.paths import segment
from tests.loopback import Loopback, answer_json, body_of

PAY = Wanted("pay", "acme", "payments:refund")


async def missing(credentials: Credentials, wanted: Wanted) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await credentials.read(wanted)
    assert caught.value.happened == "no"
    return caught.value


def test_the_tenants_own_comes_first_and_the_whole_scope_before_its_beginning() -> None:
    own = [("acme", "payments:refund"), ("acme", "payments"), ("acme", "")]
    for_all = [("", "payments:refund"), ("", "payments"), ("", "")]
    assert list(places_of(PAY, shared=True)) == own + for_all
    assert list(places_of(PAY, shared=False)) == own
    assert list(places_of(Wanted("ops"), shared=False)) == [("", "")]


async def test_variables_are_by_tenant_and_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Credentials()
    for variable, value in (
        ("HANDFAST_SECRET_PAY", "for all"),
        ("HANDFAST_SECRET_PAY__SCOPE_PAYMENTS", "for payments"),
        ("HANDFAST_SECRET_PAY__TENANT_ACME", "acme's"),
        ("HANDFAST_SECRET_PAY__TENANT_ACME__SCOPE_PAYMENTS_REFUND", "acme's for refunds"),
    ):
        monkeypatch.setenv(variable, value)
    assert await credentials.read(PAY) == "acme's for refunds"
    assert await credentials.read(PAY._replace(scope="payments:read")) == "acme's"
    assert await credentials.read(PAY._replace(tenant="other")) == "for payments"
    assert await credentials.read(Wanted("pay", "other", "mail")) == "for all"


async def test_a_tenant_without_its_own_gets_nothing_where_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFAST_SECRET_PAY", "for all")
    monkeypatch.setenv("HANDFAST_SECRET_PAY__TENANT_ACME", "acme's")
    credentials = Credentials(EnvironmentSecrets(shared=False))
    assert await credentials.read(PAY) == "acme's"
    error = await missing(credentials, PAY._replace(tenant="other"))
    assert str(error) == "this worker has no secret 'pay' for tenant 'other'"
    assert error.hint == "an operator must set HANDFAST_SECRET_PAY__TENANT_OTHER for the workers that serve this tool"
    assert await credentials.read(Wanted("pay")) == "for all"
    unnameable = await missing(credentials, PAY._replace(tenant="ACME"))
    assert "no variable can name tenant 'ACME'" in unnameable.hint


async def test_no_tenant_and_no_name_gets_the_variable_of_another_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFAST_SECRET_PAY__TENANT_ACME", "acme's")
    monkeypatch.setenv("HANDFAST_SECRET_PAY__TENANT_ACME__SCOPE_MAIL", "acme's for mail")
    credentials = Credentials()
    for tenant in ("ACME", "Acme", "acme__scope_mail", "acme-", "acme.", "", "acme\n"):
        await missing(credentials, Wanted("pay", tenant))
    for name in ("pay__tenant_acme", "PAY__Tenant_ACME", "pay__tenant_acme__scope_mail"):
        await missing(credentials, Wanted(name, "other"))


@given(st.text(max_size=12), st.text(max_size=12))
def test_no_two_tenants_have_the_same_variable(one: str, other: str) -> None:
    from handfast.contracts.credentials import Place

    first, second = (variable_of("pay", Place(tenant)) for tenant in (one, other))
    assert one == other or not first or first != second


async def test_files_are_by_tenant_and_scope_and_read_anew(tmp_path: Path) -> None:
    credentials = Credentials(FileSecrets(folder=tmp_path))
    error = await missing(credentials, PAY)
    assert error.hint == f"an operator must mount {tmp_path}/pay for the workers that serve this tool"
    for path, value in (
        ("pay", "for all\n"),
        ("tenants/acme/pay", "acme's"),
        ("tenants/acme/scopes/payments.refund/pay", "acme's for refunds\r\n"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(value)
    assert await credentials.read(PAY) == "acme's for refunds"
    assert await credentials.read(PAY._replace(scope="payments")) == "acme's"
    assert await credentials.read(PAY._replace(tenant="other")) == "for all"
    (tmp_path / "pay").write_text("rotated")
    assert await credentials.read(PAY._replace(tenant="other")) == "rotated"


async def test_no_tenant_reads_outside_of_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "pay").write_text("for all")
    (tmp_path / "tenants" / "acme").mkdir(parents=True)
    (tmp_path / "tenants" / "acme" / "pay").write_text("acme's")
    credentials = Credentials(FileSecrets(folder=tmp_path, shared=False))
    for tenant in ("..", ".", "../tenants/acme", "acme/../acme", "/acme", "x/../acme", "acme\0", "a" * 300, "acme/"):
        await missing(credentials, Wanted("pay", tenant))
    for name in ("../acme/pay", "..", "", "/etc/passwd"):
        await missing(credentials, Wanted(name, "acme"))


@given(st.text(max_size=20))
def test_a_name_is_one_step_of_a_path_or_none(name: str) -> None:
    step = segment(name)
    assert step is None or ("/" not in step and "\\" not in step and "\0" not in step and step not in {".", "..", ""})


async def test_a_file_that_can_not_be_read_is_worth_another_attempt(tmp_path: Path) -> None:
    (tmp_path / "pay").write_bytes(b"\xff\xfe")
    error = await missing(Credentials(FileSecrets(folder=tmp_path)), Wanted("pay"))
    assert (error.code, error.retryable) == (ErrorCode.UNAVAILABLE, True)
    assert str(tmp_path / "pay") in error.hint


class Vault(Loopback):
    """A KV engine behind sign-ins. Each token may read only below some paths, and lives for a while."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {
            "handfast/shared": {"pay": "for all", "number": 7},
            "handfast/tenants/acme": {"pay": "acme's"},
            "handfast/tenants/acme/scopes/payments.refund": {"pay": "acme's for refunds"},
            "handfast/tenants/secretive": {"pay": "hidden"},
        }
        self.allowed = ("handfast/shared", "handfast/tenants/acme", "handfast/tenants/other")
        self.good = {"root"}
        self.lifetime = 3600
        self.asked: list[str] = []
        self.sign_ins: list[dict[str, str]] = []
        self.status = 0
        self.active = ""
        self.namespaces: set[str] = set()
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(body_of(request) or b"{}")
        self.namespaces.add(request.headers.get("x-vault-namespace", ""))
        if self.status:
            answer_json(request, self.status, {"errors": ["Vault is sealed"]})
        elif self.active:
            request.send_response(307)
            request.send_header("location", self.active + request.path)
            request.send_header("content-length", "0")
            request.end_headers()
        elif request.path.endswith("/login"):
            self._sign_in(request, body)
        else:
            self._read(request)

    def _sign_in(self, request: BaseHTTPRequestHandler, body: dict[str, str]) -> None:
        self.sign_ins.append({"path": request.path, **body})
        known = {"role_id": "r1", "secret_id": "s1"}, {"role": "worker", "jwt": "jwt1"}
        if body not in known:
            answer_json(request, 400, {"errors": ["invalid role or secret ID"]})
            return
        token = f"t{len(self.sign_ins)}"
        self.good.add(token)
        auth = {"client_token": token, "lease_duration": self.lifetime, "renewable": True}
        answer_json(request, 200, {"auth": auth})

    def _read(self, request: BaseHTTPRequestHandler) -> None:
        version, _, path = request.path.removeprefix("/v1/secret/").partition("/")
        if version != "data":
            path = f"{version}/{path}"
        self.asked.append(path)
        found = self.kept.get(path)
        if request.headers["x-vault-token"] not in self.good or not path.startswith(self.allowed):
            answer_json(request, 403, {"errors": ["permission denied"]})
        elif found is None:
            answer_json(request, 404, {"errors": []})
        else:
            data = {"data": found, "metadata": {"version": 1}} if version == "data" else found
            answer_json(request, 200, {"data": data})


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    monkeypatch.setenv("VAULT_TOKEN", "root")
    monkeypatch.setenv("VAULT_SECRET_ID", "s1")
    with Vault() as made:
        yield made


async def test_vault_has_secrets_by_tenant_and_scope(vault: Vault) -> None:
    credentials = Credentials(VaultSecrets(address=vault.url + "/", namespace="team"))
    assert await credentials.read(PAY) == "acme's for refunds"
    assert await credentials.read(PAY._replace(scope="payments")) == "acme's"
    assert await credentials.read(PAY._replace(tenant="other")) == "for all"
    assert vault.namespaces == {"team"}
    error = await missing(credentials, Wanted("none", "acme"))
    assert error.hint == "an operator must add 'none' to secret/handfast/shared in Vault, and let this worker read it"
    assert "is no text in Vault" in str(await missing(credentials, Wanted("number")))
    await credentials.close()


async def test_what_vault_does_not_let_a_worker_read_is_not_there(vault: Vault) -> None:
    credentials = Credentials(VaultSecrets(address=vault.url, shared=False))
    await missing(credentials, Wanted("pay", "secretive"))
    for tenant in ("..", "../acme", "acme/", "x/../acme", "%2e%2e/acme", "acme?", "acme#"):
        await missing(credentials, Wanted("pay", tenant))
    assert not {path for path in vault.asked if ".." in path.split("/")}
    await credentials.close()


async def test_vault_is_asked_once_for_a_while_by_all_calls_at_once(vault: Vault) -> None:
    credentials = Credentials(VaultSecrets(address=vault.url, keep_seconds=60))
    found = await asyncio.gather(*(credentials.read(PAY) for _ in range(20)))
    assert (set(found), vault.asked) == ({"acme's for refunds"}, ["handfast/tenants/acme/scopes/payments.refund"])
    await credentials.close()
    anew = Credentials(VaultSecrets(address=vault.url, keep_seconds=0))
    assert await anew.read(PAY) == "acme's for refunds"
    vault.kept["handfast/tenants/acme/scopes/payments.refund"] = {"pay": "rotated"}
    assert await anew.read(PAY) == "rotated"
    await anew.close()


async def test_an_app_role_signs_in_once_and_again_when_its_token_ends(vault: Vault, tmp_path: Path) -> None:
    credentials = Credentials(VaultSecrets(address=vault.url, auth=VaultAppRole(role_id="r1"), keep_seconds=0))
    await asyncio.gather(*(credentials.read(Wanted("pay", tenant)) for tenant in ("acme", "other", "")))
    assert vault.sign_ins == [{"path": "/v1/auth/approle/login", "role_id": "r1", "secret_id": "s1"}]
    vault.good.clear()
    assert await credentials.read(PAY) == "acme's for refunds"
    assert len(vault.sign_ins) == 2
    await credentials.close()
    vault.lifetime = 0
    file = tmp_path / "jwt"
    file.write_text("jwt1\n")
    pod = Credentials(VaultSecrets(address=vault.url, auth=VaultKubernetes(role="worker", token_file=file)))
    assert await pod.read(PAY) == "acme's for refunds"
    assert vault.sign_ins[2] == {"path": "/v1/auth/kubernetes/login", "role": "worker", "jwt": "jwt1"}
    await pod.close()


async def test_a_sign_in_that_vault_refuses_says_so_and_tells_no_secret(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VAULT_SECRET_ID", "wrong-secret-id")
    refused = await missing(Credentials(VaultSecrets(address=vault.url, auth=VaultAppRole(role_id="r1"))), PAY)
    assert (refused.code, refused.retryable) == (ErrorCode.AUTHENTICATION_FAILED, False)
    assert "wrong-secret-id" not in f"{refused} {refused.hint}"
    file = tmp_path / "token"
    none = await missing(Credentials(VaultSecrets(address=vault.url, auth=VaultToken(file=file))), PAY)
    assert "token for Vault can't be read" in str(none)
    monkeypatch.delenv("VAULT_TOKEN")
    unset = await missing(Credentials(VaultSecrets(address=vault.url)), PAY)
    assert (str(unset), unset.hint) == ("this worker has no token for Vault", "an operator must set VAULT_TOKEN")


async def test_a_vault_that_is_away_or_sealed_is_worth_another_attempt(vault: Vault) -> None:
    away = await missing(Credentials(VaultSecrets(address=f"http://127.0.0.1:{free_port()}")), PAY)
    vault.status = 503
    sealed = await missing(Credentials(VaultSecrets(address=vault.url)), PAY)
    for error, why in ((away, "does not answer"), (sealed, "answered 503")):
        assert (error.code, error.retryable) == (ErrorCode.UNAVAILABLE, True)
        assert why in str(error)


async def test_a_standby_node_sends_to_the_active_one(vault: Vault) -> None:
    with Vault() as standby:
        standby.active = vault.url
        credentials = Credentials(VaultSecrets(address=standby.url))
        assert await credentials.read(PAY) == "acme's for refunds"
        await credentials.close()


async def test_the_first_version_of_the_engine_is_read_too(vault: Vault) -> None:
    credentials = Credentials(VaultSecrets(address=vault.url, version=1))
    assert await credentials.read(PAY) == "acme's for refunds"
    await credentials.close()
    wrong = Credentials(VaultSecrets(address=vault.url, mount="secret/data", version=2))
    await missing(wrong, PAY)
    await wrong.close()


class OfMine(SecretsProvider):
    async def read(self, wanted: Wanted) -> str | None:
        if wanted.name == "broken":
            raise RuntimeError("the password is hunter2hunter2")
        return f"{wanted.tenant}/{wanted.scope}" if wanted.name == "pay" else None


mine = OfMine()
nothing = object()


async def test_a_provider_of_ones_own_is_found_by_its_name() -> None:
    for name in ("mine", "OfMine"):
        credentials = Credentials(OwnSecrets(provider=f"{__name__}:{name}"))
        assert await credentials.read(PAY) == "acme/payments:refund"
        assert "tenant 'acme'" in (await missing(credentials, PAY._replace(name="none"))).hint
        broken = await missing(credentials, PAY._replace(name="broken"))
        assert (str(broken), broken.retryable) == ("the secrets of this worker can't be read (RuntimeError)", True)
    for name, why in (("nowhere:x", "can't be imported"), (f"{__name__}:PAY", "is a Wanted, not a SecretsProvider")):
        with pytest.raises(SettingsError, match=why):
            Credentials(OwnSecrets(provider=name))


def test_settings_of_secrets_say_what_is_wrong_with_them() -> None:
    read = TypeAdapter[Secrets](Secrets).validate_python
    for wrong, why in (
        ({"kind": "vault", "address": "vault:8200"}, "write https://HOST:PORT"),
        ({"kind": "vault"}, "address"),
        ({"kind": "aws"}, "'environment', 'files', 'vault', 'own'"),
        ({"kind": "own", "provider": "no colon"}, "provider"),
        ({"kind": "files", "folder": "/x", "extra": 1}, "extra"),
    ):
        with pytest.raises(ValidationError, match=why):
            read(wrong)


def test_what_is_missing_is_told_before_anybody_calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "paying.py").write_text(
        "from handfast import Agent, Effect, Endpoint, Script, Tier, ToolContext, tool\n"
        "@tool(version='1.0.0', effect=Effect.READ, tier=Tier.READ_ONLY, scope='payments:read', secrets=('one', 'two'),\n"
        "      endpoints=(Endpoint(upstream='pay', method='GET', path='/x'),))\n"
        "async def look(ctx: ToolContext) -> str:\n"
        "    '''Look.'''\n"
        "    return ''\n"
        "agent = Agent(name='a', model=Script(['x']), instructions='x', tools=[look])\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    auth = {"kind": "oauth2", "token_url": "https://x/token", "client_id_secret": "client", "secret": "pay"}
    monkeypatch.setenv("HANDFAST_UPSTREAMS", json.dumps({"pay": {"base_url": "https://x", "auth": auth}}))
    for name in ("one", "pay__SCOPE_PAYMENTS", "two__TENANT_ACME", "client"):
        monkeypatch.setenv(f"HANDFAST_SECRET_{name.upper()}", "the-value-itself")
    whole = CliRunner().invoke(commands, ["tools", "secrets", "paying:agent", "--tenant", "acme"])
    assert (whole.exit_code, whole.output.count("is there")) == (0, 4)
    lacking = CliRunner().invoke(commands, ["tools", "secrets", "paying:agent", "--tenant", "other"])
    told = " ".join(lacking.output.split())
    assert (lacking.exit_code, told.count("is there")) == (1, 3)
    assert "this worker has no secret 'two' for tenant 'other'; an operator must set HANDFAST_SECRET_TWO for" in told
    assert "the-value-itself" not in whole.output + lacking.output
