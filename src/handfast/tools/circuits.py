"""The circuits of this process's upstreams: kept where all workers share them, looked at here at most once a second."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import structlog

from handfast.contracts.circuit import Admission, Circuit
from handfast.contracts.errors import ErrorCode, LedgerError, ToolError
from handfast.contracts.upstream import Upstream

T = TypeVar("T")
FRESH_SECONDS = 1.0
"""How long what was read of a circuit is believed."""
PROBE_MARGIN_MS = 1000
log = structlog.get_logger()
Change = Callable[[Circuit, int], tuple[Circuit, T]]
"""From a circuit and the time in milliseconds to what becomes of it, and an answer."""


class CircuitStore(Protocol):
    """Where circuits are kept."""

    async def read_circuit(self, upstream: str, tenant: str) -> Circuit:
        """The circuit as it stands."""
        ...

    async def change_circuit(self, upstream: str, tenant: str, change: Change[T]) -> tuple[Circuit, T]:
        """Change a circuit in one transaction; what it became, and the change's answer."""
        ...


class Circuits:
    """The circuits by upstream and tenant."""

    def __init__(self, store: CircuitStore | None) -> None:
        self._store = store
        self._seen: dict[tuple[str, str], tuple[float, Circuit]] = {}

    async def enter(self, name: str, upstream: Upstream, tenant: str) -> bool:
        """Let a request pass, or not; whether it is the probe of a half-open circuit.

        Raises:
            ToolError: The circuit is open; `retry_after` says when to come back. Nothing was sent.
        """
        policy = upstream.circuit
        if self._store is None or policy is None:
            return False
        probe_ms = int((upstream.timeout_seconds + upstream.connect_seconds) * 1000) + PROBE_MARGIN_MS

        def admit(circuit: Circuit, now: int) -> tuple[Circuit, Admission]:
            return circuit.admit(policy, now, probe_ms)

        circuit = await self._look(name, tenant)
        admission = Admission()
        if not circuit.closed:
            admission = await self._change(name, tenant, admit) or Admission()
        if not admission.allowed:
            seconds = round(admission.wait_ms / 1000, 1)
            message = f"{name} is down: it failed again and again, and is tried again in {seconds:g} s"
            hint = "do without it, or tell the user when it can be tried again"
            raise ToolError(
                message, code=ErrorCode.CIRCUIT_OPEN, hint=hint, happened="no", retry_after=max(seconds, 0.1)
            )
        return admission.probe

    async def report(self, name: str, upstream: Upstream, tenant: str, *, broken: bool, probe: bool) -> None:
        """Count how a request ended; `broken` if it failed as one does when the service is down.

        One that changes nothing writes nothing.
        """
        policy = upstream.circuit
        if policy is None:
            return
        circuit = self._seen.get((name, tenant), (0.0, Circuit()))[1]
        if not broken and not probe and circuit == Circuit():
            return

        def count(circuit: Circuit, now: int) -> tuple[Circuit, bool]:
            was_closed = circuit.closed
            became = circuit.failed(policy, now, probe=probe) if broken else circuit.succeeded(policy, probe=probe)
            return became, was_closed and not became.closed

        if await self._change(name, tenant, count):
            log.warning("circuit opened", upstream=name, tenant=tenant, seconds=policy.seconds)

    async def withdraw(self, name: str, tenant: str) -> None:
        """A probe was not sent, for a reason on this side: nothing is known of the service."""

        def give_back(circuit: Circuit, now: int) -> tuple[Circuit, bool]:
            del now
            return circuit.withdrawn(), True

        await self._change(name, tenant, give_back)

    async def _look(self, name: str, tenant: str) -> Circuit:
        read_at, circuit = self._seen.get((name, tenant), (0.0, Circuit()))
        if self._store is None or (read_at and time.monotonic() - read_at < FRESH_SECONDS):
            return circuit
        try:
            circuit = await self._store.read_circuit(name, tenant)
        except LedgerError:
            # Without the ledger there is no shared word on the service: the request finds out.
            return Circuit()
        self._seen[name, tenant] = time.monotonic(), circuit
        return circuit

    async def _change(self, name: str, tenant: str, change: Change[T]) -> T | None:
        if self._store is None:
            return None
        try:
            circuit, answer = await self._store.change_circuit(name, tenant, change)
        except LedgerError as error:
            log.warning("circuit not written", upstream=name, reason=str(error))
            return None
        self._seen[name, tenant] = time.monotonic(), circuit
        return answer
