"""Circuits: the states, and what workers that share them let through."""

import asyncio
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast import ToolError
from handfast.contracts.circuit import Admission, Circuit, CircuitPolicy
from handfast.contracts.upstream import Upstream
from handfast.engine.embedded import free_port
from handfast.ledger import Ledger
from handfast.tools.http import Caller, Upstreams
from handfast.tools.sends import Sends
from tests.loopback import Loopback

POLICY = CircuitPolicy(failures=2, seconds=10, successes=2)


def test_failures_in_a_row_open_it_and_probes_one_at_a_time_close_it() -> None:
    circuit = Circuit().failed(POLICY, 1000, probe=False)
    assert circuit.succeeded(POLICY, probe=False) == Circuit()
    circuit = circuit.failed(POLICY, 1000, probe=False)
    assert circuit.admit(POLICY, 5000, 100) == (circuit, Admission(allowed=False, wait_ms=6000))
    circuit, admission = circuit.admit(POLICY, 11_000, 100)
    assert admission == Admission(probe=True)
    assert circuit.admit(POLICY, 11_040, 100)[1] == Admission(allowed=False, wait_ms=60)
    circuit = circuit.succeeded(POLICY, probe=True)
    circuit, admission = circuit.admit(POLICY, 11_050, 100)
    assert (circuit.closed, admission.probe) == (False, True)
    assert circuit.succeeded(POLICY, probe=True) == Circuit()


def test_a_probe_that_fails_opens_it_again_and_one_that_is_lost_makes_room() -> None:
    opened = Circuit(failures=2, opened_at=1000)
    probing, _ = opened.admit(POLICY, 11_000, 100)
    assert probing.failed(POLICY, 11_050, probe=True) == Circuit(failures=2, opened_at=11_050)
    assert probing.admit(POLICY, 11_100, 100)[1].probe


def test_answers_to_requests_from_before_it_opened_change_nothing() -> None:
    opened = Circuit(failures=2, opened_at=1000)
    assert (opened.succeeded(POLICY, probe=False), opened.failed(POLICY, 2000, probe=False)) == (opened, opened)


@given(st.lists(st.sampled_from(["ok", "bad", "wait"])))
def test_whatever_happens_it_is_open_only_after_enough_failures_in_a_row(events: list[str]) -> None:
    circuit, now, row = Circuit(), 1, 0
    for event in events:
        now += 6000 if event == "wait" else 1
        circuit, admission = circuit.admit(POLICY, now, 1000)
        if event == "wait" or not admission.allowed:
            circuit = replace(circuit, probe_until=0) if admission.probe else circuit
            continue
        was_closed, bad = circuit.closed, event == "bad"
        row = row + 1 if bad else 0
        now += 1
        after = circuit.failed(POLICY, now, probe=admission.probe) if bad else None
        circuit = after or circuit.succeeded(POLICY, probe=admission.probe)
        if was_closed:
            assert circuit.closed == (row < POLICY.failures)
        row = 0 if not circuit.closed else row


class Failing(Loopback):
    """Answers 500 until it is repaired."""

    def __init__(self) -> None:
        self.repaired = False
        self.asked = 0
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        request.send_response(200 if self.repaired else 500)
        request.send_header("content-length", "0")
        request.end_headers()


async def ask(upstreams: Upstreams, tenant: str = "one") -> str:
    """What a request comes to."""
    try:
        async with upstreams.client("s", Sends("op"), Caller(tenant=tenant)) as client:
            await client.get("/")
    except ToolError as error:
        return str(error.code)
    return "ok"


async def test_workers_share_a_circuit_and_let_one_probe_of_many_through(ledger: Ledger) -> None:
    with Failing() as service:
        policy = CircuitPolicy(failures=3, seconds=0.5, successes=2)
        settings = {"s": Upstream(base_url=service.url, circuit=policy)}
        first, second = (Upstreams(settings, circuits=ledger.shared) for _ in range(2))
        assert [await ask(first) for _ in range(4)] == ["unavailable"] * 3 + ["circuit_open"]
        assert [await ask(second), await ask(second, tenant="two")] == ["circuit_open", "unavailable"]
        service.repaired, before = True, service.asked
        await asyncio.sleep(0.6)
        probing = await asyncio.gather(*(ask(upstreams) for upstreams in [first, second] * 10))
        assert probing.count("ok") >= 1
        assert service.asked - before == probing.count("ok")
        while not (await ledger.shared.read_circuit("s", "one")).closed:
            await ask(second)
        assert [await ask(second) for _ in range(3)] == ["ok"] * 3
        for upstreams in (first, second):
            await upstreams.close()


async def test_a_service_that_is_away_opens_it_too_and_says_when_to_come_back(tmp_path: Path) -> None:
    ledger = Ledger.connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    await ledger.migrate()
    away = Upstream(base_url=f"http://127.0.0.1:{free_port()}", circuit=CircuitPolicy(failures=1, seconds=30))
    upstreams = Upstreams({"s": away}, circuits=ledger.shared)
    assert await ask(upstreams) == "unavailable"
    with pytest.raises(ToolError, match="s is down: it failed again and again, and is tried again in") as refused:
        await upstreams.client("s", Sends("op"), Caller(tenant="one")).post("/")
    assert (refused.value.happened, refused.value.retryable) == ("no", False)
    assert 25 < (refused.value.retry_after or 0) <= 30
    with pytest.raises(ToolError) as doubtful:
        await upstreams.client("s", Sends("op", doubtful=True), Caller(tenant="one")).post("/")
    assert (doubtful.value.happened, doubtful.value.retryable) == ("unknown", True)
    await upstreams.close()
    await ledger.close()
