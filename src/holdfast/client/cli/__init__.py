"""The command line: `holdfast`."""

from holdfast.client.cli.app import main

__all__ = ["main"]
