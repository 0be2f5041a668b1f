"""Files that people write for the engine: plans, policies."""

from pathlib import Path

from handfast.contracts.errors import SettingsError

LARGEST = 1_000_000
"""Bytes."""


def read_text_file(path: Path, what: str) -> str:
    """The text of a file.

    Args:
        path: Where it is.
        what: What it should hold, such as `a plan`.

    Raises:
        SettingsError: There is no such file, it is too large, or it is no text.
    """
    try:
        if path.stat().st_size > LARGEST:
            msg = f"{path}: {what} has at most {LARGEST} bytes"
            raise SettingsError(msg)
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: can't be read: {error}"
        raise SettingsError(msg) from error
