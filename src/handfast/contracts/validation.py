"""Holding the arguments of a call against its contract."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from handfast.contracts.identity import canonical_json
from handfast.contracts.tool import Tool


def validate(tool: Tool, arguments: Mapping[str, Any]) -> BaseModel | dict[str, str]:
    """The arguments as the tool's model, or what is wrong with them by field.

    What the schema does not name is refused: a pydantic model would pass over it, and the call would do less than was asked.
    """
    schema = tool.schema.parameters
    named = schema.get("properties", {})
    if schema["additionalProperties"] is False and (unknown := arguments.keys() - named.keys()):
        return {name: f"unknown argument; arguments are {', '.join(named) or 'none'}" for name in sorted(unknown)}
    try:
        return tool.signature.arguments.model_validate_json(canonical_json(dict(arguments)), strict=False)
    except ValidationError as error:
        return {".".join(str(step) for step in fault["loc"]) or "arguments": fault["msg"] for fault in error.errors()}
