"""The tool contract: what an author declares, checked as a whole when it is built."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import Any

from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

from holdfast.contracts.backoff import Backoff
from holdfast.contracts.effects import Effect, Lane, Tier
from holdfast.contracts.errors import ContractError
from holdfast.contracts.identity import digest
from holdfast.contracts.messages import ToolSchema
from holdfast.contracts.names import RESERVED_TOOL_NAMES
from holdfast.contracts.signature import Signature, read_signature

NAME = re.compile(r"^[a-zA-Z][a-zA-Z0-9_-]{0,63}$")
VERSION = re.compile(r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$")
FAST_LANE_LIMIT = timedelta(seconds=2)
DEFAULT_TIMEOUT = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Deprecation:
    """A contract that will go."""

    since: str
    """The version since which it is deprecated."""
    sunset: date | None = None
    """The day after which it may be gone."""
    replaced_by: str = ""
    """The tool to use instead."""

    @property
    def told(self) -> str:
        """In one sentence, for models and people."""
        until = f", gone after {self.sunset}" if self.sunset else ""
        instead = f"; use {self.replaced_by} instead" if self.replaced_by else ""
        return f"Deprecated since {self.since}{until}{instead}."


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A versioned production boundary: the contract and the function that does the work.

    Build one with `tool`; construction checks everything and reports all faults together.
    """

    name: str
    """What the model calls, and the Temporal activity type."""
    version: str
    """Semantic version of the contract."""
    description: str
    """For the model: what it does, and when to use it."""
    effect: Effect
    tier: Tier
    scope: str
    """What it needs to be allowed to do, such as `payments:refund:write`."""
    function: Callable[..., Any]
    timeout: timedelta = DEFAULT_TIMEOUT
    """For one attempt."""
    timeout_said: bool = True
    """The author chose the timeout; else it is the default."""
    attempts: int = 4
    """How often it may be tried, first attempt included. Counted by reservations in the ledger."""
    backoff: Backoff = field(default_factory=Backoff)
    """The waits between attempts."""
    lane: Lane = Lane.STANDARD
    queue: str | None = None
    """A task queue of its own, for isolation, other credentials or a server-side rate."""
    conflict: tuple[str, ...] = ()
    """Argument fields: calls of one turn that agree on them run one after the other."""
    same_intent: tuple[str, ...] = ()
    """Argument fields: a second call of a run that agrees on them is held until a person confirms it."""
    show: tuple[str, ...] = ()
    """Argument fields that may appear in Temporal's history and UI. None unless said."""
    result_limit: int = 2000
    """Characters of a result that the model gets; the whole is kept in the ledger."""
    examples: tuple[dict[str, Any], ...] = ()
    """Example arguments, for the model and for people."""
    settles_within: timedelta = timedelta(minutes=1)
    """How long after an attempt's deadline its effect may still appear. For RECONCILED."""
    reconcile: Callable[..., Any] | None = None
    """`async reconcile(args, ctx)`: the result if the call happened, None if it surely did not; raises when unsure."""
    compensate: Callable[..., Any] | None = None
    """`async compensate(args, result, ctx)`: undoes the call. Recorded in the contract."""
    owner: str = ""
    """Who answers for it: a team or an address."""
    runbook: str = ""
    """Where it is written what to do when it fails."""
    deprecated: Deprecation | None = None
    """It will go; the model is told so."""
    builtin: bool = False
    """One of the engine's own."""
    signature: Signature = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read the function's signature and check the contract as a whole."""
        faults: list[str] = []
        try:
            signature = read_signature(self.function)
        except ContractError as error:
            faults.extend(error.faults)
        else:
            object.__setattr__(self, "signature", signature)
            faults.extend(_argument_faults(self))
        faults.extend(_own_faults(self))
        if faults:
            raise ContractError(f"tool {self.name!r}", faults)

    @property
    def major(self) -> int:
        """The major version: contracts that agree on it are compatible."""
        return version_numbers(self.version)[0]

    @cached_property
    def schema(self) -> ToolSchema:
        """What the model is told: name, description, JSON Schema of the arguments, examples."""
        schema = self.signature.arguments.model_json_schema()
        schema.pop("title", None)
        schema.setdefault("additionalProperties", False)
        description = f"{self.description}\n\n{self.deprecated.told}" if self.deprecated else self.description
        return ToolSchema(name=self.name, description=description, parameters=schema, examples=self.examples)

    @cached_property
    def result_adapter(self) -> TypeAdapter[Any]:
        """Turns results into JSON and, for `reconcile` and `compensate`, back."""
        return TypeAdapter(self.signature.result)

    def digest(self, arguments: dict[str, Any]) -> str:
        """What an operation of this tool is bound to."""
        return digest(self.name, self.major, arguments)

    def preview(self, arguments: dict[str, Any], characters: int = 40) -> str:
        """The shown fields of a call in at most `characters` characters, empty if none is marked `show`."""
        text = " ".join(str(arguments[name]) for name in self.show if name in arguments)
        return text if len(text) <= characters else text[: characters - 1] + "…"


def version_numbers(version: str) -> tuple[int, ...]:
    """A semantic version to compare by."""
    return tuple(int(number) for number in version.split("."))


def _own_faults(tool: Tool) -> list[str]:
    faults: list[str] = []
    if not NAME.match(tool.name):
        faults.append(f"name {tool.name!r}: allowed are a letter, then up to 63 letters, digits, '_' or '-'")
    if tool.name in RESERVED_TOOL_NAMES and not tool.builtin:
        faults.append(f"name {tool.name!r} is one of the engine's own: {', '.join(sorted(RESERVED_TOOL_NAMES))}")
    if not VERSION.match(tool.version):
        faults.append(f"version {tool.version!r}: write MAJOR.MINOR.PATCH, such as '1.0.0'")
    if not tool.description.strip():
        faults.append("it has no description: give the function a docstring that tells a model when to use it")
    if not tool.scope.strip():
        faults.append("scope is empty: name what it needs to be allowed to do, such as 'orders:read'")
    if tool.timeout <= timedelta(0):
        faults.append(f"timeout {tool.timeout}: must be above zero")
    if tool.attempts < 1:
        faults.append(f"attempts {tool.attempts}: must be at least 1")
    if tool.result_limit < 100:
        faults.append(f"result_limit {tool.result_limit}: must be at least 100 characters")
    if tool.effect is Effect.READ and tool.tier is not Tier.READ_ONLY and tool.tier is not Tier.PRIVILEGED:
        faults.append(f"effect READ with tier {tool.tier}: a call without an effect is READ_ONLY (or PRIVILEGED)")
    if tool.effect is not Effect.READ and tool.tier is Tier.READ_ONLY:
        faults.append(f"tier READ_ONLY with effect {tool.effect}: a call that changes something is at least REVERSIBLE")
    if tool.lane is Lane.FAST and tool.timeout > FAST_LANE_LIMIT:
        faults.append(f"lane 'fast' with timeout {tool.timeout}: the fast lane is for calls that end within 2 s")
    if tool.lane is Lane.FAST and tool.queue:
        faults.append(f"lane 'fast' with queue {tool.queue!r}: a local activity runs where its workflow runs")
    if tool.effect is Effect.RECONCILED and tool.reconcile is None:
        faults.append("effect RECONCILED without reconcile=: give the function that looks whether the call happened")
    if tool.reconcile is not None and tool.effect is not Effect.RECONCILED:
        faults.append(f"reconcile= with effect {tool.effect}: it is asked only for RECONCILED")
    for role, function, parameters in (("reconcile", tool.reconcile, 2), ("compensate", tool.compensate, 3)):
        if function is None:
            continue
        if not inspect.iscoroutinefunction(function):
            faults.append(f"{role}= must be an async function")
        elif len(inspect.signature(function).parameters) != parameters:
            faults.append(f"{role}= must take {parameters} parameters")
    return faults


def _argument_faults(tool: Tool) -> list[str]:
    faults: list[str] = []
    known = tool.signature.arguments.model_fields
    for role, names in (("conflict", tool.conflict), ("same_intent", tool.same_intent), ("show", tool.show)):
        faults.extend(
            f"{role} names {name!r}, which is no argument; arguments are {', '.join(known) or 'none'}"
            for name in names
            if name not in known
        )
    for example in tool.examples:
        try:
            tool.signature.arguments.model_validate(example)
        except ValueError as error:
            faults.append(f"example {example!r} does not fit its own schema: {error}")
    try:
        _ = tool.schema, tool.result_adapter
    except (PydanticUserError, PydanticSchemaGenerationError) as error:
        faults.append(f"no JSON Schema can be made of it: {error}")
    return faults


def tool(
    *,
    version: str,
    effect: Effect,
    tier: Tier,
    scope: str,
    name: str | None = None,
    description: str | None = None,
    timeout: timedelta | None = None,
    attempts: int = 4,
    backoff: Backoff | None = None,
    lane: Lane | str = Lane.STANDARD,
    queue: str | None = None,
    conflict: tuple[str, ...] = (),
    same_intent: tuple[str, ...] = (),
    show: tuple[str, ...] = (),
    result_limit: int = 2000,
    examples: tuple[dict[str, Any] | BaseModel, ...] = (),
    settles_within: timedelta = timedelta(minutes=1),
    reconcile: Callable[..., Any] | None = None,
    compensate: Callable[..., Any] | None = None,
    owner: str = "",
    runbook: str = "",
    deprecated: Deprecation | None = None,
) -> Callable[[Callable[..., Any]], Tool]:
    """Declare a function as a tool. `effect` and `tier` have no default: an author must say.

    The function takes one pydantic model, or plain annotated parameters, and optionally a `ToolContext`; a plain
    `def` runs in a thread. Its name and docstring are the tool's unless said otherwise. See `Tool` for each clause.

    Raises:
        ContractError: With every fault of the contract, when the module is imported.
    """

    def build(function: Callable[..., Any]) -> Tool:
        return Tool(
            name=name or function.__name__,
            version=version,
            description=description if description is not None else inspect.getdoc(function) or "",
            effect=effect,
            tier=tier,
            scope=scope,
            function=function,
            timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
            timeout_said=timeout is not None,
            attempts=attempts,
            backoff=backoff or Backoff(),
            lane=Lane(lane),
            queue=queue,
            conflict=conflict,
            same_intent=same_intent,
            show=show,
            result_limit=result_limit,
            examples=tuple(e.model_dump(mode="json") if isinstance(e, BaseModel) else e for e in examples),
            settles_within=settles_within,
            reconcile=reconcile,
            compensate=compensate,
            owner=owner,
            runbook=runbook,
            deprecated=deprecated,
        )

    return build
