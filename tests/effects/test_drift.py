"""A downstream that changes, or a model that no longer understands a tool: counted by all workers, told to the owner."""

import asyncio
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from handfast import Effect, Endpoint, Tier, ToolContext, ask, tool
from handfast.client.cli.app import app
from handfast.contracts.drift import Counts, Drift, Misfit
from handfast.contracts.tool import Tool
from handfast.contracts.upstream import Upstream
from handfast.ledger import Ledger
from handfast.ledger.drift import HOUR_MS
from handfast.ledger.entries import now_ms
from handfast.tools.drift import DriftWatch
from handfast.tools.notices import Notices
from tests.conftest import OpenShop, Shop
from tests.effects.agents import agent
from tests.loopback import Loopback

USUAL = Counts(asked=400, answered=400, invalid=4, refused=4, unknown=0, mismatched=0)


class Order(BaseModel):
    id: int
    total: int


def reading(*, declared: bool = True) -> Tool:
    endpoint = Endpoint(upstream="orders", method="GET", path="/orders/{id}", answers=Order)

    @tool(
        version="1.2.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="orders:r", owner="sales", attempts=1,
        endpoints=(endpoint,) if declared else (),
    )  # fmt: skip
    async def look(n: int = Field(le=50), *, ctx: ToolContext) -> int:
        """Look."""
        reply = await ctx.http("orders").get(f"/orders/{n}")
        return Order.model_validate_json(reply.content).total

    return look


class Service:
    """Answers each order with the next status and body."""

    def __init__(self, status: int, body: Any) -> None:
        self._status, self._body = status, json.dumps(body).encode()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(self._status)
        request.send_header("content-length", str(len(self._body)))
        request.end_headers()
        request.wfile.write(self._body)


async def looked(shop: OpenShop, look: Tool, service: Service, numbers: list[int]) -> Shop:
    """A run that looks at so many orders, with a week of usual calls before it."""
    with Loopback(service.answer) as orders:
        calls = [ask("look", n=n) for n in numbers]
        upstreams = {"orders": Upstream(base_url=f"{orders.url}/")}
        desk = await shop(agent(calls, "done", tools=[look]), upstreams=upstreams)
        await desk.ledger.shared.add_counts({("look", "1.2.0"): USUAL}, now_ms() - 30 * HOUR_MS)
        await desk.client.execute("tester", "Go")
    await desk.boundary.drift.sum_up()
    return desk


FINE = {"id": 1, "total": 2}


@pytest.mark.parametrize(
    ("status", "body", "numbers", "now", "misfit"),
    [
        (200, FINE, [1] * 6, Counts(asked=6, answered=6), None),
        (200, {**FINE, "colour": 1}, [1] * 6, Counts(asked=6, answered=6, unknown=6), Misfit.UNKNOWN),
        (200, {"id": 1}, [1] * 6, Counts(asked=6, answered=6, mismatched=6), Misfit.MISMATCHED),
        (404, {"error": 1}, [1] * 6, Counts(asked=6, answered=6, refused=6), Misfit.REFUSED),
        (429, {"error": 1}, [1] * 6, Counts(asked=6, answered=6), None),
        (200, FINE, [1, *[99] * 6], Counts(asked=7, answered=1, invalid=6), Misfit.INVALID),
    ],
    ids=["fine", "unknown field", "mismatch", "refused", "too many", "invalid"],
)
async def test_what_rises_against_its_own_baseline_is_told_to_the_owner(
    shop: OpenShop, status: int, body: Any, numbers: list[int], now: Counts, misfit: Misfit | None
) -> None:
    desk = await looked(shop, reading(), Service(status, body), numbers)
    assert await desk.ledger.shared.read_drift() == [Drift(tool="look", version="1.2.0", now=now, before=USUAL)]
    told = [(n.kind, n.subject, n.owner, n.count) for n in await desk.ledger.shared.list_notices()]
    assert told == ([("drift", f"{misfit} in look 1.2.0", "sales", 1)] if misfit else [])


async def test_an_answer_that_a_tool_can_not_read_counts_without_a_declared_endpoint(shop: OpenShop) -> None:
    desk = await looked(shop, reading(declared=False), Service(200, {"id": 1}), [1] * 6)
    [drift] = await desk.ledger.shared.read_drift()
    assert (drift.now, drift.rising) == (Counts(asked=6, answered=6, mismatched=6), (Misfit.MISMATCHED,))


async def test_a_version_without_a_past_is_held_against_the_tools_other_versions(ledger: Ledger) -> None:
    await ledger.shared.add_counts({("look", "1.0.0"): USUAL, ("other", "1.0.0"): USUAL}, now_ms() - 30 * HOUR_MS)
    await ledger.shared.add_counts({("look", "1.0.0"): USUAL}, now_ms() - 400 * HOUR_MS)
    for _ in range(2):
        await ledger.shared.add_counts({("look", "2.0.0"): Counts(asked=10, invalid=5)})
    now = Counts(asked=20, invalid=10)
    assert await ledger.shared.read_drift() == [Drift(tool="look", version="2.0.0", now=now, before=USUAL)]


async def test_counts_wait_for_a_ledger_that_has_its_tables(tmp_path: Path) -> None:
    ledger = Ledger.connect(f"sqlite:///{tmp_path}/ledger.db")
    watch = DriftWatch(ledger.shared, Notices(None), every=3600)
    watch.asked(reading(), invalid=True)
    await watch.sum_up()
    await ledger.migrate()
    watch.asked(reading(), invalid=False)
    await watch.close()
    assert [drift.now for drift in await ledger.shared.read_drift()] == [Counts(asked=2, invalid=1)]
    await ledger.close()


async def test_misfits_and_alerts_are_metrics_and_a_command(shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    desk = await looked(shop, reading(), Service(404, {}), [1] * 6)
    counted: dict[str, float] = {}
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            attributes = dict(point.attributes or {})
            if attributes.get("handfast.misfit") == "refused":
                assert attributes["gen_ai.tool.name"] == "look"
                counted[metric.name] = point.value  # type: ignore[union-attr]  # sums have one
    assert counted == {"handfast.tool.misfits": 6, "handfast.tool.drift_alerts": 1}
    monkeypatch.setenv("HANDFAST_LEDGER_URL", desk.settings.ledger)
    monkeypatch.setenv("TEMPORAL_ADDRESS", desk.client.engine.address)
    result = await asyncio.to_thread(CliRunner().invoke, app, ["tools", "drift"], env={"COLUMNS": "200"})
    assert (result.exit_code, "look 1.2.0" in result.output, "100.0% (1.0%)" in result.output) == (1, True, True)
    result = await asyncio.to_thread(CliRunner().invoke, app, ["tools", "drift", "--json"])
    assert json.loads(result.output)["rising"] == ["refused"]
