"""The security report: everything that was decided, by what and by whom, and no contents."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from handfast import DecisionRefused, Effect, Policy, Rule, SigningKey, Tier, Verdict, ask, tool
from handfast.client.cli.exits import Exit
from handfast.ledger.tables import entries
from tests.conftest import OpenShop, Shop
from tests.permission.people import ended, person
from tests.permission.test_commands import command
from tests.workflow.agents import agent

SECRET = "nobody-reads-this"


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="web:read", untrusted=True)
async def read_page(page: str) -> str:
    """Read a page."""
    return SECRET


@tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="payments:pay")
async def pay_out(to: str) -> str:
    """Pay."""
    return SECRET


async def test_a_report_says_who_decided_what_and_what_was_refused(shop: OpenShop, monkeypatch: Any) -> None:
    policy = Policy(rules=(Rule(name="never", verdict=Verdict.DENY, tools=("read_page",), tenants=("other",)),))
    steps = [ask("read_page", page="x"), [ask("pay_out", to=SECRET), ask("pay_out", to="b")], "done"]
    desk = await shop(agent(steps, read_page, pay_out, policy=policy))
    began = datetime.now(UTC) - timedelta(seconds=1)
    ann = await person(desk, "ann")
    run = await desk.client.start("tester", "Go on", id="audit-1", user="uma", tenant="acme")
    other = await desk.client.start("tester", "Go", id="audit-2", user="otto", tenant="other")
    await waiting_two(run)
    first, second = [one.operation for one in (await run.state()).waiting]
    with pytest.raises(DecisionRefused):
        await run.decide(first, approve=True, key=SigningKey.new(), by="ann")
    await run.decide(first, approve=True, key=ann)
    await run.decide(second, approve=False, key=ann, reason=SECRET)
    await ended(run)
    for one in await waiting_two(other):
        await other.decide(one.operation, approve=False, key=ann)
    await ended(other)
    await desk.client.set_policy('untrusted = "deny"\n', by="boss")

    report = await desk.client.audit(began)
    assert [(one.tenant, one.user, one.runs, one.calls) for one in report.runs] == [
        ("acme", "uma", 1, 3),
        ("other", "otto", 1, 3),
    ]
    decided = {(one.rule, one.tool, one.verdict): one.times for one in report.decisions}
    assert decided[("untrusted", "pay_out", "ask")] == 2
    assert decided[("tier IRREVERSIBLE", "pay_out", "ask")] == 2
    assert decided[("never", "read_page", "deny")] == 1
    assert [(one.by, one.word, one.times) for one in report.words] == [("ann", "approved", 1), ("ann", "rejected", 3)]
    assert [(one.run_id, one.operation_id, one.claimed) for one in report.refused] == [("audit-1", first, "ann")]
    assert [(one.run_id, one.untrusted, one.held) for one in report.untrusted] == [("audit-1", "read_page", 2)]
    assert [one.what.split(" ")[0] for one in report.changes] == ["key", "policy"]
    assert (report.verified, report.faults) == (2, ())
    assert SECRET not in report.model_dump_json(), "no contents"

    mine = await desk.client.audit(began, tenant="acme")
    assert "other" not in mine.model_dump_json()
    assert "otto" not in mine.model_dump_json()
    assert not (await desk.client.audit(began, began + timedelta(milliseconds=1))).runs

    monkeypatch.setenv("HANDFAST_LEDGER_URL", desk.settings.ledger)
    monkeypatch.setenv("TEMPORAL_ADDRESS", desk.client.engine.address)
    told = await command("audit", "--since", "1h")
    assert all(
        part in told for part in ("untrusted", "ann", "read_page", "the chains of 2 runs hold", "policy 1 was set")
    )
    assert json.loads(await command("audit", "--json"))["verified"] == 2
    assert "is no time" in await command("audit", "--since", "yesterday", ends=Exit.USAGE)
    async with desk.ledger.open() as connection:
        await connection.execute(
            entries.update().where(entries.c.run_id == "audit-1", entries.c.seq == 2).values(meta="{}")
        )
    assert "FAULTS" in await command("audit", ends=Exit.FAILED)


async def waiting_two(run: Any) -> Any:
    """The calls that wait, once there are two."""
    while len(found := (await run.state()).waiting) < 2:
        await asyncio.sleep(0.05)
    return found


async def test_what_was_used_of_budgets_is_listed(shop: OpenShop, monkeypatch: Any) -> None:
    policy = Policy.model_validate({"budgets": [{"name": "week", "per": "7d", "each": "user", "tokens": 10**6}]})
    desk: Shop = await shop(agent(["done"], policy=policy))
    await ended(await desk.client.start("tester", "Go", id="audit-budget", user="uma"))
    monkeypatch.setenv("HANDFAST_LEDGER_URL", desk.settings.ledger)
    monkeypatch.setenv("TEMPORAL_ADDRESS", desk.client.engine.address)
    [found] = [json.loads(line) for line in (await command("budgets", "--json")).splitlines()]
    assert (found["budget"], found["of"], found["turns"], found["held_tokens"]) == ("week", "default/uma", 1, 0)
    assert "week" in await command("budgets")
