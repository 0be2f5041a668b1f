"""Semantic versions."""

import re

VERSION = re.compile(r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$")


def version_numbers(version: str) -> tuple[int, ...]:
    """A semantic version to compare by."""
    return tuple(int(number) for number in version.split("."))
