"""Arguments for tests that judge a call without a run."""

from collections.abc import Mapping
from typing import Any

from handfast import Tool
from handfast.contracts.arguments import Arguments, parse_arguments


def fitting(tool: Tool, given: Mapping[str, Any]) -> Arguments:
    """Arguments that fit a contract."""
    read = parse_arguments(tool, given)
    assert isinstance(read, Arguments), read
    return read
