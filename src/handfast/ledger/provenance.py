"""What the ledger knows of where a run's values came from: what its user has said, and what calls have returned."""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, select

from handfast.contracts.effects import Outcome
from handfast.contracts.provenance import Labels, Sources, Untrusted
from handfast.ledger.entries import find, read_entries
from handfast.ledger.family import ancestors_of, child_run_id_of
from handfast.ledger.looked import arguments_of
from handfast.ledger.runs import labels_of_text
from handfast.ledger.statement import Statement
from handfast.ledger.tables import entries, operations, runs
from handfast.ledger.words import unsigned_in

OTHERS = "a message from elsewhere"
"""Where words stand that are neither the user's nor a result's."""


@dataclass(frozen=True, kw_only=True)
class Returned:
    """What a call has returned."""

    operation_id: str
    tool: str
    version: str
    content: Any
    arguments: dict[str, Any]
    clean: bool
    """No words of others were in the run when its model asked for it."""
    untrusted: Untrusted
    """The fields that are somebody else's words, as its contract said then."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that values of a run may have come from."""

    words: tuple[str, ...]
    """What its user has said, to it or to those that have begun it."""
    foreign: tuple[str, ...]
    """What was said by others: other runs, or whoever can reach Temporal."""
    plans: tuple[Any, ...]
    """What it, or one of those, was asked to carry out, with what that was given."""
    returned: tuple[Returned, ...]

    def said_into(self, sources: Sources) -> None:
        """Let sources know what was said, and by whom; what calls have returned is for whoever knows their contracts."""
        for text in self.words:
            sources.hear(text)
        for plan in self.plans:
            sources.set_down(plan)
        for text in self.foreign:
            sources.overhear(text, OTHERS)


asked = entries.alias("asked")
RETURNED = Statement(
    select(
        operations.c.operation_id,
        operations.c.tool,
        operations.c.version,
        operations.c.idx,
        entries.c.body,
        entries.c.meta,
        asked.c.body.label("asked"),
        asked.c.meta.label("asked_meta"),
    )
    .select_from(
        operations.join(
            entries, and_(entries.c.run_id == operations.c.run_id, entries.c.seq == operations.c.settled_seq)
        ).join(asked, and_(asked.c.run_id == operations.c.run_id, asked.c.seq == operations.c.turn_seq))
    )
    .where(
        operations.c.run_id == bindparam("run"),
        operations.c.left_by == 0,
        operations.c.outcome == Outcome.SUCCEEDED,
        operations.c.undoes == "",
    )
    .order_by(operations.c.turn, operations.c.idx)
)


def read_material(connection: Connection, run_id: str) -> Material:
    """What was said in a run, and what its calls have returned."""
    words: list[str] = []
    foreign: list[str] = []
    plans: list[Any] = []
    for one in [run_id, *ancestors_of(connection, run_id)]:
        unsigned = unsigned_in(connection, one)
        requested = find(connection, one, "requested", "")
        if requested is not None and requested.content is not None:
            trusted = not requested.meta.get("labels", {}).get("untrusted") and requested.seq not in unsigned
            (words if trusted else foreign).append(str(requested.content["text"]))
            if trusted and (plan := requested.content.get("plan")):
                plans.append(json.loads(plan))
        for said in read_entries(connection, one, kind="said"):
            if said.content is not None:
                others = "from" in said.meta or said.seq in unsigned
                (foreign if others else words).append(str(said.content["text"]))
    return Material(
        words=tuple(words),
        foreign=tuple(foreign),
        plans=tuple(plans),
        returned=_returned(connection, run_id),
    )


def _returned(connection: Connection, run_id: str) -> tuple[Returned, ...]:
    found: list[Returned] = []
    for row in RETURNED.all(connection, {"run": run_id}):
        if row.body is None:
            continue
        meta: dict[str, Any] = json.loads(row.meta)
        untrusted = meta.get("untrusted", False)
        if "child" in meta and "untrusted" in meta.get("labels", {}):
            # What a run says that has read somebody else's words may be theirs.
            untrusted = True
        found.append(
            Returned(
                operation_id=row.operation_id,
                tool=row.tool,
                version=row.version,
                content=json.loads(row.body),
                arguments=arguments_of(row.asked, row.idx).stored,
                clean='"untrusted":' not in row.asked_meta
                or not json.loads(row.asked_meta).get("labels", {}).get("untrusted"),
                untrusted=untrusted if isinstance(untrusted, bool) else tuple(untrusted),
            )
        )
    return tuple(found)


def read_labels(connection: Connection, run_id: str) -> Labels:
    """What is in a run by now, also by calls that no turn has heard of yet, and by the run that has gone on in its place."""
    row = connection.execute(select(runs.c.labels).where(runs.c.run_id == run_id)).scalar_one_or_none()
    found = [labels_of_text(row or "")]
    settled = select(entries.c.meta).where(
        entries.c.run_id == run_id, entries.c.kind == "settled", entries.c.meta.contains('"labels":')
    )
    found.extend(Labels.model_validate(json.loads(meta)["labels"]) for meta in connection.execute(settled).scalars())
    ended = [closed.meta.get("answered_by") for closed in read_entries(connection, run_id, kind="closed")]
    found.extend(read_labels(connection, child_run_id_of(connection, by_call)) for by_call in ended if by_call)
    return Labels.of_all(found)
