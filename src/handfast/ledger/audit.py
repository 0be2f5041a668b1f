"""Reading a security report out of the chains."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from handfast.contracts.audit import Audit, Changed, Decided, Refused, RunsOf, UntrustedRun, Word
from handfast.contracts.effects import Outcome, Verdict
from handfast.contracts.provenance import UNTRUSTED
from handfast.ledger.entries import moment
from handfast.ledger.tables import entries, keys, operations, policies, runs
from handfast.ledger.verify import verify_run

KINDS = ("requested", "turn", "settled", "decided", "granted", "resolved", "refused", "closed")


@dataclass(frozen=True)
class _Entry:
    run_id: str
    kind: str
    ref: str
    at: int
    meta: dict[str, Any]
    agent: str
    user: str
    tenant: str

    @property
    def operation_id(self) -> str:
        """The call that it is about."""
        return self.ref.partition("#")[0].partition("@")[0]


def read_audit(
    connection: Connection, since: datetime, until: datetime, tenant: str = "", *, check: bool = True
) -> Audit:
    """What happened in a period, of one tenant or of all; with `check` the chain of each of its runs is recomputed."""
    found = [*_entries(connection, since, until, tenant)]
    tools = _tools(connection, {one.operation_id for one in found if one.kind in {"decided", "granted", "resolved"}})
    run_ids = sorted({one.run_id for one in found})
    faults = (
        [f"{run_id}: {fault}" for run_id in run_ids for fault in verify_run(connection, run_id).faults] if check else []
    )
    limits = Counter(one.meta["limit"] for one in found if one.kind == "closed" and one.meta.get("limit"))
    return Audit(
        since=since,
        until=until,
        tenant=tenant,
        runs=tuple(_runs(found)),
        decisions=tuple(_decisions(found)),
        words=tuple(_words(found, tools)),
        refused=tuple(_refused(found)),
        untrusted=tuple(_untrusted(found)),
        limits=tuple(limits.most_common()),
        changes=() if tenant else tuple(_changes(connection, since, until)),
        verified=len(run_ids) if check else 0,
        faults=tuple(faults),
    )


def _entries(connection: Connection, since: datetime, until: datetime, tenant: str) -> Iterator[_Entry]:
    query = (
        select(
            entries.c.run_id, entries.c.kind, entries.c.ref, entries.c.at, entries.c.meta, runs.c.agent, runs.c.user, runs.c.tenant
        )
        .select_from(entries.join(runs, runs.c.run_id == entries.c.run_id))
        .where(entries.c.at >= _ms(since), entries.c.at < _ms(until), entries.c.kind.in_(KINDS))
        .order_by(entries.c.at, entries.c.run_id, entries.c.seq)
    )  # fmt: skip
    if tenant:
        query = query.where(runs.c.tenant == tenant)
    for row in connection.execute(query):
        yield _Entry(row.run_id, row.kind, row.ref, row.at, json.loads(row.meta), row.agent, row.user, row.tenant)


def _tools(connection: Connection, operation_ids: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    left = sorted(operation_ids)
    while left:
        part, left = left[:500], left[500:]
        query = select(operations.c.operation_id, operations.c.tool).where(operations.c.operation_id.in_(part))
        found |= {row[0]: row[1] for row in connection.execute(query)}
    return found


def _runs(found: Sequence[_Entry]) -> Iterator[RunsOf]:
    began: Counter[tuple[str, str, str]] = Counter()
    calls: Counter[tuple[str, str, str]] = Counter()
    for one in found:
        who = (one.tenant, one.user, one.agent)
        if one.kind == "requested":
            began[who] += 1
        elif one.kind == "turn":
            calls[who] += len(one.meta["result"].get("heads", []))
    for who in sorted({*began, *calls}):
        tenant, user, agent = who
        yield RunsOf(tenant=tenant, user=user, agent=agent, runs=began[who], calls=calls[who])


def _decisions(found: Sequence[_Entry]) -> Iterator[Decided]:
    counted: Counter[tuple[str, str, str, int]] = Counter()
    for one in found:
        version = int(one.meta.get("policy", 0))
        if one.kind == "turn":
            rules = one.meta.get("rules", {})
            for place, head in enumerate(one.meta["result"].get("heads", [])):
                told = rules.get(str(place), head.get("reason", ""))
                counted[_rule(told), head["tool"], head.get("verdict", Verdict.RUN), version] += 1
        elif one.kind == "settled" and one.meta.get("outcome") == Outcome.DENIED and "rule" in one.meta:
            counted[_rule(one.meta["rule"]), one.meta["tool"], Verdict.DENY, version] += 1
    for (rule, tool, verdict, version), times in sorted(counted.items()):
        yield Decided(rule=rule, tool=tool, verdict=verdict, times=times, policy=version)


def _rule(told: str) -> str:
    """The name of what decided, without the reason."""
    return told.partition(": ")[0] or "nothing said otherwise"


def _words(found: Sequence[_Entry], tools: dict[str, str]) -> Iterator[Word]:
    counted: Counter[tuple[str, str, str]] = Counter()
    for one in found:
        word = {
            "decided": "approved" if one.meta.get("approve") else "rejected", "granted": "agreed", "resolved": "resolved",
        }.get(one.kind)  # fmt: skip
        if word:
            counted[one.meta.get("by") or "somebody", word, tools.get(one.operation_id, "?")] += 1
    for (by, word, tool), times in sorted(counted.items()):
        yield Word(by=by, word=word, tool=tool, times=times)


def _refused(found: Sequence[_Entry]) -> Iterator[Refused]:
    for one in found:
        if one.kind == "refused":
            meta = one.meta
            yield Refused(
                run_id=one.run_id,
                operation_id=one.operation_id,
                at=moment(one.at),
                word=meta["word"],
                claimed=meta["claimed"],
                why=meta["why"],
            )


def _untrusted(found: Sequence[_Entry]) -> Iterator[UntrustedRun]:
    labels: dict[str, dict[str, str]] = {}
    held: Counter[str] = Counter()
    whose: dict[str, _Entry] = {}
    for one in found:
        whose[one.run_id] = one
        if one.kind in {"requested", "turn"}:
            labels[one.run_id] = one.meta.get("labels", {}) | labels.get(one.run_id, {})
        heads: list[dict[str, Any]] = one.meta["result"].get("heads", []) if one.kind == "turn" else []
        held[one.run_id] += sum(head.get("reason") == UNTRUSTED for head in heads)
    for run_id, said in sorted(labels.items()):
        if said.get("untrusted"):
            yield UntrustedRun(
                run_id=run_id,
                agent=whose[run_id].agent,
                tenant=whose[run_id].tenant,
                untrusted=said["untrusted"],
                sensitive=said.get("sensitive", ""),
                held=held[run_id],
            )


def _changes(connection: Connection, since: datetime, until: datetime) -> list[Changed]:
    found: list[Changed] = []
    begins, ends = _ms(since), _ms(until)
    for row in connection.execute(select(policies).where(policies.c.at >= begins, policies.c.at < ends)):
        what = f"policy {row.number} was set" if row.text else f"the policy was taken away ({row.number})"
        found.append(Changed(at=moment(row.at), what=what, by=row.by))
    for row in connection.execute(select(keys)):
        name = f"key {row.key_id} of {row.name}"
        if begins <= row.made_at < ends:
            found.append(Changed(at=moment(row.made_at), what=f"{name} was added", by=row.made_by))
        if row.revoked_at is not None and begins <= row.revoked_at < ends:
            found.append(Changed(at=moment(row.revoked_at), what=f"{name} was revoked", by=row.revoked_by))
    return sorted(found, key=lambda one: one.at)


def _ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)
