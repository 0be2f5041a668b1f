"""On PostgreSQL the steps of a call are one statement each. It must do what the long way does, or nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Connection, select

from handfast.contracts.effects import Outcome
from handfast.contracts.errors import LedgerConflict
from handfast.ledger import Ledger, OperationMoved, Settlement
from handfast.ledger.database import Database, Transaction
from handfast.ledger.operations import reserve
from handfast.ledger.tables import entries, operations, runs
from tests.conftest import Postgres, new_database
from tests.integration.test_ledger import FAILURE, SUCCESS, ask, open_run

MINUTE = 60_000
DIFFERENT = {
    "at", "salt", "content_hash", "hash", "head_hash", "chain_id", "requested_at", "asked_at", "settled_at", "lease_until",
    "operation_id", "ref", "meta", "body",
}  # fmt: skip
"""Columns that hold a time, a random number, or what follows from one."""
ODD = Settlement(outcome=Outcome.FAILED, content={"said": 'a "b" \\ \u2603 \U0001f600 {}:1 %s $1'}, meta={"attempt": 1})


@pytest.fixture
async def ledger(postgres: Postgres) -> AsyncIterator[Ledger]:
    made = Ledger.connect(new_database(postgres))
    await made.migrate()
    yield made
    await made.close()


def forbid_the_long_way(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(transaction: Transaction[Any]) -> Any:
        raise AssertionError("the long way was taken")

    monkeypatch.setattr(ledger.database, "write", refuse)


def forbid_the_short_way(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    monkeypatch.setattr(type(ledger.database), "at_once", Database.at_once)


async def go_through(ledger: Ledger, run_id: str) -> None:
    """Two turns, three calls; one is tried twice, one fails, one is read without a reservation."""
    one, two = await ask(ledger, {"n": 1}, {"n": 2}, run_id=run_id)
    assert await ledger.reserve(run_id, one, "first", MINUTE, "1.0.0", seen=0) == 1
    assert await ledger.reserve(run_id, one, "second", MINUTE, "1.0.0", seen=1) == 2
    assert (await ledger.settle(run_id, one.id, "second", SUCCESS, tool="pay")).mine
    assert await ledger.reserve(run_id, two, "third", MINUTE, "1.0.0", seen=0) == 1
    assert (await ledger.settle(run_id, two.id, "third", ODD, tool="pay")).mine
    [three] = await ask(ledger, {"n": 3}, run_id=run_id, turn=2)
    assert (await ledger.settle(run_id, three.id, "", FAILURE, tool="pay")).mine


def rows(connection: Connection) -> list[list[dict[str, Any]]]:
    """Every row, without what differs by nature."""
    queries = [
        select(runs).order_by(runs.c.run_id),
        select(entries).order_by(entries.c.seq),
        select(operations).order_by(operations.c.turn, operations.c.idx),
    ]
    return [
        [{k: v for k, v in row.items() if k not in DIFFERENT} for row in connection.execute(query).mappings()]
        for query in queries
    ]


async def test_both_ways_write_the_same(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    for short in (True, False):
        ledger = Ledger.connect(new_database(postgres))
        await ledger.migrate()
        await open_run(ledger)
        with monkeypatch.context() as patch:
            if short:
                forbid_the_long_way(ledger, patch)
            else:
                forbid_the_short_way(patch, ledger)
            await go_through(ledger, "r1")
        events = [(e.kind, e.content) for e in await ledger.read_events("r1") if e.kind != "turn"]
        assert (await ledger.verify("r1")).faults == ()
        written.append(
            (await ledger.database.read(rows), events, [o.state for o in await ledger.list_operations("r1")])
        )
        await ledger.close()
    assert written[0] == written[1]


async def test_of_many_attempts_that_looked_at_the_same_moment_one_may_act(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1})
    tried = await asyncio.gather(
        *(ledger.reserve("r1", call, f"owner-{n}", MINUTE, "1.0.0", seen=0) for n in range(20)), return_exceptions=True
    )
    assert sorted(str(type(one).__name__) for one in tried) == ["OperationMoved"] * 19 + ["int"]
    assert [e.kind for e in await ledger.read_events("r1")].count("reserved") == 1
    assert (await ledger.verify("r1")).faults == ()


async def test_steps_of_many_calls_of_one_run_at_once_leave_one_chain(ledger: Ledger) -> None:
    await open_run(ledger)
    calls = await ask(ledger, *({"n": n} for n in range(30)))

    async def carry_out(number: int) -> bool:
        call = calls[number]
        await ledger.reserve("r1", call, call.id, MINUTE, "1.0.0", seen=0)
        # Every third one goes the long way.
        return (await ledger.settle("r1", call.id, call.id, SUCCESS, tool="pay" if number % 3 else "")).mine

    assert all(await asyncio.gather(*(carry_out(number) for number in range(30))))
    assert [e.kind for e in await ledger.read_events("r1")].count("settled") == 30
    assert (await ledger.verify("r1")).faults == ()


async def test_a_settlement_by_one_that_was_taken_over_goes_the_long_way_and_is_refused(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1})
    await ledger.reserve("r1", call, "first", MINUTE, "1.0.0", seen=0)
    await ledger.reserve("r1", call, "second", MINUTE, "1.0.0", seen=1)
    with pytest.raises(LedgerConflict, match="newer attempt"):
        await ledger.settle("r1", call.id, "first", FAILURE, tool="pay")
    assert (await ledger.settle("r1", call.id, "second", SUCCESS, tool="pay")).mine
    again = await ledger.settle("r1", call.id, "second", SUCCESS, tool="pay")
    assert (again.mine, again.result.outcome) == (False, Outcome.SUCCEEDED)
    with pytest.raises(OperationMoved, match="settled"):
        await ledger.reserve("r1", call, "third", MINUTE, "1.0.0", seen=2)


async def test_a_turn_that_is_settled_stands_and_changes_nothing_the_second_time(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1})
    before = await ledger.database.read(rows)
    # The counter has moved on, so these would be other operations: what stands is told instead.
    await ask(ledger, {"n": 2}, {"n": 3})
    assert await ledger.database.read(rows) == before
    assert [o.operation_id for o in await ledger.list_operations("r1")] == [call.id]


async def test_a_step_whose_connection_breaks_or_that_is_cancelled_is_taken_again_without_a_second_entry(
    ledger: Ledger, postgres: Postgres
) -> None:
    await open_run(ledger)
    calls = await ask(ledger, *({"n": n} for n in range(10)))
    for call in calls[:5]:
        postgres.psql("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid();")
        await ledger.reserve("r1", call, call.id, MINUTE, "1.0.0", seen=0)
    for call in calls[5:]:
        reserving = asyncio.create_task(ledger.reserve("r1", call, call.id, MINUTE, "1.0.0", seen=0))
        for _ in range(5):
            await asyncio.sleep(0)
        reserving.cancel()
        await asyncio.gather(reserving, return_exceptions=True)
        assert await ledger.reserve("r1", call, call.id, MINUTE, "1.0.0", seen=0) == 1
    assert [e.kind for e in await ledger.read_events("r1")].count("reserved") == 10
    assert (await ledger.verify("r1")).faults == ()


async def test_a_step_that_waits_for_another_ones_lock_sees_what_that_one_wrote(ledger: Ledger) -> None:
    await open_run(ledger)
    [call] = await ask(ledger, {"n": 1})
    async with ledger.open() as connection:
        await connection.run_sync(reserve, "r1", call, "other", MINUTE, "1.0.0", seen=0)
        reserving = asyncio.create_task(ledger.reserve("r1", call, "mine", MINUTE, "1.0.0", seen=0))
        await asyncio.wait([reserving], timeout=0.3)
        assert not reserving.done()
    with pytest.raises(OperationMoved, match="reserved after 1 attempts, not 0"):
        await reserving
    assert (await ledger.verify("r1")).faults == ()
