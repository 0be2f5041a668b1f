"""What a tool's function is given besides its arguments."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any


class ToolContext(ABC):
    """One attempt of one operation, as its tool sees it.

    Attributes:
        operation_id: The same for every attempt, after every crash, on every machine.
        idempotency_key: What requests carry: the operation id, unless the contract names a `key` of its own.
        undoes: The operation that is undone, in a `compensate=`; empty in a call. Its requests carried that as their key, unless its
            contract names another one.
        attempt: 1 for the first one, counted by reservations in the ledger.
        run_id: The run that asked.
        user: Who the run works for, as given when it started.
        tenant: The tenant of the run.
        callback_url: Where the other side posts the result of `Pending` work; empty if `HANDFAST_GATEWAY_URL` is not set.
        log: A structured logger that carries the run and operation ids.
    """

    operation_id: str
    idempotency_key: str
    undoes: str
    attempt: int
    run_id: str
    user: str
    tenant: str
    callback_url: str
    log: Any

    @property
    @abstractmethod
    def last_checkpoint(self) -> Any:
        """What an earlier attempt of this operation left with `checkpoint`, or None."""

    @property
    @abstractmethod
    def cancelled(self) -> bool:
        """Whether the run was cancelled; a tool in a thread should look and return."""

    @abstractmethod
    async def checkpoint(self, value: Any) -> None:
        """Keep a JSON value durably, so that the next attempt can go on from here."""

    @abstractmethod
    def heartbeat(self) -> None:
        """Show that the call is alive. The engine does so by itself; a tool never needs to."""

    @abstractmethod
    def secret(self, name: str) -> str:
        """A secret of this worker, resolved now from `HANDFAST_SECRET_<NAME>`; it is never logged or recorded.

        Raises:
            ToolError: This worker has none of that name, or the contract does not name it in `secrets`.
        """

    @abstractmethod
    def http(self, name: str) -> Any:
        """An `httpx.AsyncClient` for the upstream of that name, from the settings `HANDFAST_UPSTREAMS`.

        Every unsafe request carries `Idempotency-Key`: `idempotency_key`, and for a second and third one of the same call
        a key of its own that is the same in each attempt; send them in the same order each time. One that failed and is
        sent again keeps its key. Failures raise `ToolError` with the right cause, and with `happened="unknown"` once an
        unsafe request of this attempt was accepted: a part of the call has happened.
        """

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """For `TRANSACTIONAL` tools: an SQLAlchemy `AsyncConnection` whose writes commit with the settlement."""
