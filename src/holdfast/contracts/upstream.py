"""An HTTP service that tools call by name."""

from pydantic import Field

from holdfast.contracts.messages import Frozen


class Upstream(Frozen):
    """One HTTP service that tools call by name."""

    base_url: str
    headers: dict[str, str] = Field(default_factory=dict)
    """Sent with every request, such as `Authorization`."""
    timeout_seconds: float = 30.0
