"""Spans by OpenTelemetry's GenAI conventions (semantic-conventions-genai, in development; names kept here as constants).

Contents are never recorded. Without a configured provider every call here is OpenTelemetry's own no-op.
"""

import os
from collections.abc import Generator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from opentelemetry import metrics, propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from handfast.contracts.errors import SettingsError
from handfast.contracts.messages import ModelResponse, Usage

OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
AGENT_NAME = "gen_ai.agent.name"
CONVERSATION_ID = "gen_ai.conversation.id"
TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
ERROR_TYPE = "error.type"
TURN = "handfast.turn"
ATTEMPT = "handfast.attempt"
OUTCOME = "handfast.outcome"
EFFECT = "handfast.effect"

if TYPE_CHECKING:
    from temporalio.client import Plugin
    from temporalio.contrib.opentelemetry import ReplaySafeTracerProvider

tracer = trace.get_tracer("handfast")
_misfits = metrics.get_meter("handfast").create_counter(
    "handfast.tool.misfits",
    unit="{misfit}",
    description="Calls, requests and answers that don't fit a tool's contract, by tool, version and kind",
)
_drift_alerts = metrics.get_meter("handfast").create_counter(
    "handfast.tool.drift_alerts",
    unit="{alert}",
    description="How often misfits of a kind were found to have risen against what was usual, by tool and version",
)
_cache_lookups = metrics.get_meter("handfast").create_counter(
    "handfast.cache.lookups",
    unit="{lookup}",
    description="Looks for a kept result of a read, by tool and whether it was there",
)
UNCONFIGURED = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
NO_SPAN: AbstractContextManager[Span] = nullcontext(trace.INVALID_SPAN)


def current_trace_id() -> str:
    """The trace id of the current span in hex, empty if there is none."""
    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else ""


def inject_trace_context(headers: MutableMapping[str, str]) -> None:
    """Put the W3C trace context on an outgoing request."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    for name, value in carrier.items():
        headers[name] = value


def _span(
    name: str, attributes: Mapping[str, str | int] | None = None, kind: SpanKind = SpanKind.INTERNAL
) -> AbstractContextManager[Span]:
    """A span around a block; where nothing is configured, nothing: OpenTelemetry's own no-op costs 20 µs."""
    if isinstance(trace.get_tracer_provider(), UNCONFIGURED):
        return NO_SPAN
    return tracer.start_as_current_span(name, kind=kind, attributes=attributes)


def chat_span(model: str, turn: int) -> AbstractContextManager[Span]:
    """The span of one model call."""
    provider = "anthropic" if model.startswith("claude") else "handfast"
    attributes: dict[str, str | int] = {
        OPERATION_NAME: "chat",
        PROVIDER_NAME: provider,
        REQUEST_MODEL: model,
        TURN: turn,
    }
    return _span(f"chat {model}", attributes, SpanKind.CLIENT)


def record_response(span: Span, response: ModelResponse) -> None:
    """Usage and stop reason of a model's answer. Input tokens count cache reads and writes."""
    usage = response.usage or Usage()
    read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    span.set_attribute(INPUT_TOKENS, read)
    span.set_attribute(OUTPUT_TOKENS, usage.output_tokens)
    span.set_attribute(FINISH_REASONS, [response.stop_reason or ""])
    span.set_attribute(RESPONSE_MODEL, response.model)
    if response.request_id:
        span.set_attribute(RESPONSE_ID, response.request_id)


def tool_span(tool: str, operation_id: str, effect: str) -> AbstractContextManager[Span]:
    """The span of one attempt of a tool call."""
    attributes = {OPERATION_NAME: "execute_tool", TOOL_NAME: tool, TOOL_CALL_ID: operation_id, EFFECT: effect}
    return _span(f"execute_tool {tool}", attributes)


def step_span(name: str) -> AbstractContextManager[Span]:
    """The span of one step of the effect protocol, reserve, execute or settle, under the call's; without that, none."""
    return NO_SPAN if trace.get_current_span() is trace.INVALID_SPAN else _span(name)


def record_failure(span: Span, code: str) -> None:
    """Mark a span as failed with a cause."""
    span.set_attribute(ERROR_TYPE, code)
    span.set_status(Status(StatusCode.ERROR))


def temporal_plugins() -> "list[Plugin]":
    """The SDK's tracing plugin, if tracing is configured; it carries the trace through Temporal and is replay-safe."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, UNCONFIGURED):
        return []
    # Half a second to import, which only a traced process pays.
    from temporalio.contrib.opentelemetry import OpenTelemetryPlugin, ReplaySafeTracerProvider

    return [OpenTelemetryPlugin()] if isinstance(provider, ReplaySafeTracerProvider) else []


def configure_tracing(service: str) -> "ReplaySafeTracerProvider | None":
    """Export spans as the standard OTLP environment variables say; None if they say nothing.

    Source: OpenTelemetry, "OTLP Exporter Configuration" and "Environment Variable Specification".

    Raises:
        SettingsError: They ask for an exporter that is not installed.
    """
    asked = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not asked or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        msg = f"traces are to go to {asked}, but the exporter is missing: install handfast[otlp]"
        raise SettingsError(msg) from error
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from temporalio.contrib.opentelemetry import create_tracer_provider

    provider = create_tracer_provider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


@contextmanager
def traced(service: str) -> Generator[None]:
    """Export this process's spans while the body runs, if the environment says where to; see `configure_tracing`."""
    provider = configure_tracing(service)
    try:
        yield
    finally:
        if provider is not None:
            provider.shutdown()


def count_cache_lookup(tool: str, *, hit: bool) -> None:
    """Count a look for a kept result."""
    _cache_lookups.add(1, {TOOL_NAME: tool, "handfast.cache.hit": hit})


def count_misfit(tool: str, version: str, misfit: str) -> None:
    """Count something that does not fit a tool's contract."""
    _misfits.add(1, {TOOL_NAME: tool, "handfast.tool.version": version, "handfast.misfit": misfit})


def count_drift_alert(tool: str, version: str, misfit: str) -> None:
    """Count that misfits of a kind have risen against what was usual."""
    _drift_alerts.add(1, {TOOL_NAME: tool, "handfast.tool.version": version, "handfast.misfit": misfit})


def agent_span(agent: str, run_id: str) -> AbstractContextManager[Span]:
    """The span under which a run is started; the run's other spans are its descendants."""
    attributes = {OPERATION_NAME: "invoke_agent", AGENT_NAME: agent, CONVERSATION_ID: run_id}
    return _span(f"invoke_agent {agent}", attributes, SpanKind.CLIENT)
