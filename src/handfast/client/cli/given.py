"""Values on a command line that are more than a word."""

import json
from pathlib import Path
from typing import Any

from handfast.contracts.errors import SettingsError


def json_object(text: str, option: str) -> dict[str, Any]:
    """A JSON object as it was given, or read from the file of `@FILE`.

    Raises:
        SettingsError: It is none.
    """
    try:
        told = json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        msg = f"{option} {text!r} can't be read: {error}"
        raise SettingsError(msg) from error
    if not isinstance(told, dict):
        msg = f'{option} {text!r} is no JSON object: write something like \'{{"city": "Oslo"}}\''
        raise SettingsError(msg)
    return {str(name): value for name, value in told.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - JSON
