"""What README and guide say works: their code is executed, their links lead somewhere, their commands exist."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs.build import broken_links
from typer.testing import CliRunner

from handfast import Agent, Client, Plan
from handfast.client.cli.app import app
from handfast.contracts.errors import SettingsError
from handfast.contracts.upstream import OAuth2
from handfast.settings import load_settings
from tests.conftest import OpenShop, outcomes, until

ROOT = Path(__file__).parents[2]
SAID = ("README.md", "docs/guide.md", "docs/http.md", "docs/undo.md", "docs/plans.md", "docs/teams.md")
PAGES = {(ROOT / page).name: (ROOT / page).read_text() for page in SAID}


def python(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)


def agent_of(code: str) -> Agent:
    names: dict[str, Any] = {}
    exec(compile(code, "snippet", "exec"), names)
    support = names["support"]
    assert isinstance(support, Agent)
    return support


def test_the_readmes_agent_is_a_valid_one() -> None:
    [code] = python("README.md")
    assert [tool.name for tool in agent_of(code).tools] == ["issue_refund"]


async def test_the_guides_agent_runs_as_the_guide_says(shop: OpenShop) -> None:
    code, client = (snippet for snippet in python("guide.md") if "Pending" not in snippet)
    desk = await shop(agent_of(code))
    run = await desk.client.start("support", "Order 1042 never arrived", id="ticket-77")

    async def waiting() -> Any:
        return (await run.state()).waiting

    [one] = await until(waiting)
    assert one.show == "pay_00001042"
    await run.decide(one.operation, approve=True)
    result = await run.result()
    assert result.text == "Your 19.99 are on their way."
    assert outcomes(result.operations) == [("lookup_order", "SUCCEEDED"), ("issue_refund", "SUCCEEDED")]
    names: dict[str, Any] = {}
    exec(compile(client, "snippet", "exec"), names)
    assert names["Client"] is Client


def test_the_guides_pending_tool_is_a_valid_one() -> None:
    [code] = [snippet for snippet in python("guide.md") if "Pending" in snippet]
    names: dict[str, Any] = {}
    exec(compile(code, "snippet", "exec"), names)
    report = names["write_report"]
    assert report.result_adapter.json_schema()["properties"].keys() == {"pages"}
    assert (report.poll, report.callback.secret) == (names["look"], "reports")


def test_the_upstreams_of_the_page_on_http_are_valid_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = re.findall(r"HANDFAST_UPSTREAMS='(.*?)'", PAGES["http.md"], re.DOTALL)
    monkeypatch.setenv("HANDFAST_UPSTREAMS", block)
    payments, web = load_settings().upstreams.values()
    assert isinstance(payments.auth, OAuth2)
    assert (payments.version, web.domains) == ("2026-10-01", ("*",))
    monkeypatch.setenv("HANDFAST_UPSTREAMS", block.replace("https://search.example", "search.example"))
    with pytest.raises(SettingsError, match=r"HANDFAST_UPSTREAMS web base_url: base_url .* write https"):
        load_settings()


def test_the_tools_of_the_page_on_http_are_valid_ones() -> None:
    names: dict[str, Any] = {}
    for code in python("http.md"):
        exec(compile(code, "snippet", "exec"), names)
    assert names["list_payments"].schema.parameters["required"] == ["customer"]
    assert (names["create_ticket"].secrets, names["create_ticket"].schema.name) == (("tools",), "create_ticket")


def test_the_agent_of_the_page_on_undo_is_a_valid_one() -> None:
    names: dict[str, Any] = {}
    [code] = python("undo.md")
    exec(compile(code, "snippet", "exec"), names)
    assert (names["book_room"].undo, names["book_room"].compensate.safe_if_absent) == ("KEYED", True)
    assert "cancelled" in names["traveller"].undo_on


def test_the_agents_of_the_page_on_teams_are_valid_ones() -> None:
    names: dict[str, Any] = {}
    [code] = python("teams.md")
    exec(compile(code, "snippet", "exec"), names)
    [analyst] = names["chief"].tools
    assert (analyst.name, analyst.effect, analyst.child.agent) == ("analyst", "READ", names["analyst"])


async def test_the_plan_of_the_page_on_plans_runs_as_it_says(shop: OpenShop) -> None:
    [plan] = re.findall(r"```yaml\n(.*?)```", PAGES["plans.md"], re.DOTALL)
    agent, start = python("plans.md")
    names: dict[str, Any] = {}
    exec(compile(agent, "snippet", "exec"), names)
    desk = await shop(names["stock"])
    exec(compile(start, "snippet", "exec"), names)
    result = await names["reorder"](desk.client, Plan.model_validate(yaml.safe_load(plan)))
    assert result.output == {"ordered": ["bolts", "nuts"], "note": "bolts and nuts are on their way"}
    assert [one.tool for one in result.operations] == ["list_missing", "order", "order", "announce"]


def test_every_link_leads_somewhere() -> None:
    assert broken_links() == []


@pytest.mark.parametrize("page", PAGES)
def test_every_handfast_command_exists(page: str) -> None:
    groups = ("ledger", "plan", "tools")
    for words in re.findall(r"`?\bhandfast ([a-z]+)(?: ([a-z]+))?", PAGES[page]):
        command = [word for word in words if word] if words[0] in groups else [words[0]]
        if command[0] == "import":
            continue
        result = CliRunner().invoke(app, [*command, "--help"])
        assert result.exit_code == 0, command


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for text in PAGES.values():
        for target in re.findall(r"(?:^|`)make ([a-z]+)\b", text, re.MULTILINE):
            assert f"\n{target}:" in makefile, target


def test_importing_handfast_loads_neither_temporal_nor_a_database() -> None:
    code = "import sys, handfast; print([m for m in ('temporalio', 'sqlalchemy', 'anthropic', 'httpx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
