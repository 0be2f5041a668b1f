"""Types as JSON in the ledger: what a function returned is stored, and read back as what it was."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, cast

from pydantic import BaseModel, SecretBytes, SecretStr, TypeAdapter

from handfast.contracts.equality import same_value
from handfast.contracts.identity import canonical_json
from handfast.contracts.plain import TooLarge, plain_json

UNREADABLE = {
    "is-instance": "an object that JSON can't hold",
    "is-subclass": "a class",
    "callable": "a function",
    "generator": "an iterator",
}
"""Kinds of pydantic's core schemas that can't be read from JSON."""


def stored_names(model: type[BaseModel]) -> dict[str, str]:
    """The fields of a model by the names that they are stored under."""
    return {field.serialization_alias or field.alias or name: name for name, field in model.model_fields.items()}


class NotStorable(ValueError):
    """A value can't be stored as JSON, or would be read back as another one."""


class JsonAdapter:
    """A declared type, as its values are stored: fields by their aliases."""

    def __init__(self, declared: Any) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(declared)

    @property
    def core_schema(self) -> Mapping[str, Any]:
        """As pydantic has it."""
        return self._adapter.core_schema

    @cached_property
    def has_any(self) -> bool:
        """Part of it is `Any`: that is read back as JSON."""
        return any(node["type"] == "any" for node in _nodes(self._adapter.core_schema))

    @cached_property
    def faults(self) -> list[str]:
        """Why its values can't be stored and read back; see `storage_faults`."""
        return storage_faults(self._adapter)

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of what is stored."""
        return self._adapter.json_schema(mode="serialization")

    def dump_json(self, value: Any, *, round_trip: bool = False) -> bytes:
        """The value as JSON text, by alias.

        Raises:
            PydanticSerializationError: It is not of the type.
        """
        return self._adapter.dump_json(value, by_alias=True, round_trip=round_trip, warnings="error")

    def store(self, value: Any, *, read_back: bool = False) -> Any:
        """The value as JSON, with computed fields.

        Args:
            value: What a function returned.
            read_back: It must be possible to read it back as the same value. A model that forbids or keeps fields that it
                does not know is then stored without its computed fields.

        Raises:
            NotStorable: It is no JSON, or would be read back as another value.
        """
        stored = self._dumped(value)
        return self.survivor(value, stored) if read_back else stored

    def survivor(self, value: Any, stored: Any) -> Any:
        """What is stored of a value, in a form that is read back as that value.

        Raises:
            NotStorable: There is none.
        """
        # Dumped once more, an iterator that has ended is another value.
        if self._dumped(value) == stored:
            if self._survives(value, stored):
                return stored
            without_computed = self._dumped(value, round_trip=True)
            if self._survives(value, without_computed):
                return without_computed
        msg = f"a {type(value).__name__} is not read back from JSON as what it was"
        raise NotStorable(msg)

    def load(self, stored: Any) -> Any:
        """What was stored, as the declared type.

        Raises:
            ValueError: It does not fit the type.
        """
        return self._adapter.validate_json(canonical_json(stored))

    def _dumped(self, value: Any, *, round_trip: bool = False) -> Any:
        try:
            stored = plain_json(self._adapter, value, round_trip=round_trip)
            canonical_json(stored)
        except TooLarge as error:
            raise NotStorable(str(error)) from error
        except Exception as error:
            # Serializers of authors may raise anything.
            msg = f"a {type(value).__name__} can't be stored as JSON: {type(error).__name__}"
            raise NotStorable(msg) from error
        return stored

    def _survives(self, value: Any, stored: Any) -> bool:
        try:
            back = self.load(stored)
        except Exception:  # noqa: BLE001 - validators of authors may raise anything
            return False
        return same_value(value, back, as_json=self.has_any)


def storage_faults(adapter: TypeAdapter[Any]) -> list[str]:
    """Why values of a type can't be stored as JSON and read back, as far as the type shows it; one sentence each."""
    faults: dict[str, None] = {}
    for node in _nodes(adapter.core_schema):
        config: Mapping[str, Any] = node.get("config") or {}
        written, read = config.get("ser_json_bytes", "utf8"), config.get("val_json_bytes", "utf8")
        if written != read:
            faults[
                f"it writes bytes as {written} and reads them as {read}: set ser_json_bytes and val_json_bytes alike"
            ] = None
        if node["type"] in UNREADABLE:
            faults[f"it holds {UNREADABLE[node['type']]}, which can't be stored as JSON and read back"] = None
        if _makes_secret(node):
            faults[
                "it holds a SecretStr or SecretBytes, which is stored as asterisks: name secrets in secrets=(...)"
            ] = None
    return [*faults]


def _makes_secret(node: dict[str, Any]) -> bool:
    function: Any = node["function"]["function"] if node["type"] == "function-after" else None
    return isinstance(function, type) and issubclass(function, (SecretStr, SecretBytes))


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every core schema within one, along the way that JSON takes."""
    if isinstance(schema, list):
        for inner in cast("Iterable[Any]", schema):
            yield from _nodes(inner)
    elif isinstance(schema, dict):
        node = cast("dict[str, Any]", schema)
        if isinstance(node.get("type"), str):
            yield node
        if node.get("type") == "json-or-python":
            yield from _nodes(node["json_schema"])
        elif node.get("type") == "lax-or-strict":
            yield from _nodes(node["lax_schema"])
        else:
            for name, inner in node.items():
                if name not in {"metadata", "serialization", "config", "cls"}:
                    yield from _nodes(inner)
