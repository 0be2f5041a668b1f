"""The examples do what they say."""

import asyncio
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from examples.onboarding.agent import office
from examples.teams.__main__ import TEAMS, size_of
from examples.teams.agents import everybody
from examples.trip.agent import travel
from sqlalchemy import text

from handfast import RunFailed, RunStatus, read_plan
from handfast.contracts.lint import check_agents
from handfast.contracts.plan_check import plan_faults
from tests.conftest import OpenShop, until

ROOT = Path(__file__).parents[2]
FIRST_DAY = read_plan(ROOT / "examples/onboarding/onboarding.yaml")
ADA = {"name": "Ada", "role": "engineer", "groups": ["all", "berlin", "chess"]}


@pytest.mark.timeout(180)
def test_a_trip_is_booked_as_a_whole_or_not_at_all_wherever_it_goes_wrong(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "HANDFAST_"))}
    env = {**kept, "HANDFAST_HOME": str(tmp_path)}
    words = [sys.executable, "-m", "examples.trip", "0", "4", "8", "10"]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    *stories, last = done.stdout.splitlines()
    assert (done.returncode, len(stories)) == (0, 4), done.stdout + done.stderr
    assert [story.startswith(("whole trip", "no trip")) for story in stories] == [True] * 4
    assert last == "4 trips, counted in the services' own logs: 4 whole or none, 0 halves"


def test_the_examples_have_no_faults() -> None:
    trip = read_plan(ROOT / "examples/trip/trip.yaml")
    assert plan_faults(trip, {tool.name: tool for tool in travel.tools}) == []
    assert plan_faults(FIRST_DAY, {tool.name: tool for tool in office.tools}) == []
    assert check_agents([travel, office, *everybody]) == []


@pytest.mark.parametrize("approve", [True, False])
async def test_a_first_day_is_prepared_as_a_whole_and_waits_for_the_one_approval(shop: OpenShop, approve: bool) -> None:
    desk = await shop(office)
    run = await desk.client.start_plan(FIRST_DAY, ADA, id=f"first-day-{uuid.uuid4()}")

    async def waiting() -> str:
        return "".join(one.operation for one in (await run.state()).waiting)

    async def directory() -> list[tuple[str, str]]:
        query = text("SELECT kind, detail FROM directory WHERE person = 'Ada' ORDER BY kind, detail")
        return [(row[0], row[1]) for row in await desk.ledger.database.read(lambda one: one.execute(query).all())]

    operation = await until(waiting)
    given = [
        ("account", ""), ("group", "all"), ("group", "berlin"), ("group", "chess"), ("laptop", "for a new engineer"), ("mailbox", ""),
    ]  # fmt: skip
    assert await directory() == given
    await run.decide(operation, approve=approve, by="grace")
    if approve:
        result = await asyncio.wait_for(run.result(), 30)
        assert (result.status, result.text) == (RunStatus.COMPLETED, "Ada is ready to start")
        assert await directory() == [("account", ""), ("admin", ""), *given[1:]]
    else:
        with pytest.raises(RunFailed):
            await asyncio.wait_for(run.result(), 30)
        assert await directory() == []


async def test_who_is_no_engineer_gets_no_laptop_and_nobody_is_asked(shop: OpenShop) -> None:
    desk = await shop(office)
    run = await desk.client.start_plan(FIRST_DAY, {**ADA, "role": "cook", "groups": []}, id=f"first-day-{uuid.uuid4()}")
    assert (await asyncio.wait_for(run.result(), 30)).text == "Ada is ready to start"
    assert [one.tool for one in await run.operations()] == ["create_account", "create_mailbox"]


ANSWERS = {
    "chief": (4, "hotels: {"),
    "reception": (3, "Customs need form 12"),
    "publisher": (7, "Weather: Weather one, Weather two"),
    "broker": (3, "bought: agreed at 90; sold for 90"),
    "essayist": (4, "The sea is wide, and nobody owns it."),
    "storekeeper": (3, "ordered: rope from Havn, paint from Havn"),
}


async def test_every_team_comes_to_its_goal(shop: OpenShop) -> None:
    desk = await shop(*everybody)

    async def works(name: str, request: str) -> tuple[int, str]:
        run = await desk.client.start(name, request, id=f"{name}-{uuid.uuid4()}")
        result = await asyncio.wait_for(run.result(), 60)
        return await size_of(desk.client, run.id), result.text

    found = dict(zip(TEAMS, await asyncio.gather(*(works(name, what[1]) for name, what in TEAMS.items())), strict=True))
    assert {name: (size, ANSWERS[name][1] in text) for name, (size, text) in found.items()} == {
        name: (size, True) for name, (size, _) in ANSWERS.items()
    }


async def test_a_paper_that_is_not_published_has_no_articles(shop: OpenShop) -> None:
    desk = await shop(*everybody)
    run = await desk.client.start("publisher", "Make tomorrow's paper", id=f"paper-{uuid.uuid4()}")
    titles = text("SELECT title FROM paper ORDER BY title")

    async def paper() -> list[str]:
        return [row[0] for row in await desk.ledger.database.read(lambda one: one.execute(titles).all())]

    await asyncio.wait_for(run.result(), 60)
    assert await paper() == ["Harbour one", "Harbour two", "Weather one", "Weather two"]
    await run.rollback(by="the printer")
    rollback = desk.client.temporal.get_workflow_handle(f"rollback:{run.id}")
    await asyncio.wait_for(rollback.result(), 60)
    assert await paper() == []
