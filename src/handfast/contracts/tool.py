"""The tool contract: what an author declares, checked as a whole when it is built."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from handfast.contracts.backoff import Backoff
from handfast.contracts.clause_fields import ClauseFields
from handfast.contracts.clauses import Cache, Deprecation, Rate
from handfast.contracts.compensation import Compensation
from handfast.contracts.context import ToolContext
from handfast.contracts.effects import Effect, Lane, Tier
from handfast.contracts.endpoint import Endpoint
from handfast.contracts.errors import ContractError, ErrorCode, ToolError
from handfast.contracts.faults import argument_faults, list_faults, own_faults
from handfast.contracts.field_paths import is_empty, picked
from handfast.contracts.identity import digest
from handfast.contracts.json_schema import root_resolved
from handfast.contracts.messages import ToolSchema
from handfast.contracts.pending import POLLS, Pending
from handfast.contracts.signature import Signature, read_signature
from handfast.contracts.signing import Dialect
from handfast.contracts.storage import JsonAdapter
from handfast.contracts.upstream import Upstream
from handfast.contracts.versions import version_numbers

if TYPE_CHECKING:
    from handfast.contracts.child import Child

DEFAULT_TIMEOUT = timedelta(seconds=30)
DOWN_MARGIN = 0.5
"""Seconds after which a service that is down is tried again by what undoes a call, once a probe may pass."""


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
    """`async reconcile(args, ctx)`: the result if the call happened, None if it surely did not; raises when unsure.

    For RECONCILED, and for KEYED where the key no longer helps: it is forgotten, or its answer was an error."""
    key: tuple[str, ...] = ()
    """Argument fields that are the idempotency key, such as an invoice's number: two calls that agree on them have one effect,
    whatever run they are of. Unless said the key is the operation's own. For KEYED."""
    key_lifetime: timedelta = timedelta(hours=24)
    """How long the other side remembers a key. After that a call in doubt is looked up or left to a person. For KEYED."""
    rates: tuple[Rate, ...] = ()
    """How often it may be tried; calls beyond it wait, in Temporal, not in a worker's slot."""
    concurrency: int | None = None
    """How many calls may be under way at once, over all workers."""
    cache: Cache | None = None
    """Its results may be given again. For READ."""
    invalidates: "tuple[str | Tool, ...]" = ()
    """Tools whose kept results are no longer true after it, for the tenant: by name those of the same agent, others themselves."""
    fallback: "Tool | None" = None
    """What to do when it is broken: a READ is answered by it, for any other the model is told to use it instead."""
    untrusted: bool | tuple[str, ...] = False
    """Its results, or these fields of them, are somebody else's words: web pages, mail, documents."""
    egress: bool = False
    """It sends something to outside of the organisation."""
    targets: tuple[str, ...] | None = None
    """The arguments that pick what a call aims at: whom it reaches, what it changes. All of them unless said. Once somebody else's
    words are in a run, they must come from the user's own words or from a trusted field; else a person is asked."""
    sensitive: bool = False
    """Its results must not get away, nor be acted on, without a person once somebody else's words are in the run."""
    hides: tuple[str, ...] = ()
    """Personal data that its results are shown to the model without: `mail`, `phone`, `card`, `iban`; with the extra
    `presidio` also what that recognises by its form, such as `US_SSN`. The ledger keeps it."""
    secrets: tuple[str, ...] = ()
    """The secrets it may ask for with `ctx.secret`."""
    upstreams: Mapping[str, Upstream] = field(default_factory=dict[str, Upstream])
    """HTTP services that come with it; the worker's settings for the same name go before."""
    endpoints: tuple[Endpoint, ...] = ()
    """What it asks of its upstreams: watched for drift, and held against the upstream's own document by `tools probe`."""
    compensate: Compensation | None = None
    """What undoes a call, if the run ends badly or somebody rolls it back."""
    pivot: bool = False
    """It can't be undone, and commits the job: it is carried out once every other call that was asked for before it in the turn has
    succeeded, and after it nothing that was done is undone because the run ends badly."""
    poll: Callable[..., Any] | None = None
    """`async poll(args, reference, ctx)`: what became of work that a call left `Pending`, None as long as it goes on; a
    `ToolError` that is not retryable ends it."""
    polls: Backoff = POLLS
    """The waits between two looks."""
    callback: Dialect | None = None
    """How callbacks for `Pending` work are signed, and the name of the secret."""
    background: bool = False
    """The model does not wait for work that a call leaves `Pending`: it gets a receipt at once and the result later, as a
    message. Else the turn waits."""
    owner: str = ""
    """Who answers for it: a team or an address."""
    runbook: str = ""
    """Where it is written what to do when it fails."""
    deprecated: Deprecation | None = None
    """It will go; the model is told so."""
    builtin: bool = False
    """One of the engine's own."""
    most: int | None = None
    """How many calls of it one run may make."""
    child: "Child | None" = None
    """Its calls are runs of their own, of this agent. Such a tool is made by `Agent.as_tool`."""
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
            faults.extend(list_faults(self) or argument_faults(self))
        faults.extend(own_faults(self))
        if faults:
            raise ContractError(f"tool {self.name!r}", faults)

    @property
    def undo(self) -> Effect | None:
        """The effect class of what undoes it, None if nothing does."""
        if self.child is not None:
            # Undoing the run: what its calls can be undone by is theirs to say.
            return None if self.effect is Effect.READ else self.effect
        return None if self.compensate is None else self.compensate.effect_for(self.effect)

    def undoing(self, result: Any) -> "Tool":
        """What undoes one call, as a tool that is carried out like any other. `result` is what the call returned, if that is known.

        Raises:
            ValueError: Nothing undoes it.
        """
        compensation = self.compensate
        if compensation is None:
            msg = f"{self.name} {self.version} names no compensate="
            raise ValueError(msg)

        async def undo(arguments: BaseModel, ctx: ToolContext) -> Any:
            try:
                undone = await compensation.function(arguments, result, ctx)
            except ToolError as error:
                if error.code == ErrorCode.CIRCUIT_OPEN:
                    # A call does without a service that is down; what undoes one waits until it may be tried.
                    error.retryable, error.retry_after = True, (error.retry_after or 0) + DOWN_MARGIN
                raise
            if isinstance(undone, Pending):
                message = f"what undoes {self.name} returned Pending: it must end within its time limit"
                raise ToolError(message, happened="unknown")
            return undone

        async def reconcile(arguments: BaseModel, ctx: ToolContext) -> Any:
            assert compensation.reconcile is not None  # noqa: S101 - given to the tool only then
            return await compensation.reconcile(arguments, result, ctx)

        undo.__annotations__ = {"arguments": self.signature.arguments, "ctx": ToolContext}
        return replace(
            self,
            function=undo,
            effect=compensation.effect_for(self.effect),
            reconcile=reconcile if compensation.reconcile else None,
            timeout=compensation.timeout or self.timeout,
            attempts=compensation.attempts,
            backoff=compensation.backoff,
            lane=Lane.STANDARD,
            key=(),
            fallback=None,
            poll=None,
            callback=None,
            background=False,
            endpoints=(),
            compensate=None,
            # What a compensation returns has no fields that the contract could name.
            untrusted=self.untrusted is True,
        )

    @property
    def invalidated(self) -> tuple[str, ...]:
        """The names of the tools whose kept results are no longer true after it."""
        return tuple(one if isinstance(one, str) else one.name for one in self.invalidates)

    @property
    def limited(self) -> bool:
        """Whether rates or concurrency hold it back."""
        return bool(self.rates) or self.concurrency is not None

    @property
    def major(self) -> int:
        """The major version: contracts that agree on it are compatible."""
        return version_numbers(self.version)[0]

    @cached_property
    def schema(self) -> ToolSchema:
        """What the model is told: name, description, JSON Schema of the arguments, examples."""
        schema = root_resolved(self.signature.arguments.model_json_schema())
        schema.pop("title", None)
        schema.setdefault("additionalProperties", False)
        description = f"{self.description}\n\n{self.deprecated.told}" if self.deprecated else self.description
        return ToolSchema(name=self.name, description=description, parameters=schema, examples=self.examples)

    @cached_property
    def fields(self) -> ClauseFields:
        """The fields that its clauses name, by the paths at which arguments and results are stored."""
        return ClauseFields(self)

    @cached_property
    def result_adapter(self) -> JsonAdapter:
        """Turns results into JSON and, for `reconcile` and `compensate`, back."""
        return JsonAdapter(self.signature.result)

    def digest(self, arguments: dict[str, Any]) -> str:
        """What an operation of this tool is bound to."""
        return digest(self.name, self.major, arguments)

    def preview(self, arguments: Mapping[str, Any], hide: Callable[[str], str] = str, characters: int = 40) -> str:
        """The shown fields of a call in at most `characters` characters, empty if none is marked `show`.

        `hide` takes out what nobody is to see; it is given the whole text, before that is cut.
        """
        shown = picked(arguments, self.fields.show).values()
        text = hide(" ".join(str(value) for value in shown if not is_empty(value)))
        return text if len(text) <= characters else text[: characters - 1] + "…"


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
    compensate: Compensation | Callable[..., Any] | None = None,
    pivot: bool = False,
    key: tuple[str, ...] = (),
    key_lifetime: timedelta = timedelta(hours=24),
    rates: tuple[Rate, ...] = (),
    concurrency: int | None = None,
    cache: Cache | None = None,
    invalidates: tuple[str | Tool, ...] = (),
    fallback: Tool | None = None,
    untrusted: bool | tuple[str, ...] = False,
    egress: bool = False,
    targets: tuple[str, ...] | None = None,
    sensitive: bool = False,
    hides: tuple[str, ...] = (),
    secrets: tuple[str, ...] = (),
    upstreams: Mapping[str, Upstream] | None = None,
    endpoints: tuple[Endpoint, ...] = (),
    poll: Callable[..., Any] | None = None,
    polls: Backoff = POLLS,
    callback: Dialect | None = None,
    background: bool = False,
    most: int | None = None,
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
            name=name or str(getattr(function, "__name__", "")),
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
            examples=tuple(
                e.model_dump(mode="json", by_alias=True) if isinstance(e, BaseModel) else e for e in examples
            ),
            settles_within=settles_within,
            reconcile=reconcile,
            compensate=Compensation(function=compensate) if callable(compensate) else compensate,
            pivot=pivot,
            key=key,
            key_lifetime=key_lifetime,
            rates=rates,
            concurrency=concurrency,
            cache=cache,
            invalidates=invalidates,
            fallback=fallback,
            untrusted=untrusted,
            egress=egress,
            targets=targets,
            sensitive=sensitive,
            hides=hides,
            secrets=secrets,
            upstreams=upstreams or {},
            endpoints=endpoints,
            poll=poll,
            polls=polls,
            callback=callback,
            background=background,
            most=most,
            owner=owner,
            runbook=runbook,
            deprecated=deprecated,
        )

    return build
