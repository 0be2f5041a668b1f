"""What can be wrong with a tool contract. All of it is told together when the contract is built."""

import inspect
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

from handfast.contracts.effects import Effect, Lane, Tier
from handfast.contracts.names import RESERVED_TOOL_NAMES
from handfast.contracts.storage import storage_faults
from handfast.contracts.versions import VERSION

if TYPE_CHECKING:
    from handfast.contracts.tool import Tool

NAME = re.compile(r"^[a-zA-Z][a-zA-Z0-9_-]{0,63}$")
HIDEABLE = ("mail", "phone", "card", "iban")
FURTHER = re.compile(r"[A-Z][A-Z_]+")
"""How Presidio names kinds of personal data; whether it knows one is found out where it is installed."""
"""The personal data that a contract may hide."""
FAST_LANE_LIMIT = timedelta(seconds=2)


def own_faults(tool: "Tool") -> list[str]:
    """What is wrong with a contract whatever its function's arguments are, one sentence each."""
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
    if tool.compensate is not None:
        faults.extend(tool.compensate.faults(tool.effect))
    faults.extend(_read_faults(tool))
    for role, function, parameters in (
        ("reconcile", tool.reconcile, 2),
        ("poll", tool.poll, 3),
    ):
        if function is None:
            continue
        if not inspect.iscoroutinefunction(function):
            faults.append(f"{role}= must be an async function")
        elif len(inspect.signature(function).parameters) != parameters:
            faults.append(f"{role}= must take {parameters} parameters")
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
    if tool.fallback is not None and reads and tool.fallback.effect is not Effect.READ:
        faults.append(
            f"fallback {tool.fallback.name!r} has effect {tool.fallback.effect}: a READ can only fall back on a READ"
        )
    return faults


def argument_faults(tool: "Tool") -> list[str]:
    """What is wrong with a contract in view of its function's arguments and result."""
    faults: list[str] = []
    known = tool.signature.arguments.model_fields
    for role, names in (
        ("conflict", tool.conflict),
        ("same_intent", tool.same_intent),
        ("show", tool.show),
        ("key", tool.key),
        ("targets", tuple(name.partition(".")[0] for name in tool.targets or ())),
    ):
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
        faults.extend(f"arguments: {fault}" for fault in storage_faults(TypeAdapter(tool.signature.arguments)))
        if tool.compensate is not None:
            faults.extend(f"result, which compensate= is given: {fault}" for fault in tool.result_adapter.faults)
        _ = [(endpoint.body_schema, endpoint.answer_schema) for endpoint in tool.endpoints]
    except (PydanticUserError, PydanticSchemaGenerationError) as error:
        faults.append(f"no JSON Schema can be made of it: {error}")
    return faults
