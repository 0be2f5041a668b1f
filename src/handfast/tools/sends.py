"""The unsafe requests of one attempt: the idempotency key of each, and whether any of them may have acted."""

from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager

from handfast.contracts.errors import ErrorCode, ToolError
from handfast.tools.lease import Lease


class Sends:
    """Keys in the order of sending, so that the same request has the same key in each attempt of an operation.

    Args:
        operation_id: The key of the first request; further ones get a key of their own, made from it.
        count: How many were sent before the checkpoint that this attempt goes on from.
        doubtful: An earlier attempt may have sent them, and nobody knows what became of that.
        lease: For how long the attempt may send any.
    """

    def __init__(
        self, operation_id: str, count: int = 0, *, doubtful: bool = False, lease: Lease | None = None
    ) -> None:
        self._operation_id = operation_id
        self._accepted = count > 0
        self._earlier = doubtful
        self._doubtful: set[str] = set()
        self._refused: dict[Hashable, str] = {}
        self._under_way: list[Callable[[], bool]] = []
        self._ended = False
        self.cut_off = False
        """A request was cancelled after bytes of it had gone out."""
        self.count = count
        self.lease = lease

    @property
    def acted(self) -> bool:
        """Whether a request was accepted or may have been. Then no failure means any more that nothing happened."""
        return self._accepted or self._earlier or bool(self._doubtful) or self.under_way

    @property
    def under_way(self) -> bool:
        """Whether bytes of a request have gone out that has not ended yet."""
        return any(went_out() for went_out in self._under_way)

    @contextmanager
    def sending(self, went_out: Callable[[], bool]) -> Generator[None]:
        """While a request is under way; `went_out` says whether bytes of it have gone out."""
        self._under_way.append(went_out)
        try:
            yield
        finally:
            self._under_way.remove(went_out)

    def end(self) -> None:
        """The attempt has failed: no request that has not gone out yet may go out any more."""
        self._ended = True

    def require(self) -> None:
        """Refuse to let bytes go out that could act, once the attempt has failed or its lease ran out.

        Raises:
            ToolError: They must not; nothing was sent since.
        """
        if self._ended:
            message = "the attempt has failed meanwhile, and sends nothing more"
            raise ToolError(message, code=ErrorCode.CANCELLED, happened="no")
        if self.lease is not None:
            self.lease.require()

    def in_doubt(self, key: str) -> bool:
        """Whether a request with this key may have been sent before, without an answer."""
        return self._earlier or key in self._doubtful

    def key(self, request: Hashable) -> str:
        """The key of a request that is about to be sent. One that failed and is sent again keeps its key."""
        known = self._refused.pop(request, None)
        if known is not None:
            return known
        self.count += 1
        return self._operation_id if self.count == 1 else f"{self._operation_id}-{self.count}"

    def accepted(self, key: str) -> None:
        """The other side accepted a request."""
        self._accepted = True
        self._doubtful.discard(key)

    def failed(self, request: Hashable, key: str, happened: str, *, cut_off: bool = False) -> None:
        """A request failed, or was cancelled in the middle (`cut_off`); `happened` as in `ToolError`."""
        self._refused[request] = key
        self.cut_off = self.cut_off or cut_off
        if happened == "unknown":
            self._doubtful.add(key)
        elif happened == "never":
            self._doubtful.discard(key)
            # Refused at the first request, no attempt came to a second one.
            self._earlier = self._earlier and key != self._operation_id
