"""The ledger, each test on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from handfast.contracts.authority import Asked, Word
from handfast.contracts.effects import Effect, Outcome, RunStatus, Tier
from handfast.contracts.errors import (
    DecisionRefused,
    LedgerConflict,
    LedgerSchemaError,
    RunIdTaken,
    RunNotFound,
    SettingsError,
)
from handfast.contracts.grants import Approver
from handfast.contracts.identity import digest, operation_id
from handfast.contracts.messages import Message, Text, ToolCall
from handfast.contracts.wire import CallInput, CloseInput, Head, TurnInput, TurnResult
from handfast.contracts.wire_words import Decision, Resolution
from handfast.ledger import (
    AskedCall,
    Judged,
    Ledger,
    NewOpening,
    NewRun,
    NewTurn,
    NotAskedFor,
    OperationMoved,
    Settlement,
    State,
)
from handfast.ledger.late import RECONCILE
from handfast.ledger.migrate import NEWEST, SCRIPTS
from handfast.ledger.operations import settle_with_effect
from tests.conftest import Postgres, new_database

OPENING = NewOpening(execution="execution-1", model="model-1", agent_version="1.0.0")
SUCCESS = Settlement(outcome=Outcome.SUCCEEDED, content={"done": True}, meta={})
OTHER_SUCCESS = Settlement(outcome=Outcome.SUCCEEDED, content={"done": "again"}, meta={"attempt": 1})
MAYBE = Settlement(outcome=Outcome.UNKNOWN, content={"code": "timeout"}, meta={"attempt": 1})
SURELY_NOT = Settlement(outcome=Outcome.UNKNOWN, content={"code": "timeout"}, meta={"attempt": 1}, acted=False)
FAILURE = Settlement(outcome=Outcome.FAILED, content={"code": "x"}, meta={})


async def open_run(ledger: Ledger, run_id: str = "r1") -> None:
    await ledger.request_run(NewRun(run_id=run_id, agent="a", text="please", user="ada", tenant="t"))
    await ledger.open_run(run_id, OPENING)


async def ask(
    ledger: Ledger,
    *arguments: dict[str, Any],
    run_id: str = "r1",
    turn: int = 1,
    effect: Effect = Effect.KEYED,
    again: Collection[str] = (),
    branches: tuple[int, ...] = (),
    undo: Effect | None = None,
) -> list[CallInput]:
    """Settle a turn that asks for one call of `pay` for each of the arguments; `again` are the ids of those taken over."""
    run = await ledger.read_run(run_id)
    taken = list(again)
    calls: list[AskedCall] = []
    inputs: list[CallInput] = []
    for index, given in enumerate(arguments):
        taken_over = bool(taken)
        identity = taken.pop(0) if taken else operation_id(run.chain_id, run.calls + index + 1)
        bound = digest("pay", 1, given)
        head = Head(id=identity, tool="pay", digest=bound, effect=effect)
        asked = AskedCall(
            head=head,
            call_id=f"c{index}",
            version="1.0.0",
            tier=Tier.REVERSIBLE,
            undo=undo or "",
            taken_over=taken_over,
        )
        calls.append(asked)
        inputs.append(CallInput(id=identity, turn=turn, index=index, digest=bound))
    parts = tuple(ToolCall(id=f"c{n}", tool="pay", arguments=given) for n, given in enumerate(arguments))
    message = Message(role="assistant", parts=(Text(text="paying"), *parts))
    result = TurnResult(heads=tuple(c.head for c in calls), calls=len(calls), tokens=10, cost_usd=0.5)
    new = NewTurn(turn=turn, heard=(), message=message, calls=tuple(calls), result=result, branches=branches)
    await ledger.settle_turn(run_id, new)
    return inputs


async def test_a_branch_takes_over_what_it_asks_for_again_and_leaves_the_rest_as_orphans(ledger: Ledger) -> None:
    await open_run(ledger)
    one, two, three = await ask(ledger, {"n": 1}, {"n": 2}, {"n": 3})
    for call in (one, two):
        await ledger.reserve("r1", call, call.id, 60_000, "1.0.0", seen=0)
    await ledger.settle("r1", one.id, one.id, SUCCESS)
    await ledger.close_run("r1", CloseInput(status=RunStatus.COMPLETED))
    assert await ledger.begin_branch("r1", 1, left="execution-1", by="ada") == 1
    assert await ledger.begin_branch("r1", 1, left="execution-1", by="ada") == 1
    # The second one was under way: it is in doubt. The third one was never begun.
    assert [(o.outcome, o.left_by) for o in await ledger.list_operations("r1")] == [
        (Outcome.SUCCEEDED, 1), (Outcome.UNKNOWN, 1), (Outcome.FAILED, 1),
    ]  # fmt: skip
    with pytest.raises(LedgerConflict, match="was reset since"):
        await ask(ledger, {"n": 4}, turn=2)
    run, _ = await ledger.close_run("r1", CloseInput(status=RunStatus.FAILED), execution="execution-1")
    assert (run.status, run.branches) == (RunStatus.RUNNING, (1,))
    [taken, new] = await ask(ledger, {"n": 1}, {"n": 3}, again=[one.id], branches=(1,))
    assert (taken.id, new.id in {two.id, three.id}) == (one.id, False)
    assert [(run_id, o.operation_id) for run_id, o in await ledger.list_orphans()] == [("r1", two.id)]
    context = await ledger.read_context("r1", TurnInput(turn=2), known=0, intents=False)
    assert [result.operation_id for turn in context.past for result in turn.results] == [one.id]
    assert [orphan.operation_id for orphan in context.orphans] == [two.id]
    assert (await ledger.verify("r1")).faults == ()


async def test_a_run_id_is_bound_to_its_request_and_to_one_execution(ledger: Ledger) -> None:
    await open_run(ledger)
    again = await ledger.request_run(NewRun(run_id="r1", agent="a", text="please", user="ada", tenant="t"))
    assert again.status is RunStatus.RUNNING
    with pytest.raises(RunIdTaken):
        await ledger.request_run(NewRun(run_id="r1", agent="a", text="other", user="ada", tenant="t"))
    assert await ledger.open_run("r1", OPENING) == await ledger.open_run("r1", replace(OPENING, model="model-2"))
    with pytest.raises(LedgerConflict, match="never reused"):
        await ledger.open_run("r1", replace(OPENING, execution="execution-2"))
    with pytest.raises(RunNotFound):
        await ledger.read_run("r2")


async def test_a_settled_turn_stands_whatever_comes_later(ledger: Ledger) -> None:
    await open_run(ledger)
    await ask(ledger, {"n": 1})
    before = await ledger.read_context("r1", TurnInput(turn=1), known=0, intents=False)
    await ask(ledger, {"n": 2})
    after = await ledger.read_context("r1", TurnInput(turn=1), known=0, intents=False)
    assert before.settled == after.settled
    assert [o.arguments for o in await ledger.list_operations("r1")] == [{"n": 1}]
    assert (after.run.turns, after.run.calls, after.run.tokens, after.run.cost_micros) == (1, 1, 10, 500_000)


async def test_an_operation_is_reserved_then_settled_once(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1})
    assert (await ledger.look_up("r1", call)).state is State.FREE
    assert await ledger.reserve("r1", call, "owner-1", 1000, "1.0.0", seen=0) == 1
    assert await ledger.reserve("r1", call, "owner-1", 1000, "1.0.0", seen=0) == 1
    assert (await ledger.look_up("r1", call)).state is State.RESERVED
    first, mine = await ledger.settle("r1", call.id, "owner-1", SUCCESS)
    assert mine
    assert await ledger.settle("r1", call.id, "owner-1", SUCCESS) == (first, False)
    assert await ledger.settle("r1", call.id, "owner-2", FAILURE) == (first, False)
    looked = await ledger.look_up("r1", call)
    assert (looked.state, looked.settled) == (State.SETTLED, first)
    with pytest.raises(LedgerConflict):
        await ledger.reserve("r1", call, "owner-2", 1000, "1.0.0", seen=0)


async def test_a_call_that_no_turn_asked_for_is_refused(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1})
    await open_run(ledger, "r2")
    forged = [
        call.model_copy(update={"digest": "0" * 32}),
        call.model_copy(update={"turn": 2}),
        call.model_copy(update={"index": 1}),
        call.model_copy(update={"id": operation_id("elsewhere", 1)}),
    ]
    for one in forged:
        with pytest.raises(NotAskedFor):
            await ledger.look_up("r1", one)
    with pytest.raises(NotAskedFor):
        await ledger.look_up("r2", call)


async def test_a_zombie_may_not_fail_what_a_newer_attempt_does_but_its_success_counts(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1})
    await ledger.reserve("r1", call, "old", 1000, "1.0.0", seen=0)
    assert await ledger.reserve("r1", call, "new", 1000, "1.0.0", seen=1) == 2
    with pytest.raises(LedgerConflict, match="newer attempt"):
        await ledger.settle("r1", call.id, "old", FAILURE)
    assert (await ledger.settle("r1", call.id, "old", SUCCESS)).result.outcome is Outcome.SUCCEEDED
    assert (await ledger.settle("r1", call.id, "new", FAILURE)).result.outcome is Outcome.SUCCEEDED


async def test_of_two_attempts_that_looked_at_the_same_time_one_may_act(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1}, effect=Effect.ONCE)
    seen = (await ledger.look_up("r1", call)).attempts

    async def reserve(owner: str) -> bool:
        try:
            await ledger.reserve("r1", call, owner, 1000, "1.0.0", seen=seen)
        except OperationMoved:
            return False
        return True

    assert sorted(await asyncio.gather(*(reserve(f"owner-{n}") for n in range(8)))) == [False] * 7 + [True]
    assert (await ledger.look_up("r1", call)).attempts == 1


async def test_a_transaction_that_was_taken_over_takes_its_effect_back(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1}, effect=Effect.TRANSACTIONAL)
    await ledger.database.write(lambda c: c.execute(text("CREATE TABLE bookings (owner TEXT)")))
    await ledger.reserve("r1", call, "frozen", 1000, "1.0.0", seen=0)
    await ledger.reserve("r1", call, "second", 1000, "1.0.0", seen=1)

    async def act(owner: str) -> None:
        async with ledger.open() as connection:
            await connection.execute(text("INSERT INTO bookings VALUES (:owner)"), {"owner": owner})
            await connection.run_sync(settle_with_effect, "r1", call.id, owner, SUCCESS)

    await act("second")
    with pytest.raises(OperationMoved, match="rolled back"):
        await act("frozen")
    booked = await ledger.database.read(lambda c: [*c.execute(text("SELECT owner FROM bookings")).scalars()])
    assert booked == ["second"]


async def test_a_late_success_of_a_fenced_attempt_is_kept_as_evidence(ledger: Ledger) -> None:
    await open_run(ledger)
    calls = await ask(ledger, {"n": 1}, {"n": 2})
    for call in calls:
        await ledger.reserve("r1", call, "slow", 1000, "1.0.0", seen=0)
    unknown, absent = calls
    assert (await ledger.fence("r1", unknown.id, "stopped")).outcome is Outcome.UNKNOWN
    assert (await ledger.fence("r1", absent.id, "not found", absent=1)).outcome is Outcome.FAILED
    for call in (*calls, *calls):
        await ledger.settle("r1", call.id, "slow", SUCCESS)
    late = [(e.reference, e.content) for e in await ledger.read_events("r1") if e.kind == "late"]
    assert late == [(f"{call.id}#slow", {"done": True}) for call in calls]
    assert [o.outcome for o in await ledger.list_operations("r1")] == [Outcome.UNKNOWN, Outcome.FAILED]
    assert (await ledger.verify("r1")).faults == ()


@pytest.mark.parametrize(
    ("effect", "stands", "late", "told"),
    [
        (Effect.RECONCILED, "second", SUCCESS, 0),
        (Effect.RECONCILED, "second", OTHER_SUCCESS, 1),
        (Effect.RECONCILED, "second", MAYBE, 1),
        (Effect.RECONCILED, "second", SURELY_NOT, 0),
        (Effect.RECONCILED, RECONCILE, MAYBE, 1),
        (Effect.RECONCILED, "", MAYBE, 1),
        (Effect.KEYED, "second", OTHER_SUCCESS, 0),
        (Effect.KEYED, "second", MAYBE, 0),
    ],
    ids=[
        "the same result", "another result", "perhaps", "surely not", "perhaps, and another one was found",
        "perhaps, while another one is under way", "under one key", "perhaps, under one key",
    ],
)  # fmt: skip
async def test_an_owner_is_told_when_two_attempts_may_have_had_an_effect_each(
    ledger: Ledger, effect: Effect, stands: str, late: Settlement, told: int
) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1}, effect=effect)
    await ledger.reserve("r1", call, "frozen", 1, "1.0.0", seen=0)
    await ledger.reserve("r1", call, "second", 1000, "1.0.0", seen=1)
    if stands:
        await ledger.settle("r1", call.id, stands, SUCCESS)
    for _ in range(2):
        if late.outcome is Outcome.SUCCEEDED:
            await ledger.settle("r1", call.id, "frozen", late)
        else:
            await ledger.release("r1", call.id, "frozen", "timeout", attempt=1, surely_not=False, acted=late.acted)
    notices = await ledger.shared.list_notices()
    assert [(notice.kind, notice.subject, notice.count) for notice in notices] == [("late_effect", call.id, 1)] * told
    assert (await ledger.verify("r1")).faults == ()


async def test_a_fence_says_what_is_not_known_and_keeps_late_evidence(ledger: Ledger) -> None:
    await open_run(ledger)
    never, begun, read = await ask(ledger, {"n": 1}, {"n": 2}, {"n": 3})
    await ledger.reserve("r1", begun, "old", 1000, "1.0.0", seen=0)
    assert (await ledger.fence("r1", never.id, "stopped")).outcome is Outcome.FAILED
    unknown = await ledger.fence("r1", begun.id, "stopped")
    assert unknown.outcome is Outcome.UNKNOWN
    assert await ledger.fence("r1", begun.id, "again") == unknown
    with pytest.raises(LedgerConflict):
        await ledger.reserve("r1", never, "late", 1000, "1.0.0", seen=0)
    assert await ledger.settle("r1", begun.id, "zombie", SUCCESS) == (unknown, False)
    assert [e.content for e in await ledger.read_events("r1") if e.kind == "late"] == [{"done": True}]
    with pytest.raises(DecisionRefused, match="nothing to resolve"):
        await ledger.record_resolution("r1", Resolution(operation=never.id, happened=True))
    happened = Resolution(operation=begun.id, happened=True, by="ada")
    assert (await ledger.record_resolution("r1", happened)).outcome is Outcome.SUCCEEDED
    assert (await ledger.record_resolution("r1", happened)).outcome is Outcome.SUCCEEDED
    with pytest.raises(DecisionRefused, match="resolved as SUCCEEDED"):
        await ledger.record_resolution("r1", Resolution(operation=begun.id, happened=False))
    assert (await ledger.verify("r1")).faults == ()
    assert (await ledger.look_up("r1", read)).state is State.FREE


async def test_a_released_attempt_frees_the_operation_only_if_it_surely_had_no_effect(ledger: Ledger) -> None:
    await open_run(ledger)
    sure, unsure = await ask(ledger, {"n": 1}, {"n": 2})
    for call, surely_not in ((sure, True), (unsure, False)):
        await ledger.reserve("r1", call, "one", 1000, "1.0.0", seen=0)
        await ledger.release("r1", call.id, "one", "unavailable", surely_not=surely_not)
        await ledger.release("r1", call.id, "one", "unavailable", surely_not=surely_not)
    assert (await ledger.look_up("r1", sure)).state is State.FREE
    assert (await ledger.look_up("r1", unsure)).state is State.RESERVED
    assert await ledger.reserve("r1", sure, "two", 1000, "1.0.0", seen=1) == 2


async def test_checkpoints_survive_to_the_next_attempt(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1})
    await ledger.reserve("r1", call, "one", 1000, "1.0.0", seen=0)
    await ledger.record_checkpoint("r1", call.id, "one", 1, {"page": 1})
    await ledger.record_checkpoint("r1", call.id, "one", 2, {"page": 2}, sent=3)
    looked = await ledger.look_up("r1", call)
    assert (looked.checkpoint, looked.sent) == ({"page": 2}, 3)
    await ledger.reserve("r1", call, "two", 1000, "1.0.0", seen=1)
    with pytest.raises(LedgerConflict, match="taken over"):
        await ledger.record_checkpoint("r1", call.id, "one", 3, {"page": 9})
    assert (await ledger.look_up("r1", call)).checkpoint == {"page": 2}


async def test_forty_concurrent_calls_of_one_run_all_settle_in_one_chain(ledger: Ledger) -> None:
    await open_run(ledger)
    calls = await ask(ledger, *({"n": n} for n in range(40)))

    async def one(call: CallInput) -> None:
        await ledger.reserve("r1", call, call.id, 1000, "1.0.0", seen=0)
        await ledger.settle("r1", call.id, call.id, SUCCESS)

    await asyncio.gather(*(one(call) for call in calls))
    verification = await ledger.verify("r1")
    assert (verification.entries, verification.faults) == (3 + 80, ())


async def test_the_same_request_from_many_writers_is_one_run(ledger: Ledger) -> None:
    new = NewRun(run_id="r1", agent="a", text="please", user="ada", tenant="t")
    rows = await asyncio.gather(*(ledger.request_run(new) for _ in range(20)))
    assert len({row.chain_id for row in rows}) == 1
    assert (await ledger.verify("r1")).entries == 1


async def finished(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1})
    await ledger.reserve("r1", call, "one", 1000, "1.0.0", seen=0)
    await ledger.settle("r1", call.id, "one", SUCCESS)
    await ledger.close_run("r1", CloseInput(status=RunStatus.COMPLETED))


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        (
            'UPDATE entries SET body = \'{"text":"forged"}\' WHERE seq = 1',
            "entry 1 (requested): its content was changed",
        ),
        ("UPDATE entries SET body = NULL, salt = NULL WHERE seq = 3", "entry 3 (turn 1): its content was removed"),
        ("UPDATE entries SET meta = replace(meta, 'SUCCEEDED', 'FAILED') WHERE kind = 'settled'", "entry 5 (settled"),
        ("DELETE FROM entries WHERE seq = 4", "entry 4 is missing: the next one is 5"),
        ("DELETE FROM entries WHERE seq = 6", "run row: its head is entry 6, the last entry is 5"),
        ("UPDATE entries SET seq = CASE seq WHEN 4 THEN 1005 ELSE 1004 END WHERE seq IN (4, 5)", "entry 4 is missing"),
        ("UPDATE operations SET outcome = 'FAILED'", "its outcome is FAILED, the chain says SUCCEEDED"),
        ("UPDATE operations SET attempts = 0", "it counts 0 attempts, the chain 1"),
        ("UPDATE operations SET digest = 'x'", "its digest is not that of the call in entry 3"),
        ("DELETE FROM operations", "its row is missing"),
        ("UPDATE runs SET status = 'failed'", "its status is 'failed', the chain says 'completed'"),
        ("UPDATE runs SET tenant = 'other'", "agent, user or tenant differ"),
    ],
)
async def test_verify_names_what_was_tampered_with(ledger: Ledger, tampering: str, named: str) -> None:
    await finished(ledger)
    assert (await ledger.verify("r1")).faults == ()
    await ledger.database.write(lambda connection: connection.execute(text(tampering)))
    faults = (await ledger.verify("r1")).faults
    assert any(named in fault for fault in faults), faults


async def test_verify_compares_with_what_temporals_history_holds(ledger: Ledger) -> None:
    await finished(ledger)
    [*_, (seq, hashed)] = [(e.sequence, "00000000") for e in await ledger.read_events("r1")]
    assert (await ledger.verify("r1", [(seq, hashed)])).faults[0].startswith(f"entry {seq}: Temporal's history holds")


async def test_erasing_deletes_contents_and_keeps_the_chain(ledger: Ledger) -> None:
    await open_run(ledger)
    with pytest.raises(LedgerConflict, match="running"):
        await ledger.erase("r1")
    await ledger.close_run("r1", CloseInput(status=RunStatus.FAILED, reason="private"))
    assert await ledger.erase("r1") == 2
    assert await ledger.erase("r1") == 0
    events = await ledger.read_events("r1")
    assert [e.content for e in events] == [None] * len(events)
    verification = await ledger.verify("r1")
    assert (verification.erased, verification.faults) == (2, ())


def worthless(asked: Asked, word: Word, known: Sequence[Approver]) -> Judged:
    """No word counts."""
    return Judged(fault="it is worth nothing")


async def test_decisions_are_bound_and_taken_once(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1})
    with pytest.raises(DecisionRefused, match="it is asked"):
        await ledger.record_decision("r1", Decision(operation=call.id, digest=call.digest, approve=True), worthless)
    with pytest.raises(DecisionRefused, match="digest"):
        await ledger.record_decision("r1", Decision(operation=call.id, digest="other", approve=True), worthless)
    with pytest.raises(DecisionRefused, match="no operation"):
        await ledger.record_decision("r1", Decision(operation="none", digest="other", approve=True), worthless)


async def test_text_of_any_kind_is_kept_as_it_is(ledger: Ledger) -> None:
    odd = "null \x00, lone surrogate \ud800, 汉字, \u202e, 😀"
    await ledger.request_run(NewRun(run_id="r1", agent="a", text=odd, user="ada", tenant="t"))
    [event] = await ledger.read_events("r1")
    assert event.content == {"text": odd}
    assert (await ledger.verify("r1")).faults == ()


async def test_a_database_without_tables_says_what_to_do(tmp_path: Any, postgres: Postgres) -> None:
    for url in (f"sqlite:///{tmp_path / 'empty.db'}", new_database(postgres)):
        ledger = Ledger.connect(url)
        with pytest.raises(LedgerSchemaError, match="handfast ledger migrate"):
            await ledger.require_newest()
        with pytest.raises(LedgerSchemaError, match="handfast ledger migrate"):
            await ledger.read_run("r1")
        assert await ledger.migrate() == ("", NEWEST)
        assert await ledger.migrate() == (NEWEST, NEWEST)
        await ledger.require_newest()
        await ledger.close()


async def test_a_database_of_an_earlier_version_is_brought_up_with_what_it_holds(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    await asyncio.to_thread(upgrade, url, "0001")
    ledger = Ledger.connect(url)
    old_run = text(
        "INSERT INTO runs (run_id, chain_id, agent, user, tenant, request_digest, status, requested_at)"
        " VALUES ('r1', 'c', 'a', 'ada', 't', 'd', 'running', 1)"
    )
    await ledger.database.write(lambda connection: connection.execute(old_run))
    with pytest.raises(LedgerSchemaError, match=f"at revision '0001', this version needs '{NEWEST}'"):
        await ledger.require_newest()
    with pytest.raises(LedgerSchemaError, match="handfast ledger migrate"):
        await ledger.request_run(NewRun(run_id="r2", agent="a", text="Go", user="ada", tenant="t"))
    assert await ledger.migrate() == ("0001", NEWEST)
    run = await ledger.read_run("r1")
    assert (run.agent, run.contracts) == ("a", {})
    assert await ledger.shared.list_notices() == []
    await ledger.close()


def upgrade(url: str, revision: str) -> None:
    """Bring an empty database to a revision, as an earlier version of Handfast did."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


@pytest.mark.parametrize("url", ["mysql://x/y", "no url", "sqlite://", "sqlite:////proc/nowhere/ledger.db"])
def test_a_faulty_ledger_url_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(SettingsError, match=r"sqlite|postgresql|writable place"):
        Ledger.connect(url)


async def test_nobody_may_have_a_call_done_again_while_a_frozen_attempt_may_still_act(ledger: Ledger) -> None:
    await open_run(ledger)
    frozen, ended, over = await ask(ledger, {"n": 1}, {"n": 2}, {"n": 3}, effect=Effect.ONCE)
    for call, lease_ms in ((frozen, 60_000), (ended, 60_000), (over, 1)):
        await ledger.reserve("r1", call, call.id, lease_ms, "1.0.0", seen=0)
    await ledger.settle("r1", ended.id, ended.id, MAYBE)
    for call in (frozen, over):
        assert (await ledger.fence("r1", call.id, "its worker does not answer")).outcome is Outcome.UNKNOWN
    await asyncio.sleep(0.01)
    with pytest.raises(
        DecisionRefused, match=r"may still act for (60\.0|59\.\d) s if its worker is only frozen: look again"
    ):
        await ledger.record_resolution("r1", Resolution(operation=frozen.id, happened=False))
    # That it has happened has nothing done again, and of the others it is known that they act no more.
    for call, happened in ((frozen, True), (ended, False), (over, False)):
        await ledger.record_resolution("r1", Resolution(operation=call.id, happened=happened))
    assert [one.outcome for one in await ledger.list_operations("r1")] == [Outcome.SUCCEEDED, *2 * [Outcome.FAILED]]
