"""What a tool function takes and gives: its argument model, whether it wants a context, whether it runs in a thread."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticUserError, create_model

from handfast.contracts.callables import is_generator
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
        ContractError: It is no function that can be called with named arguments, or a parameter's type can't be part of a contract.
    """
    subject = f"function {getattr(function, '__name__', function)!r}"
    if fault := _kind_fault(function):
        raise ContractError(subject, [fault])
    try:
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
    except (NameError, TypeError, ValueError) as error:
        raise ContractError(subject, [f"its annotations can't be read: {error}"]) from error
    context = next((name for name in parameters if hints.get(name) is ToolContext), None)
    rest = {name: parameter for name, parameter in parameters.items() if name != context}
    if faults := [*_parameter_faults(parameters, hints, context)]:
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


def _kind_fault(function: Any) -> str:
    """Why something is no function that does a tool's work; empty if it is one."""
    if is_generator(function):
        return "it is a generator, so that calling it runs nothing: return the whole result, and take its yield away"
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        kind = "a class" if inspect.isclass(function) else f"of type {type(function).__name__}"
        return f"it is {kind}, and a tool is a function or a method of an object: write async def or def that calls it"
    return ""


def _parameter_faults(
    parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], context: str | None
) -> Iterator[str]:
    for name, parameter in parameters.items():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            yield f"parameter {name!r}: only named parameters can be part of a contract"
        elif name in {"self", "cls"} and name not in hints:
            yield f"parameter {name!r}: a method needs its object; declare the tool of the object's: tool(...)(object.method)"
        elif name not in hints:
            yield f"parameter {name!r} has no type: annotate it"
        elif name.startswith("_") and name != context:
            yield f"parameter {name!r}: the name of an argument can't begin with an underscore"
        elif name.startswith("model_") and hasattr(BaseModel, name) and name != context:
            yield f"parameter {name!r}: pydantic's models have an attribute of that name, which would be given: choose another"


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
        with warnings.catch_warnings():
            # Old methods of pydantic's models, such as `schema` and `copy`, which nothing here calls.
            warnings.filterwarnings("ignore", 'Field name ".*" in ".*" shadows an attribute in parent "BaseModel"')
            return create_model(f"{function.__name__}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
    except (PydanticUserError, NameError, UserWarning) as error:
        raise ContractError(f"function {function.__name__!r}", [f"no schema for its parameters: {error}"]) from error
