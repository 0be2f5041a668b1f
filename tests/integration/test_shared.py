"""What all workers share in the ledger, under many at once; each test on SQLite and on PostgreSQL."""

import asyncio
import time
from datetime import timedelta

from handfast.contracts.clauses import Rate
from handfast.contracts.errors import LedgerRace
from handfast.ledger import Ledger, Throttle, Throttled
from handfast.ledger.cached import forget
from handfast.ledger.throttle import take
from tests.integration.test_ledger import ask, open_run


async def places(ledger: Ledger, throttle: Throttle, number: int) -> list[int]:
    """What so many calls at once are told: 0 to go on, else how many milliseconds to wait."""

    async def one(n: int) -> int:
        while True:
            try:
                await ledger.database.write(lambda connection: take(connection, throttle, f"op-{n}"))
            except LedgerRace:
                continue  # two made the same row, and the other's stands
            except Throttled as error:
                return error.wait_ms
            return 0

    return sorted(await asyncio.gather(*(one(n) for n in range(number))))


async def test_of_many_at_once_no_more_pass_a_window_than_it_holds(ledger: Ledger) -> None:
    rate = Rate(count=5, per=timedelta(seconds=3))
    throttle = Throttle(tool="pay", tenant="t", user="ada", rates=[rate])
    waits = await places(ledger, throttle, 20)
    assert waits.count(0) == 5
    # A transaction that has waited for the others has read its clock before them.
    assert all(0 < wait <= 4000 for wait in waits[5:])
    # Each of the five has begun by now, so that none is in the window any more after its length.
    await asyncio.sleep(3.2)
    assert (await places(ledger, throttle, 20)).count(0) == 5


CALLS = 20


async def test_calls_that_wait_have_their_turn_in_order_and_try_a_few_times_each(ledger: Ledger) -> None:
    throttle = Throttle(tool="pay", tenant="t", user="ada", rates=[Rate(count=4, per=timedelta(seconds=0.5))])
    await open_run(ledger)
    calls = await ask(ledger, *({"n": n} for n in range(CALLS)))
    began: list[tuple[float, int]] = []
    tries = [0] * CALLS

    async def carry_out(n: int) -> None:
        while True:
            try:
                await ledger.reserve("r1", calls[n], calls[n].id, 60_000, "1.0.0", seen=0, throttle=throttle)
            except Throttled as error:
                tries[n] += 1
                await asyncio.sleep(error.wait_ms / 1000)
            else:
                began.append((time.monotonic(), n))
                return

    def has_come(n: int) -> bool:
        return tries[n] > 0 or any(other == n for _, other in began)

    waiting: list[asyncio.Task[None]] = []
    for n in range(CALLS):
        waiting.append(asyncio.create_task(carry_out(n)))
        while not has_come(n):
            await asyncio.sleep(0)
    waiting[10].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    order = [n for _, n in began]
    assert {*order} == {*range(CALLS)} - {10}
    # Those that have their turn at the same moment may come in any order.
    assert all(abs(order.index(n) - place) <= 4 for place, n in enumerate(sorted(order))), order
    starts = [at for at, _ in began]
    assert all(later - earlier > 0.4 for earlier, later in zip(starts, starts[4:], strict=False)), starts
    # If each came whenever there is a place, it would be 40.
    assert sum(tries) < 40, tries


async def test_windows_of_other_tools_tenants_and_users_are_others(ledger: Ledger) -> None:
    for each, others in {"tool": 1, "tenant": 2, "user": 3}.items():
        rate = Rate.model_validate({"count": 1, "per": timedelta(hours=1), "each": each})
        who = [("t", "ada"), ("u", "ada"), ("t", "bob")]
        told = [(await places(ledger, Throttle(tool=each, tenant=t, user=u, rates=[rate]), 1))[0] for t, u in who]
        assert told.count(0) == others, each


async def test_a_call_that_one_window_refuses_takes_no_place_in_another(ledger: Ledger) -> None:
    rates = [Rate(count=2, per=timedelta(hours=1), each="tenant"), Rate(count=1, per=timedelta(hours=1), each="user")]
    throttles = [Throttle(tool="pay", tenant="t", user=user, rates=rates) for user in ("ada", "ada", "bob")]
    told = [(await places(ledger, throttle, 1))[0] for throttle in throttles]
    assert [wait == 0 for wait in told] == [True, False, True]


async def keep(ledger: Ledger, key: str, content: object, *, generation: int = 0, most: int = 10) -> bool:
    return await ledger.shared.keep_cached("t/look", key, content, generation=generation, ttl_ms=60_000, most=most)


async def test_a_result_that_was_read_before_a_write_is_not_kept_after_it(ledger: Ledger) -> None:
    before = await ledger.shared.look_for_cached("t/look", "k")
    await ledger.database.write(lambda connection: forget(connection, "t/look"))
    assert not await keep(ledger, "k", "old", generation=before.generation)
    after = await ledger.shared.look_for_cached("t/look", "k")
    assert (after.generation, after.expires_at) == (1, 0)
    assert await keep(ledger, "k", "new", generation=1)
    assert (await ledger.shared.look_for_cached("t/look", "k")).content == "new"


async def test_the_oldest_results_make_room(ledger: Ledger) -> None:
    for number in range(5):
        await keep(ledger, f"k{number}", number, most=3)
        await asyncio.sleep(0.005)
    kept = [(await ledger.shared.look_for_cached("t/look", f"k{number}")).content for number in range(5)]
    assert kept == [None, None, 2, 3, 4]


async def test_many_who_keep_the_same_result_at_once_keep_it_once(ledger: Ledger) -> None:
    assert all(await asyncio.gather(*(keep(ledger, "k", {"n": 1}) for _ in range(10))))
    assert (await ledger.shared.look_for_cached("t/look", "k")).content == {"n": 1}
