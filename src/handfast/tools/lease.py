"""For how long an attempt may act. After that another one may have taken over."""

import time

from handfast.contracts.errors import ErrorCode, ToolError


class Lease:
    """Counts from when it is made, by two clocks: one stands still while a machine sleeps, the other may be set.

    It limits an attempt that was frozen; one that is frozen past its last look at it is beyond anybody's reach.
    """

    def __init__(self, seconds: float) -> None:
        self._monotonic = time.monotonic() + seconds
        self._wall = time.time() + seconds

    @property
    def left(self) -> float:
        """Seconds until it runs out, by the clock that is further on."""
        return min(self._monotonic - time.monotonic(), self._wall - time.time())

    @property
    def over(self) -> bool:
        """Whether it ran out, by either clock."""
        return self.left < 0

    def require(self) -> None:
        """Refuse to act once it ran out.

        Raises:
            ToolError: It did; nothing was sent since.
        """
        if self.over:
            message = "the attempt was held up until another one may have taken over"
            raise ToolError(message, code=ErrorCode.TIMEOUT, retryable=True, happened="no")
