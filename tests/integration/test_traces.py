"""One trace a run, from the client to the tool's request, read back from a real OTLP receiver on loopback."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from handfast.engine.connect import Engine
from handfast.ledger import Ledger
from tests.conftest import until
from tests.crash.harness import Process, worker_env
from tests.loopback import Loopback, body_of
from tests.processes import ROOT

RUNS = 4


class Receiver(Loopback):
    """Takes OTLP over HTTP at `/v1/traces`, and plays the service that the tool calls at `/`."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.bodies = b""
        self.traceparents: list[str] = []
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = body_of(request)
        if request.path == "/v1/traces":
            self.bodies += body
            exported = ExportTraceServiceRequest.FromString(body)
            self.spans += [s for r in exported.resource_spans for scope in r.scope_spans for s in scope.spans]
        else:
            self.traceparents.append(request.headers.get("traceparent", ""))
        request.send_response(200)
        request.send_header("content-length", "0")
        request.end_headers()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


async def test_a_run_is_one_trace_that_no_replay_doubles_and_no_content_enters(
    engine: Engine, tmp_path: Path, receiver: Receiver
) -> None:
    ledger = Ledger.connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    await ledger.migrate()
    env = worker_env(
        engine.address,
        f"sqlite:///{tmp_path / 'ledger.db'}",
        f"traces-{tmp_path.name}",
        {"service": receiver.url},
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
        HANDFAST_MAX_CACHED_RUNS="1",  # several runs on one place: each is replayed again and again
        HANDFAST_HOME=str(tmp_path),
    )
    worker = Process(
        "handfast.client.cli", "worker", "tests.integration.traced:agent", env=env, output=tmp_path / "w.log"
    )

    async def run(number: int) -> None:
        command = [sys.executable, "-m", "handfast.client.cli", "run", "tracer", "Please hush-0", "--id", f"t{number}"]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    try:
        await asyncio.gather(*(run(number) for number in range(RUNS)))

        async def exported() -> bool:
            chats = [span for span in receiver.spans if span.name == "chat script"]
            return len(chats) >= 3 * RUNS

        await until(exported)
    finally:
        await worker.stop()
    assert len({span.span_id for span in receiver.spans}) == len(receiver.spans)
    for number in range(RUNS):
        trace_id = (await ledger.read_run(f"t{number}")).trace_id
        spans = [span for span in receiver.spans if span.trace_id.hex() == trace_id]
        names = sorted(span.name for span in spans if not span.name.startswith("handfast."))
        assert names == ["chat script"] * 3 + ["execute_tool charge"] * 2 + ["invoke_agent tracer"]
        steps = sorted(span.name for span in spans if span.name.startswith("handfast."))
        assert steps == ["handfast.execute"] * 2 + ["handfast.reserve"] * 2 + ["handfast.settle"] * 2
        assert sum(trace_id in parent for parent in receiver.traceparents) == 2
    chats = [span for span in receiver.spans if span.name == "chat script"]
    attributes = {attribute.key for attribute in chats[0].attributes}
    assert attributes >= {
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.usage.input_tokens",
    }
    assert b"hush" not in receiver.bodies
    await ledger.close()
