"""The user's words of a run, looked at once: those that nobody has signed who may are words of others from then on."""

from collections.abc import Callable, Collection, Sequence

from sqlalchemy import Connection, update

from handfast.contracts.grants import Approver
from handfast.contracts.provenance import UNVOUCHED
from handfast.contracts.words import Words
from handfast.ledger.entries import Entry, NewEntry, append, entry_at, find, read_entries
from handfast.ledger.keys import list_keys
from handfast.ledger.runs import RunRow, labels_text, read_run, words_of_request
from handfast.ledger.tables import runs

KIND = "unsigned"
WordsJudge = Callable[[str, Words, str, Sequence[Approver]], str]
"""Why words don't count, given their signature, the run's tenant and the keys that are known; empty if they do. Pure."""


def judge_request(connection: Connection, run_id: str, judge: WordsJudge) -> None:
    """Look at a run's request. One that another run has made is that one's, and has its labels."""
    requested = find(connection, run_id, "requested", "")
    if requested is None or requested.content is None or requested.meta.get("parent") or "labels" in requested.meta:
        return
    run = read_run(connection, run_id)
    words = Words(run=run_id, told=words_of_request(requested.meta, requested.content))
    if _judge(connection, run, requested, words, judge):
        labels = labels_text(run.labels | UNVOUCHED)
        connection.execute(update(runs).where(runs.c.run_id == run_id).values(labels=labels))


def judge_said(connection: Connection, run_id: str, refs: Collection[int], judge: WordsJudge) -> None:
    """Look at what was said to a run, by the numbers of the entries. What another run has written is nobody's anyhow."""
    run = read_run(connection, run_id)
    for ref in refs:
        said = entry_at(connection, run_id, ref)
        if said.kind == "said" and said.content is not None and "from" not in said.meta:
            words = Words(run=run_id, message=said.ref, told={"text": said.content["text"]})
            _judge(connection, run, said, words, judge)


def unsigned_in(connection: Connection, run_id: str) -> set[int]:
    """The numbers of the entries whose words don't count as the user's."""
    return {int(one.ref) for one in read_entries(connection, run_id, kind=KIND)}


def _judge(connection: Connection, run: RunRow, entry: Entry, words: Words, judge: WordsJudge) -> bool:
    """Whether the words don't count; that is written down, once."""
    if find(connection, run.run_id, KIND, str(entry.seq)) is not None:
        return True
    fault = judge(str(entry.meta.get("signed", "")), words, run.tenant, list_keys(connection))
    if fault:
        append(connection, run.run_id, [NewEntry(kind=KIND, ref=str(entry.seq), meta={"reason": fault[:300]})])
    return bool(fault)
