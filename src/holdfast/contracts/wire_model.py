"""The form of everything that travels over Temporal."""

from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Wire(BaseModel):
    """A frozen value whose defaults are not written."""

    model_config = ConfigDict(frozen=True)

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        written = handler(self)
        return {k: v for k, v in written.items() if k in fields and getattr(self, k) != fields[k].default}


Anchor = tuple[int, str]
"""(sequence, first 8 characters of the hash) of a ledger entry: Temporal's history anchors the chain with it."""
