"""Any family, any faults: whatever fails, what stands is what its jobs say, each thing once, the last one undone first."""

import asyncio
import os
import random
import uuid

import pytest

from handfast import Outcome, RunFailed
from tests.conftest import OpenShop, Shop
from tests.family.trees import Job, below, expected, family, grown, require_order
from tests.undo.travel import Travel, booking, cancelling

EXAMPLES = int(os.environ.get("FAMILY_EXAMPLES", "8"))
SEED = int(os.environ.get("FAMILY_SEED", "2411"))
LOST, GONE = 0, 404


@pytest.mark.timeout(90 + 10 * EXAMPLES)
async def test_whatever_fails_in_a_family_what_stands_is_what_its_jobs_say(shop: OpenShop, travel: Travel) -> None:
    book = booking("room", cancelling("room", attempts=6), attempts=4)
    desk = await shop(family(book, "number"), upstreams=travel.upstreams)
    chance = random.Random(SEED)
    for start in range(0, EXAMPLES, 4):
        jobs = [grown(chance, f"{SEED}x{start + number}") for number in range(4)]
        await asyncio.gather(*(play(desk, travel, job, random.Random(chance.random())) for job in jobs))


async def play(desk: Shop, travel: Travel, job: Job, chance: random.Random) -> None:
    refused: set[str] = set()
    for thing in job.things:
        planned = chance.choice(([], [], [], [500], [LOST], [GONE]))
        if planned == [GONE]:
            refused.add(thing)
        travel.planned[f"book room {thing}"] = [*planned]
        travel.planned[f"cancel room {thing}"] = [*chance.choice(([], [], [500], [LOST]))]
    run = await desk.client.start("firm0", job.model_dump_json(), id=f"tree-{uuid.uuid4()}")
    told = (job.model_dump_json(), refused)
    try:
        await asyncio.wait_for(run.result(), 60)
        assert not job.fails, told
    except RunFailed:
        assert job.fails, told
    log = [entry for entry in travel.log if entry.split(" ")[2] in job.things]
    booked = [entry.split(" ")[2] for entry in log if entry.startswith("book")]
    cancelled = [entry.split(" ")[2] for entry in log if entry.startswith("cancel")]
    assert (len(set(booked)), set(booked)) == (len(booked), set(job.things) - refused), (told, log)
    assert len(set(cancelled)) == len(cancelled), (told, log)
    assert set(booked) - set(cancelled) == expected(job, refused), (told, log)
    require_order(job, [(entry.split(" ")[0], entry.split(" ")[2]) for entry in log])
    family_ids = [run.id, *await below(desk.client, run.id)]
    assert len(family_ids) == len(job.jobs), told
    own = [await desk.ledger.read_run(run_id) for run_id in family_ids]
    top = own[0]
    assert (top.turns_below, top.calls_below) == (
        sum(one.turns for one in own[1:]),
        sum(one.calls for one in own[1:]),
    ), told
    for run_id in family_ids:
        assert (await desk.ledger.verify(run_id)).faults == (), told
        unsettled = [one for one in await desk.client.run(run_id).operations() if one.state != "settled"]
        assert unsettled == [], told
    outcomes = {one.outcome for run_id in family_ids for one in await desk.client.run(run_id).operations()}
    assert outcomes <= {Outcome.SUCCEEDED, Outcome.FAILED, Outcome.COMPENSATED}, told
