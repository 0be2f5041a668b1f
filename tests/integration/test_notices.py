"""`handfast tools notices`: what the owners of tools should know."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from handfast.client.cli.app import app
from handfast.contracts.results import Notice
from tests.conftest import OpenShop
from tests.effects.agents import agent


async def test_owners_see_what_was_told_and_how_often(shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = await shop(agent("done", tools=[]), serve=False)
    monkeypatch.setenv("HANDFAST_LEDGER_URL", desk.settings.ledger)
    monkeypatch.setenv("TEMPORAL_ADDRESS", desk.client.engine.address)
    told = Notice(kind="upstream_deprecated", subject="pay through refund", text="pay goes in 2030", owner="payments")
    for _ in range(2):
        await desk.ledger.shared.record_notice(told)
    printed: dict[str, str] = {}
    for words in (("tools", "notices"), ("tools", "notices", "--json")):
        result = await asyncio.to_thread(CliRunner().invoke, app, list(words), env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        printed[words[-1]] = result.output
    assert all(word in printed["notices"] for word in ("pay through refund", "payments", "pay goes in 2030", " 2 "))
    found = Notice.model_validate(json.loads(printed["--json"]))
    assert (found.subject, found.owner, found.count) == ("pay through refund", "payments", 2)
