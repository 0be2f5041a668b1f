"""What a tool function takes and gives: its argument model, whether it wants a context, whether it runs in a thread."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, create_model

from handfast.contracts.context import ToolContext
from handfast.contracts.errors import ContractError
from handfast.contracts.pending import Pending


@dataclass(frozen=True, kw_only=True)
class Signature:
    """How a tool function is called."""

    arguments: type[BaseModel]
    """The model that arguments are validated with."""
    result: Any
    """The annotated result type, `Any` where there is none."""
    spread: bool
    """The function takes the fields one by one, not the model."""
    context: str | None
    """The parameter that takes the `ToolContext`, if there is one."""
    threaded: bool
    """A plain `def`, which runs in a thread."""
    model_parameter: str | None = None

    def bind(self, arguments: BaseModel, context: ToolContext) -> dict[str, Any]:
        """The keyword arguments of one call."""
        if self.spread:
            given: dict[str, Any] = {name: getattr(arguments, name) for name in type(arguments).model_fields}
        elif self.model_parameter is None:
            given = {}
        else:
            given = {self.model_parameter: arguments}
        if self.context is not None:
            given[self.context] = context
        return given


def read_signature(function: Callable[..., Any]) -> Signature:
    """Read a tool function's signature.

    Raises:
        ContractError: A parameter or its type can't be part of a contract.
    """
    subject = f"function {getattr(function, '__name__', function)!r}"
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ContractError(subject, [f"its annotations can't be read: {error}"]) from error
    parameters = inspect.signature(function).parameters
    context = next((name for name in parameters if hints.get(name) is ToolContext), None)
    rest = {name: parameter for name, parameter in parameters.items() if name != context}
    faults = [
        f"parameter {name!r}: only named parameters can be part of a contract"
        for name, parameter in rest.items()
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}
    ]
    faults += [f"parameter {name!r} has no type: annotate it" for name in rest if name not in hints]
    if faults:
        raise ContractError(subject, faults)
    models = [name for name in rest if isinstance(hints[name], type) and issubclass(hints[name], BaseModel)]
    whole = models[0] if len(rest) == 1 and models else None
    return Signature(
        arguments=hints[whole] if whole else _model_of(function, rest, hints),
        result=_without_pending(hints.get("return", Any)),
        spread=whole is None,
        context=context,
        threaded=not inspect.iscoroutinefunction(function),
        model_parameter=whole,
    )


def _without_pending(result: Any) -> Any:
    """The type of what the call comes to in the end; `Pending` is only what it says meanwhile."""
    if get_origin(result) not in {Union, UnionType}:
        return Any if result is Pending else result
    rest = tuple(part for part in get_args(result) if part is not Pending)
    return Union[rest]  # noqa: UP007 - made at run time


def _model_of(
    function: Callable[..., Any], parameters: dict[str, inspect.Parameter], hints: dict[str, Any]
) -> type[BaseModel]:
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in parameters.items()
    }
    try:
        return create_model(f"{function.__name__}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
    except PydanticSchemaGenerationError as error:
        raise ContractError(f"function {function.__name__!r}", [f"no schema for its parameters: {error}"]) from error
