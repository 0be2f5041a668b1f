"""How values travel over Temporal: as JSON, by pydantic."""

from functools import cache

from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import CompositePayloadConverter, DataConverter


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


DATA_CONVERTER = DataConverter(payload_converter_class=SharedPayloadConverter)
