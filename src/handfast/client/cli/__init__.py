"""The command line: `handfast`."""

from handfast.client.cli.app import main

__all__ = ["main"]
