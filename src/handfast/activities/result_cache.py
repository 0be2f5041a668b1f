"""Kept results of reads: in the ledger for all workers, and for a moment in this process."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from handfast.contracts.clauses import Cache
from handfast.contracts.errors import LedgerError
from handfast.contracts.identity import canonical_json
from handfast.contracts.tool import Tool
from handfast.ledger import Ledger
from handfast.ledger.cached import Found
from handfast.telemetry import count_cache_lookup

FRESH_SECONDS = 1.0
"""How long this process believes what it has looked up: what another one invalidates is given again no longer than this."""
MOST_HERE = 500
LARGEST = 100_000
"""Characters of a result. A larger one is not kept."""


def name_of(tool: str, tenant: str) -> str:
    """What a tool's results for a tenant are kept under, and forgotten by."""
    return f"{tenant}/{tool}"


class ResultCache:
    """The kept results of one process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._here: OrderedDict[str, tuple[float, str, Found]] = OrderedDict()

    async def look(self, tool: Tool, tenant: str, arguments: Mapping[str, Any]) -> Found:
        """A kept result, if there is one; `expires_at` is 0 if not."""
        key, name, now = _key(tool, tenant, arguments), name_of(tool.name, tenant), time.monotonic()
        looked_at, _, found = self._here.get(key, (0.0, "", Found(generation=-1)))
        if not looked_at or now - looked_at > FRESH_SECONDS or found.expires_at <= time.time() * 1000:
            try:
                found = await self._ledger.shared.look_for_cached(name, key)
            except LedgerError:
                # Without the ledger nothing is known to be kept: the call waits for it where it must.
                found = Found(generation=-1)
            if found.expires_at:
                self._remember(key, name, found)
        count_cache_lookup(tool.name, hit=bool(found.expires_at))
        return found

    async def keep(
        self, tool: Tool, policy: Cache, tenant: str, arguments: Mapping[str, Any], content: Any, before: Found
    ) -> None:
        """Keep a result that was read after `before` was looked up. It never makes a call fail."""
        if before.generation < 0 or len(canonical_json(content)) > LARGEST:
            return
        key, name = _key(tool, tenant, arguments), name_of(tool.name, tenant)
        ttl_ms = int(policy.ttl.total_seconds() * 1000)
        try:
            await self._ledger.shared.keep_cached(
                name, key, content, generation=before.generation, ttl_ms=ttl_ms, most=policy.most
            )
        except LedgerError:
            return

    def forget(self, names: Iterable[str]) -> None:
        """Something was written: this process believes nothing any more that it read under these names."""
        gone = set(names)
        for key in [key for key, (_, name, _) in self._here.items() if name in gone]:
            del self._here[key]

    def _remember(self, key: str, name: str, found: Found) -> None:
        self._here[key] = (time.monotonic(), name, found)
        self._here.move_to_end(key)
        while len(self._here) > MOST_HERE:
            self._here.popitem(last=False)


def _key(tool: Tool, tenant: str, arguments: Mapping[str, Any]) -> str:
    text = canonical_json([tool.name, tool.version, tenant, tool.scope, dict(arguments)])
    return hashlib.sha256(text.encode()).hexdigest()
