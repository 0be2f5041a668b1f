"""Watching what does not fit: counted here, summed in the ledger, told to the owner when it rises."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import structlog
from pydantic import ValidationError

from handfast.contracts.drift import Counts, Drift, Misfit
from handfast.contracts.errors import LedgerError
from handfast.contracts.results import Notice
from handfast.contracts.schemas import unknown_fields
from handfast.contracts.tool import Tool
from handfast.contracts.upstream import Upstream
from handfast.telemetry import count_drift_alert, count_misfit
from handfast.tools.notices import Notices

if TYPE_CHECKING:
    import httpx

SUM_UP_SECONDS = 15.0
"""How long counts are kept here before they go to the ledger."""
PASSING = frozenset({408, 409, 425, 429})
"""Refusals that say nothing about the request: it was early, late, or one of too many."""
log = structlog.get_logger()


class DriftStore(Protocol):
    """Where the counts of all workers are summed."""

    async def add_counts(self, counts: Mapping[tuple[str, str], Counts]) -> None:
        """Add counts, by (tool, version)."""
        ...

    async def read_drift(self) -> list[Drift]:
        """What was counted lately, and before."""
        ...


class DriftWatch:
    """The counts of one worker. Nothing here makes a call fail, or waits."""

    def __init__(self, store: DriftStore, notices: Notices, *, every: float = SUM_UP_SECONDS) -> None:
        self._store = store
        self._notices = notices
        self._every = every
        self._counts: Counter[tuple[str, str, str]] = Counter()
        """By tool, version and field of `Counts`."""
        self._owners: dict[str, str] = {}
        self._summing: asyncio.Task[None] | None = None

    def asked(self, tool: Tool, *, invalid: bool) -> None:
        """A model has asked for a call."""
        self._note(tool, "asked", *([Misfit.INVALID] if invalid else ()))

    def mismatched(self, tool: Tool) -> None:
        """A tool could not read what it was answered."""
        self._note(tool, Misfit.MISMATCHED)

    def of(self, tool: Tool) -> "Callable[[str, Upstream, httpx.Request, httpx.Response], None]":
        """Watches the answers that a tool gets through `ctx.http`; they are read."""

        def watch(name: str, upstream: Upstream, request: "httpx.Request", response: "httpx.Response") -> None:
            if response.is_client_error:
                refused = response.status_code not in PASSING
                self._note(tool, "answered", *([Misfit.REFUSED] if refused else ()))
            elif response.is_success:
                self._note(tool, "answered", *_misfits(tool, name, upstream, request, response))

        return watch

    def _note(self, tool: Tool, *what: str) -> None:
        self._owners[tool.name] = tool.owner
        for field in what:
            self._counts[tool.name, tool.version, field] += 1
            if isinstance(field, Misfit):
                count_misfit(tool.name, tool.version, field)
        if self._summing is None or self._summing.done():
            self._summing = asyncio.create_task(self._sum_up_soon())

    async def _sum_up_soon(self) -> None:
        await asyncio.sleep(self._every)
        await self.sum_up()

    async def sum_up(self) -> None:
        """Bring the counts to the ledger, and tell owners what has risen. What the ledger does not take is kept."""
        counted, self._counts = self._counts, Counter()
        if not counted:
            return
        fields: dict[tuple[str, str], dict[str, int]] = {}
        for (tool, version, field), number in counted.items():
            fields.setdefault((tool, version), {})[field] = number
        counts = {key: Counts(**found) for key, found in fields.items()}
        try:
            await self._store.add_counts(counts)
            found = await self._store.read_drift()
        except LedgerError as error:
            self._counts.update(counted)
            log.warning("counts of what does not fit are not written", reason=str(error))
            return
        for drift in found:
            for misfit in drift.rising if (drift.tool, drift.version) in counts else ():
                count_drift_alert(drift.tool, drift.version, misfit)
                await self._notices.tell(drift_notice(drift, misfit, self._owners[drift.tool]))

    async def close(self) -> None:
        """Bring to the ledger what is still here."""
        if self._summing is not None:
            self._summing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._summing
        await self.sum_up()


def drift_notice(drift: Drift, misfit: Misfit, owner: str) -> Notice:
    """What the owner is told."""
    (found, total), (found_before, total_before) = drift.now.share(misfit), drift.before.share(misfit)
    text = (
        f"{drift.tool} {drift.version}: {misfit.told} rise: {found / total:.0%} of {total} lately, "
        f"{found_before / total_before:.1%} of {total_before} before"
    )
    return Notice(kind="drift", subject=f"{misfit} in {drift.tool} {drift.version}", text=text, owner=owner)


def _misfits(
    tool: Tool, name: str, upstream: Upstream, request: "httpx.Request", response: "httpx.Response"
) -> tuple[Misfit, ...]:
    """What of an answer does not fit what the contract says of its endpoint."""
    for endpoint in tool.endpoints:
        declared = endpoint.upstream == name and endpoint.answers is not None
        if not declared or not endpoint.fits(request.method, request.url.path, upstream):
            continue
        try:
            endpoint.answer_adapter.validate_json(response.content)
            unknown = unknown_fields(endpoint.answer_schema, response.json())
        except (ValidationError, ValueError):
            return (Misfit.MISMATCHED,)
        return (Misfit.UNKNOWN,) if unknown else ()
    return ()
