"""What can be wrong with a tool contract. All of it is told together when the contract is built."""

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

from handfast.contracts.callables import async_faults
from handfast.contracts.compensation import Compensation
from handfast.contracts.credentials import RESERVED_IN_SECRETS, is_secret_name
from handfast.contracts.effects import Effect, Lane, Tier
from handfast.contracts.identity import canonical_json
from handfast.contracts.names import RESERVED_TOOL_NAMES
from handfast.contracts.storage import storage_faults
from handfast.contracts.suggestions import close_to, instead_of
from handfast.contracts.upstream import ApiKey, OAuth2
from handfast.contracts.versions import VERSION

if TYPE_CHECKING:
    from handfast.contracts.tool import Tool

NAME = re.compile(r"^[a-zA-Z][a-zA-Z0-9_-]{0,63}$")
PROPERTY = re.compile(r"^[a-zA-Z0-9_.-]{1,64}$")
"""How the Messages API wants arguments to be named: one other name, and it refuses every request."""
SCOPE = re.compile(r"^[^\s:]+(:[^\s:]+)*$")
QUEUE = re.compile(r"^(?!/_sys/)[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,253}[^\s\x00-\x1f\x7f])?$")
"""Temporal keeps `/_sys/` to itself."""
HIDEABLE = ("mail", "phone", "card", "iban")
"""The personal data that a contract may hide."""
FURTHER = re.compile(r"[A-Z][A-Z_]+")
"""How Presidio names kinds of personal data; whether it knows one is found out where it is installed."""
FAST_LANE_LIMIT = timedelta(seconds=2)


def own_faults(tool: "Tool") -> list[str]:
    """What is wrong with a contract whatever its function's arguments are, one sentence each."""
    faults: list[str] = []
    if not NAME.fullmatch(tool.name):
        faults.append(f"name {tool.name!r}: allowed are a letter, then up to 63 letters, digits, '_' or '-'")
    if tool.name in RESERVED_TOOL_NAMES and not tool.builtin:
        faults.append(f"name {tool.name!r} is one of the engine's own: {', '.join(sorted(RESERVED_TOOL_NAMES))}")
    if not VERSION.fullmatch(tool.version):
        faults.append(f"version {tool.version!r}: write MAJOR.MINOR.PATCH, such as '1.0.0'")
    if not tool.description.strip():
        faults.append("it has no description: give the function a docstring that tells a model when to use it")
    if not tool.scope.strip():
        faults.append("scope is empty: name what it needs to be allowed to do, such as 'orders:read'")
    elif not SCOPE.fullmatch(tool.scope):
        faults.append(
            f"scope {tool.scope!r}: write words with colons between them and no spaces, such as 'orders:read'"
        )
    if tool.queue is not None and not QUEUE.fullmatch(tool.queue):
        faults.append(f"queue {tool.queue!r}: name a task queue in at most 255 printable characters, or leave it out")
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
    if tool.reconcile is not None and tool.effect not in {Effect.RECONCILED, Effect.KEYED}:
        faults.append(f"reconcile= with effect {tool.effect}: it is asked only for RECONCILED and KEYED")
    if tool.key and tool.effect is not Effect.KEYED:
        faults.append(f"key= with effect {tool.effect}: only KEYED calls have an idempotency key")
    if tool.key_lifetime <= timedelta(0):
        faults.append(f"key_lifetime {tool.key_lifetime}: must be above zero")
    if tool.concurrency is not None and tool.concurrency < 1:
        faults.append(f"concurrency {tool.concurrency}: must be at least 1")
    if tool.most is not None and tool.most < 1:
        faults.append(f"most {tool.most}: must be at least 1")
    if tool.background and tool.effect is Effect.TRANSACTIONAL:
        faults.append("background= with effect TRANSACTIONAL: it commits or does not, and can't be Pending")
    if tool.background and tool.poll is None and tool.callback is None:
        faults.append("background= without poll= or callback=: nobody would hear of the work's end")
    if tool.pivot and tool.compensate is not None:
        faults.append("pivot= with compensate=: a pivot commits the job because it can't be undone; choose one of them")
    if tool.pivot and tool.effect is Effect.READ:
        faults.append("pivot= with effect READ: it changes nothing, so it can't commit a job")
    if tool.pivot and tool.background:
        faults.append("pivot= with background=: whether the job is committed must be known before the model goes on")
    given: Any = tool.compensate
    if isinstance(given, Compensation):
        faults.extend(given.faults(tool.effect))
    elif given is not None:
        faults.append(f"compensate is {given!r}: give the function that undoes a call, or a Compensation")
    faults.extend(_read_faults(tool))
    if tool.reconcile is not None:
        faults.extend(async_faults("reconcile=", tool.reconcile, "args", "ctx"))
    if tool.poll is not None:
        faults.extend(async_faults("poll=", tool.poll, "args", "reference", "ctx"))
    faults.extend(_secret_faults(tool))
    faults.extend(_endpoint_faults(tool))
    return faults


def _read_faults(tool: "Tool") -> list[str]:
    """About clauses that differ between tools that read and tools that act."""
    faults: list[str] = []
    reads = tool.effect is Effect.READ
    if tool.cache is not None and not reads:
        faults.append(f"cache= with effect {tool.effect}: only results of READ can be given again")
    if tool.cache is not None and tool.untrusted:
        faults.append("cache= with untrusted=: somebody else's words are not kept for other runs")
    faults.extend(
        f"hides names {kind!r}: allowed are {', '.join(HIDEABLE)}, and with handfast[presidio] its names, such as US_SSN"
        for kind in tool.hides
        if kind not in HIDEABLE and not FURTHER.fullmatch(kind)
    )
    if tool.targets is not None and not tool.targets:
        faults.append("targets=() says that nothing picks what a call aims at: leave it out, and all arguments do")
    if tool.invalidates and reads:
        faults.append("invalidates= with effect READ: it changes nothing")
    fallback: Any = tool.fallback
    if fallback is not None and not hasattr(fallback, "effect"):
        faults.append(f"fallback is {fallback!r}: give the tool itself, not its name")
    elif tool.fallback is not None and reads and tool.fallback.effect is not Effect.READ:
        faults.append(
            f"fallback {tool.fallback.name!r} has effect {tool.fallback.effect}: a READ can only fall back on a READ"
        )
    return faults


LISTS_OF_NAMES = ("invalidates", "conflict", "same_intent", "show", "key", "targets", "untrusted", "hides", "secrets")


def list_faults(tool: "Tool") -> list[str]:
    """Clauses that must be lists of names, and are something else, such as one text."""
    faults: list[str] = []
    for clause in LISTS_OF_NAMES:
        given: Any = getattr(tool, clause)
        if given is None or isinstance(given, bool):
            continue
        names: tuple[Any, ...] = tuple(given) if isinstance(given, Collection) else ()  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        tools_too = clause == "invalidates"
        if isinstance(given, str):
            faults.append(f"{clause} is the text {given!r}: it must be a tuple of names, {clause}=({given!r},)")
        elif not isinstance(given, Collection) or not all(
            isinstance(name, str) or (tools_too and hasattr(name, "effect")) for name in names
        ):
            faults.append(f"{clause} is {given!r}: it must be a tuple of names, such as {clause}=('order_id',)")
    return faults


def argument_faults(tool: "Tool") -> list[str]:
    """What is wrong with a contract in view of its function's arguments and result."""
    try:
        schema = tool.schema.parameters
        kinds = [f"arguments: {fault}" for fault in storage_faults(TypeAdapter(tool.signature.arguments))]
        if tool.compensate is not None:
            kinds += [f"result, which compensate= is given: {fault}" for fault in tool.result_adapter.faults]
        _ = [(endpoint.body_schema, endpoint.answer_schema) for endpoint in tool.endpoints]
    except (PydanticUserError, PydanticSchemaGenerationError) as error:
        return [f"no JSON Schema can be made of it: {error}"]
    return [*_object_faults(schema), *kinds, *tool.fields.faults(), *_example_faults(tool)]


def _object_faults(schema: Mapping[str, Any]) -> Iterator[str]:
    """Why a model could not give such arguments: they are no object, or are named as they can't be."""
    if schema.get("type") != "object" or any(word in schema for word in ("anyOf", "oneOf", "allOf")):
        kind = schema.get("type") or "a choice of several types"
        yield f"its arguments are {kind}: they must be one object, so put that into a field of a model"
    for name in schema.get("properties", {}):
        if not PROPERTY.fullmatch(name):
            yield f"argument {name!r}: models take names of up to 64 letters, digits, '_', '.' and '-'; give it another alias"


def _example_faults(tool: "Tool") -> Iterator[str]:
    """Examples that could not be called."""
    for example in tool.examples:
        unknown = example.keys() - tool.fields.arguments.names
        if tool.schema.parameters["additionalProperties"] is False and unknown:
            known = instead_of(min(unknown), tool.fields.arguments.names)
            yield f"example {example!r} has {min(unknown)!r}, which is no argument; arguments are {known}"
            continue
        try:
            tool.signature.arguments.model_validate_json(canonical_json(example))
        except (ValueError, TypeError) as error:
            yield f"example {example!r} does not fit its own schema: {error}"


def _endpoint_faults(tool: "Tool") -> Iterator[str]:
    """Endpoints of upstreams that are hardly meant. Those that only the worker's settings have are not known here."""
    for endpoint in tool.endpoints:
        if endpoint.upstream not in tool.upstreams and (near := close_to(endpoint.upstream, tool.upstreams)):
            yield f"endpoint {endpoint}: there is no upstream {endpoint.upstream!r}; did you mean {near!r}?"


def _secret_faults(tool: "Tool") -> Iterator[str]:
    """Names that no place for secrets could have."""
    named = [("secrets", name) for name in tool.secrets]
    named += [("callback", tool.callback.secret)] if tool.callback is not None else []
    for name, upstream in tool.upstreams.items():
        match upstream.auth:
            case ApiKey(secret=secret):
                named.append((f"upstreams[{name!r}].auth", secret))
            case OAuth2(secret=secret, client_id_secret=client):
                named += [(f"upstreams[{name!r}].auth", one) for one in (secret, client) if one or one is secret]
            case None:
                pass
    for clause, name in named:
        if not is_secret_name(name):
            yield (
                f"{clause} names secret {name!r}: allowed are up to 128 letters, digits, '_', '.' and '-', "
                f"without {' and '.join(RESERVED_IN_SECRETS)}, which name a tenant's or a scope's own"
            )
