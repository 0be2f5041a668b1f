"""The `ToolContext` of one attempt inside the engine."""

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import structlog
from temporalio import activity

from handfast.activities.patience import patiently
from handfast.contracts.arguments import load_arguments
from handfast.contracts.causes import Requests
from handfast.contracts.context import ToolContext
from handfast.contracts.errors import ToolError
from handfast.contracts.field_paths import is_empty, picked
from handfast.contracts.identity import canonical_json, shared_key
from handfast.contracts.texts import clean_value
from handfast.contracts.tool import Tool
from handfast.ledger import Ledger, Looked
from handfast.tools.lease import Lease
from handfast.tools.sends import Sends

if TYPE_CHECKING:
    import httpx
    from sqlalchemy.ext.asyncio import AsyncConnection

    from handfast.tools.credentials import Given
    from handfast.tools.drift import DriftWatch
    from handfast.tools.http import Upstreams


class EngineContext(ToolContext):
    """What one attempt of one operation may use."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        http: "Callable[[], Upstreams]",
        run_id: str,
        operation_id: str,
        owner: str,
        attempt: int,
        tool: Tool,
        looked: Looked,
        drift: "Callable[[], DriftWatch] | None" = None,
        gateway_url: str = "",
        doubtful: bool = False,
        lease: Lease | None = None,
        connection: "AsyncConnection | None" = None,
        peers: Collection[str] = (),
        given: "Given | None" = None,
        seen: set[str] | None = None,
        hides_of: Callable[[str, str], tuple[str, ...]] = lambda _tool, _version: (),
    ) -> None:
        self.ledger = ledger
        self.run_id = run_id
        self.operation_id = operation_id
        self.undoes = looked.undoes
        self.attempt = attempt
        self.user = looked.user
        self.tenant = looked.tenant
        self.peers = peers
        """The agents whose runs may be written to."""
        self.hides_of = hides_of
        """What personal data the results of a tool, in a version of its contract, are shown without."""
        self.callback_url = f"{gateway_url.rstrip('/')}/callbacks/{operation_id}" if gateway_url else ""
        self.idempotency_key = _key(tool, operation_id, looked)
        self._tool = tool
        self._http = http
        self._drift = drift
        self._owner = owner
        self._checkpoint = looked.checkpoint
        self._checkpoints = 0
        self._sends = Sends(self.idempotency_key, looked.sent, doubtful=doubtful, lease=lease)
        self._connection = connection
        self._given = given or {}
        self.seen = set[str]() if seen is None else seen
        """Secrets that it was given: they belong in no result, no error and no log."""
        self._cancelled = False

    @cached_property
    def log(self) -> Any:
        """A structured logger that knows run, operation, tool and attempt."""
        return structlog.get_logger().bind(
            run_id=self.run_id, operation_id=self.operation_id, tool=self._tool.name, attempt=self.attempt
        )

    @property
    def last_checkpoint(self) -> Any:
        """What was kept last, by this attempt or an earlier one."""
        return self._checkpoint

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was told to stop."""
        return self._cancelled

    @property
    def may_have_acted(self) -> bool:
        """The same, if it acts through `ctx.http`; a tool that has sent nothing by it may have acted by itself."""
        return self._sends.acted or self._sends.count == 0

    @property
    def requests(self) -> Requests:
        """What was seen of the attempt's unsafe requests."""
        sends = self._sends
        return Requests(acted=sends.acted, cut_off=sends.cut_off, under_way=sends.under_way)

    def end(self) -> None:
        """The attempt has failed: what it may have left running sends nothing more that could act."""
        self._sends.end()

    def misread(self) -> None:
        """The tool could not read an answer as what it expected. Where endpoints are declared, that is counted there."""
        if self._drift and not any(endpoint.answers is not None for endpoint in self._tool.endpoints):
            self._drift().mismatched(self._tool)

    def cancel(self) -> None:
        """Tell the attempt to stop."""
        self._cancelled = True

    async def checkpoint(self, value: Any) -> None:
        """Keep a JSON value durably.

        Raises:
            RuntimeError: The tool is TRANSACTIONAL: there is nothing to go on from, as all of it commits or nothing does.
            LedgerConflict: Another attempt has taken the operation over.
        """
        if self._connection is not None:
            msg = "a TRANSACTIONAL tool has no checkpoints: its writes commit all together, or none does"
            raise RuntimeError(msg)
        value = clean_value(value)
        canonical_json(value)
        self._checkpoints += 1
        number = self._checkpoints
        await patiently(
            lambda: self.ledger.record_checkpoint(
                self.run_id, self.operation_id, self._owner, number, value, sent=self._sends.count
            )
        )
        self._checkpoint = value

    def heartbeat(self) -> None:
        """Heartbeat at once, on the standard lane."""
        if not activity.info().is_local:
            activity.heartbeat()

    def secret(self, name: str) -> str:
        """A secret of the call's tenant and scope, as it was when the attempt began.

        Raises:
            ToolError: There is none, its place does not answer, or the contract does not name it.
        """
        if name not in self._tool.secrets:
            named = ", ".join(self._tool.secrets) or "none"
            message = f"{self._tool.name} asks for secret {name!r}; its contract names {named}"
            raise ToolError(message, hint="its author must add it to secrets=(...)", happened="no")
        value = self._given[name]
        if isinstance(value, ToolError):
            raise value
        self.seen.add(value)
        return value

    def http(self, name: str) -> "httpx.AsyncClient":
        """A client of the upstream of that name, which puts the idempotency key on every unsafe request."""
        from handfast.tools.http import Caller

        watch = self._drift().of(self._tool) if self._drift else None
        tool = self._tool
        caller = Caller(
            tenant=self.tenant, scope=tool.scope, seen=self.seen, tool=tool.name, owner=tool.owner, watch=watch
        )
        return self._http().client(name, self._sends, caller)

    def transaction(self) -> "AbstractAsyncContextManager[AsyncConnection]":
        """The connection whose writes commit with the settlement.

        Raises:
            RuntimeError: The tool is not TRANSACTIONAL.
        """
        return self._lend()

    @asynccontextmanager
    async def _lend(self) -> "AsyncGenerator[AsyncConnection]":
        if self._connection is None:
            msg = (
                "ctx.transaction() is for tools with effect=Effect.TRANSACTIONAL: declare it, or use your own database"
            )
            raise RuntimeError(msg)
        yield self._connection


def _key(tool: Tool, operation_id: str, looked: Looked) -> str:
    """What the fields make that the contract names; the operation id where it names none, or all of them are empty."""
    if not tool.key:
        return operation_id
    loaded = load_arguments(tool, looked.arguments)
    arguments = looked.arguments if isinstance(loaded, dict) else loaded.alike
    fields = picked(arguments, tool.fields.key)
    if is_empty(fields):
        return operation_id
    return shared_key(looked.tenant, tool.name, tool.major, fields)
