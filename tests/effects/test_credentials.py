"""A call signs in with what belongs to its tenant and its scope, and nothing of that is written down anywhere."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from handfast import Effect, Outcome, Tier, ToolContext, ToolError, ask, tool
from handfast.contracts.credentials import FileSecrets, VaultSecrets
from handfast.contracts.tool import Tool
from handfast.contracts.upstream import ApiKey, Upstream
from tests.conftest import OpenShop
from tests.effects.agents import agent
from tests.loopback import Loopback, answer_json, body_of
from tests.unit.test_credentials import Vault


class Bank(Loopback):
    """A service that notes who has called, and says it again: in its answer, or in its error."""

    def __init__(self) -> None:
        self.callers: list[tuple[str, str]] = []
        self.status = 200
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body_of(request)
        key = request.headers.get("Authorization", "")
        self.callers.append((request.path, key))
        answer_json(request, self.status, {"detail": f"you are {key}", "key": key})


@pytest.fixture
def bank() -> Iterator[Bank]:
    with Bank() as made:
        yield made


def tools() -> list[Tool]:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="bank:pay:write")
    async def pay(ctx: ToolContext) -> dict[str, Any]:
        """Pay."""
        reply = await ctx.http("bank").post("/pay", json={})
        told: dict[str, Any] = reply.json()
        return told

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="bank:read", secrets=("bank",))
    async def look(ctx: ToolContext) -> str:
        """Look."""
        await ctx.http("bank").get("/look")
        raise ToolError(f"refused {ctx.secret('bank')}", fields={"who": f"{ctx.secret('bank')} is not known"})

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="bank:read", secrets=("bank",))
    def stumble(ctx: ToolContext) -> str:
        """Stumble."""
        raise RuntimeError(f"could not use {ctx.secret('bank')}")

    return [pay, look, stumble]


UPSTREAM = ApiKey(secret="bank", prefix="")
VALUES = ("acme-pay-key-1", "acme-look-key-1", "globex-key-1", "shared-key-1")


def kept(folder: Path) -> FileSecrets:
    for path, value in (
        ("tenants/acme/scopes/bank.pay/bank", VALUES[0]),
        ("tenants/acme/bank", VALUES[1]),
        ("tenants/globex/bank", VALUES[2]),
        ("bank", VALUES[3]),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(value)
    return FileSecrets(folder=folder)


def ledger_of(folder: Path) -> bytes:
    """Everything that was written down."""
    return b"".join(path.read_bytes() for path in folder.glob("ledger.db*"))


async def test_each_call_signs_in_as_its_tenant_with_what_its_scope_needs(
    shop: OpenShop, bank: Bank, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps = [ask("pay"), ask("look"), ask("stumble"), "done"]
    upstreams = {"bank": Upstream(base_url=bank.url, auth=UPSTREAM)}
    desk = await shop(agent(*steps, tools=tools()), upstreams=upstreams, secrets=kept(tmp_path / "s"))
    histories = ""
    for tenant in ("acme", "globex", "other"):
        run = await desk.client.start("tester", "Go", id=f"creds-{uuid.uuid4()}", tenant=tenant)
        operations = (await asyncio.wait_for(run.result(), 30)).operations
        assert [one.outcome for one in operations] == [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.FAILED]
        assert operations[0].result == {"detail": "you are [secret: hidden]", "key": "[secret: hidden]"}
        assert operations[1].result["message"] == "refused [secret: hidden]"
        assert operations[1].result["fields"] == {"who": "[secret: hidden] is not known"}
        assert operations[2].result["message"] == "stumble failed: RuntimeError: could not use [secret: hidden]"
        histories += json.dumps((await run.handle.fetch_history()).to_json_dict())
    acme_pays, acme_looks, globex, shared = VALUES
    assert bank.callers == [
        ("/pay", acme_pays),
        ("/look", acme_looks),
        ("/pay", globex),
        ("/look", globex),
        ("/pay", shared),
        ("/look", shared),
    ]
    told = capfd.readouterr()
    stored = ledger_of(tmp_path)
    for value in VALUES:
        assert value not in histories + told.out + told.err
        assert value.encode() not in stored


async def test_a_refusal_that_says_the_key_again_is_written_down_without_it(
    shop: OpenShop, bank: Bank, tmp_path: Path
) -> None:
    bank.status = 422
    upstreams = {"bank": Upstream(base_url=bank.url, auth=UPSTREAM)}
    desk = await shop(agent(ask("pay"), "done", tools=tools()), upstreams=upstreams, secrets=kept(tmp_path / "s"))
    run = await desk.client.start("tester", "Go", id=f"creds-{uuid.uuid4()}", tenant="acme")
    [operation] = (await asyncio.wait_for(run.result(), 30)).operations
    assert operation.outcome is Outcome.FAILED
    assert "you are [secret: hidden]" in json.dumps(operation.result)
    assert VALUES[0].encode() not in ledger_of(tmp_path)


async def test_a_tenant_without_a_secret_sends_nothing_and_hears_why(
    shop: OpenShop, bank: Bank, tmp_path: Path
) -> None:
    upstreams = {"bank": Upstream(base_url=bank.url, auth=UPSTREAM)}
    own = kept(tmp_path / "s").model_copy(update={"shared": False})
    desk = await shop(agent(ask("pay"), "done", tools=tools()), upstreams=upstreams, secrets=own)
    run = await desk.client.start("tester", "Go", id=f"creds-{uuid.uuid4()}", tenant="other")
    [operation] = (await asyncio.wait_for(run.result(), 30)).operations
    assert (operation.outcome, bank.callers) == (Outcome.FAILED, [])
    assert operation.result["message"] == "this worker has no secret 'bank' for tenant 'other'"


async def test_a_call_waits_for_a_vault_that_is_sealed_and_goes_on(
    shop: OpenShop, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "root")
    with Vault() as vault:
        vault.kept["handfast/tenants/acme"] = {"bank": VALUES[0]}
        vault.status = 503
        upstreams = {"bank": Upstream(base_url=bank.url, auth=UPSTREAM)}
        secrets = VaultSecrets(address=vault.url)
        desk = await shop(agent(ask("pay"), "done", tools=tools()), upstreams=upstreams, secrets=secrets)
        run = await desk.client.start("tester", "Go", id=f"creds-{uuid.uuid4()}", tenant="acme")
        await asyncio.sleep(1)
        assert bank.callers == []
        vault.status = 0
        [operation] = (await asyncio.wait_for(run.result(), 60)).operations
        assert (operation.outcome, bank.callers) == (Outcome.SUCCEEDED, [("/pay", VALUES[0])])
