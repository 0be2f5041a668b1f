"""The form of everything that travels over Temporal."""

from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Wire(BaseModel):
    """A frozen value whose defaults are not written."""

    model_config = ConfigDict(frozen=True)

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        defaults, values = _defaults(type(self)), self.__dict__
        return {k: v for k, v in handler(self).items() if k in defaults and values[k] != defaults[k]}


@cache
def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    return {name: field.default for name, field in model.model_fields.items()}


Anchor = tuple[int, str]
"""(sequence, first 8 characters of the hash) of a ledger entry: Temporal's history anchors the chain with it."""
