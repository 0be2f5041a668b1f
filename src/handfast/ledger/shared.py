"""What all workers share beside the runs: circuits, kept results, notices, and counts of what did not fit."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from handfast.contracts.circuit import Circuit
from handfast.contracts.drift import Counts, Drift
from handfast.contracts.results import Notice
from handfast.ledger import cached, circuits, drift, notices
from handfast.ledger.cached import Found

if TYPE_CHECKING:
    from handfast.ledger.ledger import Ledger

T = TypeVar("T")


class Shared:
    """What all workers of a ledger share."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger

    async def read_circuit(self, upstream: str, tenant: str) -> Circuit:
        """A circuit as all workers share it."""
        return await self._ledger.read(circuits.read_circuit, upstream, tenant)

    async def change_circuit(
        self, upstream: str, tenant: str, change: Callable[[Circuit, int], tuple[Circuit, T]]
    ) -> tuple[Circuit, T]:
        """Change a circuit; see `circuits.change_circuit`."""
        return await self._ledger.write(circuits.change_circuit, upstream, tenant, change)

    async def look_for_cached(self, name: str, key: str) -> Found:
        """A kept result; see `cached.look`."""
        return await self._ledger.read(cached.look, name, key)

    async def keep_cached(self, name: str, key: str, content: Any, *, generation: int, ttl_ms: int, most: int) -> bool:
        """Keep a result; see `cached.keep`."""
        return await self._ledger.write(
            cached.keep, name, key, content, generation=generation, ttl_ms=ttl_ms, most=most
        )

    async def record_notice(self, notice: Notice) -> None:
        """Write down what an owner should know; see `notices.record_notice`."""
        await self._ledger.write(notices.record_notice, notice)

    async def list_notices(self) -> list[Notice]:
        """What owners should know, the newest first."""
        return await self._ledger.read(notices.list_notices)

    async def add_counts(self, counts: Mapping[tuple[str, str], Counts], at_ms: int | None = None) -> None:
        """Add what a worker has counted; see `drift.add_counts`."""
        await self._ledger.write(drift.add_counts, counts, at_ms)

    async def read_drift(self) -> list[Drift]:
        """What does not fit lately, and did before; see `drift.read_drift`."""
        return await self._ledger.read(drift.read_drift)
