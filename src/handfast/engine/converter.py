"""How values travel over Temporal: as JSON, by pydantic; and errors, without their contents."""

from functools import cache
from typing import Self

from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import CompositePayloadConverter, DataConverter, SerializationContext
from typing_extensions import override

from handfast.engine.failures import ContentFreeFailures


@cache
def _encoders() -> PydanticPayloadConverter:
    return PydanticPayloadConverter()


class SharedPayloadConverter(CompositePayloadConverter):
    """Temporal's pydantic converter with one set of encoders for the process.

    The SDK makes a converter for each run and for each of its workflow tasks. The pydantic one would begin each with an
    empty cache of type adapters; it keeps no state of a run, so one is enough.
    """

    def __init__(self) -> None:
        super().__init__(*_encoders().converters.values())


class SharedDataConverter(DataConverter):
    """A data converter none of whose parts asks for what, or for which run, it converts.

    The SDK asks all of them again for each payload, which was a twelfth of a busy worker's CPU.
    """

    @override
    def with_context(self, context: SerializationContext) -> Self:
        """The same."""
        return self


DATA_CONVERTER = SharedDataConverter(
    payload_converter_class=SharedPayloadConverter, failure_converter_class=ContentFreeFailures
)
