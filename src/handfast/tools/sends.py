"""The unsafe requests of one attempt: the idempotency key of each, and whether any of them may have acted."""

from collections.abc import Hashable

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
        self.count = count
        self.lease = lease

    @property
    def acted(self) -> bool:
        """Whether a request was accepted or may have been. Then no failure means any more that nothing happened."""
        return self._accepted or self._earlier or bool(self._doubtful)

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

    def failed(self, request: Hashable, key: str, happened: str) -> None:
        """A request failed; `happened` as in `ToolError`."""
        self._refused[request] = key
        if happened == "unknown":
            self._doubtful.add(key)
        elif happened == "never":
            self._doubtful.discard(key)
            # Refused at the first request, no attempt came to a second one.
            self._earlier = self._earlier and key != self._operation_id
