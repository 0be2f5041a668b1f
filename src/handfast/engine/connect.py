"""Connecting to Temporal by its own environment configuration, or to the embedded engine that runs in `home`."""

import asyncio
import os
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.service import ConnectConfig, RPCError, RPCStatusCode, ServiceClient

from handfast.contracts import names
from handfast.contracts.errors import EngineUnavailable, SettingsError
from handfast.contracts.messages import Frozen
from handfast.engine.converter import DATA_CONVERTER
from handfast.settings import Settings
from handfast.telemetry import temporal_plugins

CONFIGURED_BY = ("TEMPORAL_ADDRESS", "TEMPORAL_CONFIG_FILE", "TEMPORAL_PROFILE")
SEARCH_ATTRIBUTES = {
    names.SEARCH_AGENT: "Keyword",
    names.SEARCH_STATUS: "Keyword",
    names.SEARCH_TENANT: "Keyword",
    names.SEARCH_COST: "Double",
}


class Engine(Frozen):
    """A Temporal server as its users see it."""

    address: str
    ui: str = ""
    """The address of its web UI, where it is known."""
    namespace: str = "default"
    pid: int = 0
    """The process of an embedded one."""

    def link(self, run_id: str) -> str:
        """The run's page in the Temporal UI; empty where the UI's address is not known."""
        return f"{self.ui}/namespaces/{self.namespace}/workflows/{run_id}" if self.ui else ""


def engine_at(home: Path) -> Engine | None:
    """The embedded engine that runs in `home`, if one does."""
    try:
        engine = Engine.model_validate_json((home / "engine.json").read_text())
        os.kill(engine.pid, 0)
    except (OSError, ValueError):
        return None
    return engine


async def connect(settings: Settings, address: str = "") -> tuple[Client, Engine]:
    """A client, and where its server is.

    The address is the one given, else that of Temporal's environment variables (`TEMPORAL_ADDRESS`, its TLS and API key
    settings, the configuration file they name), else that of the embedded engine in `settings.home`, else that of
    Temporal's configuration file in its usual place.

    Raises:
        EngineUnavailable: No server answers.
        SettingsError: Temporal's configuration can't be read.
    """
    engine = engine_at(settings.home)
    if address:
        engine = engine if engine and engine.address == address else Engine(address=address)
        options: dict[str, Any] = {"target_host": address}
    elif engine is not None and not any(os.environ.get(name) for name in CONFIGURED_BY):
        options = {"target_host": engine.address}
    else:
        options = _configured()
        if not options:
            msg = (
                f"no Temporal server: none is configured (TEMPORAL_ADDRESS), and no embedded one runs in "
                f"{str(settings.home)!r}. Start one with `handfast dev MODULE:AGENTS`, or set TEMPORAL_ADDRESS"
            )
            raise EngineUnavailable(msg)
        namespace = str(options.get("namespace", "default"))
        engine = Engine(address=str(options["target_host"]), ui=os.environ.get("TEMPORAL_UI", ""), namespace=namespace)
    try:
        client = await Client.connect(**options, data_converter=DATA_CONVERTER, plugins=temporal_plugins())
    except RuntimeError as error:
        msg = f"no Temporal server answers at {engine.address}: {error}. Check the address, and that the server runs"
        raise EngineUnavailable(msg) from error
    return client, engine


def _configured() -> dict[str, Any]:
    """What Temporal's environment configuration says of where to connect and how; nothing if there is none."""
    try:
        options: dict[str, Any] = {**ClientConfig.load_client_connect_config()}
    except (ValueError, RuntimeError, OSError) as error:
        msg = f"Temporal's environment configuration can't be read: {error}"
        raise SettingsError(msg) from error
    if options:
        options.setdefault("target_host", "localhost:7233")
    return options


ANSWER_SECONDS = 5.0


async def is_serving(address: str) -> bool:
    """Whether a Temporal server answers there and has its default namespace."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            service = await ServiceClient.connect(ConnectConfig(target_host=address))
            await service.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
    except (RuntimeError, RPCError, TimeoutError):
        return False
    return True


async def require_search_attributes(client: Client) -> None:
    """Register the search attributes that runs set; without them every run would hang.

    Raises:
        EngineUnavailable: They are missing and can't be registered from here.
    """
    try:
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
        missing = {name: kind for name, kind in SEARCH_ATTRIBUTES.items() if name not in listed.custom_attributes}
        if missing:
            kinds = {
                "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
                "Double": IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE,
            }
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(
                    namespace=client.namespace, search_attributes={name: kinds[kind] for name, kind in missing.items()}
                )
            )
    except RPCError as error:
        if error.status is RPCStatusCode.ALREADY_EXISTS:
            return
        flags = " ".join(f"--name {name} --type {kind}" for name, kind in SEARCH_ATTRIBUTES.items())
        msg = (
            f"the search attributes of runs can't be registered in namespace {client.namespace!r}: {error.message}. "
            f"Register them once: temporal operator search-attribute create {flags}"
        )
        raise EngineUnavailable(msg) from error
