"""What the callers of a tool rely on, as data: for lock files, catalogues and comparisons between versions."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from handfast.contracts.agent import Agent
from handfast.contracts.backoff import Backoff
from handfast.contracts.child import family_of
from handfast.contracts.clauses import Cache, Rate
from handfast.contracts.effects import Effect, Lane, Tier
from handfast.contracts.errors import SettingsError
from handfast.contracts.messages import Frozen
from handfast.contracts.schemas import Comparison, Narrowing, closed
from handfast.contracts.tool import Tool
from handfast.contracts.versions import version_numbers


class PublishedTool(Frozen):
    """One version of a contract as its callers see it. New fields get a default, so that older lock files are read."""

    name: str
    version: str
    description: str
    effect: Effect
    tier: Tier
    scope: str
    owner: str = ""
    runbook: str = ""
    deprecated: str = ""
    timeout_seconds: float
    attempts: int
    lane: Lane
    backoff: Backoff = Backoff()
    queue: str = ""
    conflict: tuple[str, ...] = ()
    same_intent: tuple[str, ...] = ()
    show: tuple[str, ...] = ()
    result_limit: int
    key: tuple[str, ...] = ()
    key_lifetime_seconds: float = 86400.0
    reconciled: bool = False
    rates: tuple[Rate, ...] = ()
    concurrency: int = 0
    cache: Cache | None = None
    invalidates: tuple[str, ...] = ()
    fallback: str = ""
    untrusted: bool | tuple[str, ...] = False
    egress: bool = False
    targets: tuple[str, ...] | None = None
    sensitive: bool = False
    hides: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    background: bool = False
    undo: str = ""
    """The effect class of what undoes a call; empty if nothing does."""
    pivot: bool = False
    most: int = 0
    agent: str = ""
    """Whose run a call is, if it is one."""
    endpoints: tuple[str, ...] = ()
    parameters: dict[str, Any]
    """JSON Schema of the arguments."""
    result: dict[str, Any]
    """JSON Schema of the result."""

    @property
    def major(self) -> int:
        """Contracts that agree on it are compatible."""
        return version_numbers(self.version)[0]


class Lock(Frozen):
    """The contracts that were published last: a file beside the code, checked in."""

    format: Literal[1] = 1
    tools: dict[str, PublishedTool]
    """By name."""


class Change(Frozen):
    """One difference between two versions of a contract."""

    tool: str
    breaking: bool
    """Who calls by the old version may be refused, misunderstood, or no longer permitted."""
    message: str


def publish(tool: Tool) -> PublishedTool:
    """A contract as data."""
    return PublishedTool(
        name=tool.name,
        version=tool.version,
        description=tool.description,
        effect=tool.effect,
        tier=tool.tier,
        scope=tool.scope,
        owner=tool.owner,
        runbook=tool.runbook,
        deprecated=tool.deprecated.told if tool.deprecated else "",
        timeout_seconds=tool.timeout.total_seconds(),
        attempts=tool.attempts,
        backoff=tool.backoff,
        lane=tool.lane,
        queue=tool.queue or "",
        conflict=tool.conflict,
        same_intent=tool.same_intent,
        show=tool.show,
        result_limit=tool.result_limit,
        key=tool.key,
        key_lifetime_seconds=tool.key_lifetime.total_seconds(),
        reconciled=tool.reconcile is not None,
        rates=tool.rates,
        concurrency=tool.concurrency or 0,
        cache=tool.cache,
        invalidates=tool.invalidated,
        fallback=tool.fallback.name if tool.fallback else "",
        untrusted=tool.untrusted,
        egress=tool.egress,
        targets=tool.targets,
        sensitive=tool.sensitive,
        hides=tool.hides,
        secrets=tool.secrets,
        background=tool.background,
        undo=tool.undo or "",
        pivot=tool.pivot,
        most=tool.most or 0,
        agent=tool.child.agent.name if tool.child else "",
        endpoints=tuple(map(str, tool.endpoints)),
        parameters=tool.schema.parameters,
        result=tool.result_adapter.json_schema(),
    )


def lock_of(agents: Iterable[Agent]) -> Lock:
    """The contracts of all tools of some agents."""
    tools = {tool.name: publish(tool) for agent in family_of(agents) for tool in agent.tools}
    return Lock(tools=dict(sorted(tools.items())))


def read_lock(path: Path) -> Lock:
    """A lock file.

    Raises:
        SettingsError: There is none, or it is none.
    """
    try:
        return Lock.model_validate_json(path.read_text())
    except OSError as error:
        msg = f"the lock file {str(path)!r} can't be read: {error.strerror}. Write it with `handfast tools lock`"
        raise SettingsError(msg) from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in fault["loc"])
        msg = f"{str(path)!r} is no lock file: {where or 'it'}: {fault['msg']}. Write it with `handfast tools lock`"
        raise SettingsError(msg) from error


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock file, readable in a review."""
    path.write_text(lock.model_dump_json(indent=2, exclude_defaults=False) + "\n")


def compare(old: Mapping[str, PublishedTool], new: Mapping[str, PublishedTool]) -> list[Change]:
    """Everything that differs, tool by tool, breaking changes first."""
    changes: list[Change] = []
    for name in sorted({*old, *new}):
        if name not in new:
            changes.append(
                Change(tool=name, breaking=True, message="it is gone: runs that call it would wait for ever")
            )
        elif name not in old:
            changes.append(Change(tool=name, breaking=False, message=f"it is new, version {new[name].version}"))
        else:
            found = [*_changes(old[name], new[name])]
            changes.extend(sorted(found, key=lambda change: not change.breaking))
    return changes


def version_faults(old: Mapping[str, PublishedTool], new: Mapping[str, PublishedTool]) -> list[Change]:
    """What the version numbers of changed contracts do not say as they should."""
    faults: list[Change] = []
    for change in compare(old, new):
        before, after = old.get(change.tool), new.get(change.tool)
        if before is None:
            continue
        if after is None:
            faults.append(change)
        elif change.breaking and after.major <= before.major:
            need = f"a breaking change needs version {before.major + 1}.0.0: {change.message}"
            faults.append(Change(tool=change.tool, breaking=True, message=need))
        elif not change.breaking and version_numbers(after.version) <= version_numbers(before.version):
            need = f"a change needs a version above {before.version}: {change.message}"
            faults.append(Change(tool=change.tool, breaking=False, message=need))
    return faults


PERMISSION = ("effect", "tier", "scope", "key", "egress")
"""What approvals, retries and undo were decided by. A run that goes on under another one would do what nobody agreed to."""
TOLD = (
    "description", "owner", "runbook", "deprecated", "timeout_seconds", "attempts", "backoff", "lane", "queue", "conflict",
    "same_intent", "show", "result_limit", "key_lifetime_seconds", "reconciled", "rates", "concurrency", "cache", "invalidates",
    "fallback", "untrusted", "targets", "sensitive", "hides", "secrets", "background", "undo", "most", "agent", "endpoints",
)  # fmt: skip
"""What may differ between compatible versions."""


def _changes(old: PublishedTool, new: PublishedTool) -> Iterator[Change]:
    for field in (*PERMISSION, *TOLD):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield Change(
                tool=old.name, breaking=field in PERMISSION, message=f"{field}: {_shown(before)} → {_shown(after)}"
            )
    yield from _schema_changes(old.name, "argument", old.parameters, new.parameters)
    yield from _schema_changes(old.name, "result", old.result, new.result)


def _schema_changes(
    tool: str, role: Literal["argument", "result"], old: dict[str, Any], new: dict[str, Any]
) -> Iterator[Change]:
    narrower = Comparison(closed(old), closed(new)).narrowings()
    wider = [_turned(narrowing) for narrowing in Comparison(closed(new), closed(old)).narrowings()]
    # A result is read by what was written for the old one, which passes over what it does not know.
    unread = [_turned(narrowing) for narrowing in Comparison(closed(new), old).narrowings()]
    breaking = narrower if role == "argument" else unread
    broken = {narrowing.path for narrowing in breaking}
    compatible = [n for n in (*narrower, *wider) if not any(_inside(n.path, path) for path in broken)]
    for narrowing in dict.fromkeys(breaking):
        yield Change(tool=tool, breaking=True, message=_sentence(role, narrowing))
    told: set[str] = set()
    for narrowing in compatible:
        if narrowing.path not in told:
            told.add(narrowing.path)
            yield Change(tool=tool, breaking=False, message=_sentence(role, narrowing))
    if old != new and not broken and not told:
        yield Change(tool=tool, breaking=False, message=f"{role}s are described otherwise")


def _inside(path: str, outer: str) -> bool:
    return path == outer or path.startswith((f"{outer}.", f"{outer}["))


def _turned(narrowing: Narrowing) -> Narrowing:
    return narrowing._replace(before=narrowing.after, after=narrowing.before)


def _sentence(role: str, narrowing: Narrowing) -> str:
    path, keyword, before, after = narrowing
    subject = f"{role} {path}" if path else role
    if keyword == "properties":
        return f"{subject} is {'gone' if after is None else 'new'}"
    if keyword == "required":
        return f"{subject} is {'required' if after else 'optional'} now"
    return f"{subject}, {keyword}: {_shown(before)} → {_shown(after)}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    text = str(value) or "none"
    return text if len(text) <= 80 else text[:79] + "…"
