"""An HTTP service that tools call by name."""

from pydantic import Field

from holdfast.contracts.messages import Frozen


class Upstream(Frozen):
    """One HTTP service that tools call by name."""

    base_url: str
    headers: dict[str, str] = Field(default_factory=dict)
    """Sent with every request, such as `Authorization`."""
    timeout_seconds: float = Field(default=30.0, gt=0)
    most_bytes: int = Field(default=10_000_000, gt=0)
    """Of one answer. A longer one is refused while it arrives, so that it can't fill the worker's memory."""
