"""Start, watch, decide, cancel: `Client`, `Run` and the command line."""

from holdfast.client.client import Client
from holdfast.client.run import Run

__all__ = ["Client", "Run"]
