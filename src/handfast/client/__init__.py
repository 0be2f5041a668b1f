"""Start, watch, decide, cancel: `Client`, `Run` and the command line."""

from handfast.client.client import Client
from handfast.client.run import Run

__all__ = ["Client", "Run"]
