"""Families under resets, terminations and forgeries: no child is begun twice, and none is left without an end."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from handfast import Effect, Outcome, Run, RunStatus, Tier, ask, tool
from handfast.contracts.identity import child_run_id, operation_id
from handfast.contracts.messages import ModelRequest
from handfast.contracts.wire import CallInput, ChildInput, RunRequest
from handfast.engine.connect import connect
from handfast.workers.sweeper import Sweeper
from handfast.workers.worker import make_worker
from tests.conftest import OpenShop, Shop, new_database, outcomes, until
from tests.family.people import agent, child_of, ended, failed, new_id, require_sound, started, sub
from tests.replay.test_replay import replayer
from tests.undo.travel import SAFE, TOOLS, Travel
from tests.workflow.agents import reset


async def under_way(travel: Travel, what: str = "book hotel grand") -> None:
    async def has_begun() -> bool:
        return what in travel.log

    await until(has_begun)


async def sweep_until(desk: Shop, *runs: Run) -> None:
    """Sweep until each of the runs was found."""
    sweeper = Sweeper(desk.client.temporal, desk.ledger, desk.boundary.registry, task_queue=desk.settings.task_queue)
    left = {run.id for run in runs}

    async def found() -> bool:
        left.difference_update(await sweeper.sweep())
        return not left

    await until(found)


@pytest.mark.parametrize("activities", [0, 1])
async def test_a_parent_that_temporal_resets_goes_on_with_its_running_child(
    shop: OpenShop, travel: Travel, activities: int
) -> None:
    travel.slow["book hotel"] = 1.5
    clerk = agent("clerk", [ask("flight", number="oslo"), ask("hotel", number="grand"), "booked"], SAFE)
    desk = await shop(agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)
    await under_way(travel)
    await reset(desk.client, run.id, activities)
    result = await ended(run)
    assert (result.status, outcomes(result.operations)) == (RunStatus.COMPLETED, [("clerk", "SUCCEEDED")])
    assert travel.log == ["book flight oslo", "book hotel grand"]
    assert len(await desk.client.runs()) == 2
    assert (await desk.ledger.read_run(run.id)).turns_below == 3
    await require_sound(desk)


async def test_a_parent_that_is_reset_after_its_child_has_ended_asks_nobody_again(
    shop: OpenShop, travel: Travel
) -> None:
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    steps = [ask("clerk", request="go"), ask("car", number="red"), "Done."]
    desk = await shop(agent("boss", steps, [*TOOLS, sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)
    await ended(run)
    again = await reset(desk.client, run.id, 1)
    await asyncio.wait_for(again.result(), 30)
    assert travel.log == ["book flight oslo", "book car red"]
    row = await desk.ledger.read_run(run.id)
    used = (await run.state()).used
    assert (row.turns_below, used.turns, used.tokens) == (2, row.turns + 2, row.tokens)


async def test_a_run_that_thinks_again_takes_a_running_child_over_if_it_asks_for_the_same(
    shop: OpenShop, travel: Travel
) -> None:
    travel.slow["book hotel"] = 1.5
    clerk = agent("clerk", [ask("flight", number="oslo"), ask("hotel", number="grand"), "booked"], SAFE)
    desk = await shop(agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)
    await under_way(travel)
    await run.reset(1)
    result = await ended(run)
    assert outcomes(result.operations) == [("clerk", "SUCCEEDED")]
    assert (travel.log, len(await desk.client.runs())) == (["book flight oslo", "book hotel grand"], 2)
    await require_sound(desk)


async def test_a_child_that_nobody_asks_for_any_more_is_cancelled_and_shown(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book hotel"] = 2.0
    thoughts: list[int] = []

    def think(request: ModelRequest) -> object:
        thoughts.append(1)
        return ask("clerk", request="go") if len(thoughts) == 1 else "Done without."

    clerk = agent("clerk", [ask("flight", number="oslo"), ask("hotel", number="grand"), "booked"], SAFE)
    desk = await shop(agent("boss", think, [sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)
    await under_way(travel)
    await run.reset(1)
    child = await child_of(desk, run, "clerk")
    assert (await ended(run)).text == "Done without."
    assert (await ended(child)).status is RunStatus.CANCELLED
    [(_, orphan)] = await desk.ledger.list_orphans()
    assert (orphan.child, orphan.state, orphan.outcome) == (child.id, "settled", Outcome.FAILED)
    await run.rollback()
    await asyncio.wait_for(desk.client.temporal.get_workflow_handle(f"rollback:{run.id}").result(), 30)
    assert travel.standing == set()
    await require_sound(desk)


async def test_a_parent_that_is_terminated_is_undone_with_its_running_child(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book hotel"] = 1.0
    clerk = agent("clerk", [ask("flight", number="oslo"), ask("hotel", number="grand"), "booked"], SAFE)
    steps = [ask("car", number="red"), ask("clerk", request="go"), "Done."]
    desk = await shop(agent("boss", steps, [*SAFE, sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)
    await under_way(travel)
    child = await child_of(desk, run, "clerk")
    await run.handle.terminate()
    await sweep_until(desk, run)
    await asyncio.wait_for(desk.client.temporal.get_workflow_handle(f"rollback:{run.id}").result(), 30)
    assert travel.standing == set()
    assert (await child.summary()).status is RunStatus.CANCELLED
    assert [one.outcome for one in await run.operations() if one.state != "settled"] == []
    await require_sound(desk)


async def test_a_child_that_is_terminated_is_undone_and_its_parent_told(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book hotel"] = 1.0
    clerk = agent("clerk", [ask("flight", number="oslo"), ask("hotel", number="grand"), "booked"], SAFE)
    desk = await shop(agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)
    await under_way(travel)
    child = await child_of(desk, run, "clerk")
    await child.handle.terminate()
    await sweep_until(desk, child)
    result = await ended(run)
    assert (result.status, outcomes(result.operations)) == (RunStatus.COMPLETED, [("clerk", "FAILED")])
    assert travel.standing == set()
    await require_sound(desk)


async def test_a_parent_whose_workers_forgot_the_child_waits_and_loses_nothing(shop: OpenShop, travel: Travel) -> None:
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    boss = agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk)])
    desk = await shop(boss, upstreams=travel.upstreams, serve=False)
    run = await started(desk)
    async with desk.another_worker(boss):
        assert (await ended(run)).status is RunStatus.COMPLETED


async def test_a_child_can_be_served_by_workers_of_another_queue(shop: OpenShop, travel: Travel) -> None:
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    ask_clerk = sub(clerk, queue="clerks-of-this-test")
    boss = agent("boss", [ask("clerk", request="go"), "Done."], [ask_clerk])
    desk = await shop(boss, upstreams=travel.upstreams)
    run = await started(desk)
    child = await child_of(desk, run, "clerk", opened=False)
    assert (await child.summary()).status is RunStatus.REQUESTED
    described = await until(lambda: _described(desk, child))
    assert described == "clerks-of-this-test"
    await run.cancel()
    await child.handle.terminate()
    await sweep_until(desk, child)
    assert (await ended(run)).status is RunStatus.CANCELLED


async def test_a_cancellation_that_arrives_together_with_the_childs_termination_ends_the_run(
    shop: OpenShop, travel: Travel
) -> None:
    """Nobody serves the parent when both happen: it learns of both in one workflow task."""
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    boss = agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk, queue="nobody-serves-this")])
    desk = await shop(boss, upstreams=travel.upstreams, serve=False)
    async with desk.another_worker(boss):
        run = await started(desk)
        child = await child_of(desk, run, "clerk", opened=False)
        await until(lambda: _described(desk, child))
    await run.cancel()
    await child.handle.terminate()
    async with desk.another_worker(boss):
        await sweep_until(desk, child)
        assert (await ended(run)).status is RunStatus.CANCELLED


async def test_a_child_is_undone_where_it_ran(shop: OpenShop, travel: Travel) -> None:
    """On its own queue, whose workers may have what nobody else has."""
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    boss = agent("boss", [ask("clerk", request="go")], [sub(clerk, queue="clerks-only")])
    desk = await shop(boss, upstreams=travel.upstreams)
    temporal, _ = await connect(desk.settings, desk.client.engine.address)
    async with make_worker(temporal, desk.boundary, desk.settings, task_queue="clerks-only"):
        run = await started(desk)
        await failed(run)
    assert travel.standing == set()
    child = await child_of(desk, run, "clerk")
    rollback = await desk.client.temporal.get_workflow_handle(f"rollback:{child.id}").describe()
    assert rollback.task_queue == "clerks-only"


async def _described(desk: Shop, run: Run) -> str:

    try:
        return (await desk.client.temporal.get_workflow_handle(run.id).describe()).task_queue
    except RPCError:
        return ""


async def test_a_child_that_a_stranger_starts_in_temporal_is_the_same_run(shop: OpenShop, travel: Travel) -> None:
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    ask_clerk = sub(clerk, queue="nobody-serves-this")
    desk = await shop(agent("boss", [ask("clerk", request="go"), "Done."], [ask_clerk]), upstreams=travel.upstreams)
    run = await started(desk)
    child = await child_of(desk, run, "clerk", opened=False)
    # The child's own workflow waits on its queue: nobody can start another one of that id.
    await until(lambda: _described(desk, child))
    with pytest.raises(Exception, match="already started"):
        await desk.client.temporal.start_workflow(
            "AgentRun", RunRequest(agent="clerk", text="rob"), id=child.id, task_queue=desk.settings.task_queue
        )
    await run.cancel()
    await child.handle.terminate()
    await sweep_until(desk, child)
    await ended(run)
    assert travel.log == []


async def waits(desk: Shop, run_id: str) -> None:
    """Until a call of a run waits for a person."""
    while not await desk.client.inbox(run_id=run_id):
        await asyncio.sleep(0.05)


async def test_a_workflow_that_claims_a_childs_id_before_it_is_begun_gets_nothing_done(
    shop: OpenShop, travel: Travel
) -> None:
    """Somebody at Temporal who guesses the id first: the call fails with the reason, and is not carried out for them."""

    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    travel.slow["book car"] = 1.5
    steps = [ask("car", number="red"), ask("clerk", request="go"), "Done."]
    desk = await shop(agent("boss", steps, [*TOOLS, sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)
    await under_way(travel, "book car red")
    chain = (await desk.ledger.read_run(run.id)).chain_id
    stolen = child_run_id("clerk", operation_id(chain, 2))
    handle = await desk.client.temporal.start_workflow(
        "AgentRun", RunRequest(agent="clerk", text="rob"), id=stolen, task_queue=desk.settings.task_queue
    )
    await waits(desk, stolen)
    result = await ended(run)
    assert outcomes(result.operations) == [("car", "SUCCEEDED"), ("clerk", "FAILED")]
    assert [one.tool for one in await desk.client.inbox(run_id=stolen)] == ["flight"], "nobody whose words count"
    await handle.cancel()
    assert result.operations[1].result["code"] == "run_id_reused"


@workflow.defn(name="Stranger", sandboxed=False)
class Stranger:
    """A workflow that somebody else has written, and that asks for an activity of ours."""

    @workflow.run
    async def run(self, name: str, queue: str, given: ChildInput) -> None:
        await workflow.execute_activity(name, given, task_queue=queue, start_to_close_timeout=timedelta(seconds=10))


async def test_the_activities_of_children_do_nothing_for_a_stranger(shop: OpenShop, travel: Travel) -> None:

    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    desk = await shop(agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)
    [operation] = (await ended(run)).operations

    temporal, _ = await connect(desk.settings, desk.client.engine.address)
    call = CallInput(id=operation.operation_id, turn=1, digest=operation.digest)
    async with Worker(
        temporal, task_queue="strangers", workflows=[Stranger], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        for name in ("begin_child", "end_child"):
            with pytest.raises(WorkflowFailureError) as caught:
                await temporal.execute_workflow(
                    "Stranger",
                    args=[name, desk.settings.task_queue, ChildInput(call=call)],
                    id=new_id(),
                    task_queue="strangers",
                )
            cause = caught.value.cause.__cause__
            assert isinstance(cause, ApplicationError)
            assert cause.type == "not_asked_for"
    assert travel.log == ["book flight oslo"]


async def test_a_child_that_is_cancelled_alone_is_a_failed_call_of_its_parent(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book hotel"] = 1.0
    clerk = agent("clerk", [ask("flight", number="oslo"), ask("hotel", number="grand"), "booked"], SAFE)
    desk = await shop(agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk)]), upstreams=travel.upstreams)
    run = await started(desk)
    await under_way(travel)
    await (await child_of(desk, run, "clerk")).cancel(undo=True)
    result = await ended(run)
    assert (result.status, travel.standing) == (RunStatus.COMPLETED, set())
    assert (result.operations[0].outcome, result.operations[0].result["code"]) == (Outcome.FAILED, "cancelled")


async def test_a_parent_waits_for_a_child_that_stands_still_and_hears_its_end(shop: OpenShop, travel: Travel) -> None:
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    desk = await shop(agent("boss", [ask("clerk", request="go")], [sub(clerk)]), upstreams=travel.upstreams)
    travel.slow["book flight"] = 1.0
    run = await started(desk)
    await under_way(travel, "book flight oslo")
    child = await child_of(desk, run, "clerk")
    await child.pause()
    await until(lambda: _settled(child))
    assert (await desk.client.temporal.get_workflow_handle(run.id).describe()).status is WorkflowExecutionStatus.RUNNING
    await child.resume()
    await failed(run)
    assert travel.standing == set()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_child_that_ends_before_the_run_that_has_forgotten_it_is_settled_with_that(
    shop: OpenShop, travel: Travel, database: str, request: pytest.FixtureRequest
) -> None:
    """It was begun by thoughts that a reset has taken back, and has come to its end by itself."""
    url = new_database(request.getfixturevalue("postgres")) if database == "postgresql" else ""
    thoughts: list[int] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
    async def wait() -> str:
        """Wait."""
        begun.set()
        await go_on.wait()
        return "waited"

    def think(request: ModelRequest) -> object:
        thoughts.append(1)
        if len(thoughts) == 1:
            return ask("clerk", request="go")
        return "Done without." if request.messages[-1].results else ask("wait")

    travel.slow["book flight"] = 1.0
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    desk = await shop(agent("boss", think, [sub(clerk), wait]), upstreams=travel.upstreams, ledger_url=url)
    run = await started(desk)
    await under_way(travel, "book flight oslo")
    child = await child_of(desk, run, "clerk")
    await run.reset(1)
    await asyncio.wait_for(begun.wait(), 30)
    assert (await ended(child)).status is RunStatus.COMPLETED
    go_on.set()
    assert (await ended(run)).text == "Done without."
    [(_, orphan)] = await desk.ledger.list_orphans()
    assert (orphan.child, orphan.state, orphan.outcome) == (child.id, "settled", Outcome.SUCCEEDED)
    await require_sound(desk)


async def test_a_pause_holds_a_whole_family_and_its_end_lets_it_go_on(shop: OpenShop, travel: Travel) -> None:
    travel.slow["book flight"] = 1.0
    clerk = agent("clerk", [ask("flight", number="oslo"), ask("hotel", number="grand"), "booked"])
    head = agent("head", [ask("clerk", request="go"), "Done."], [sub(clerk)])
    desk = await shop(agent("boss", [ask("head", request="go"), "Done."], [sub(head)]), upstreams=travel.upstreams)
    run = await started(desk)
    await under_way(travel, "book flight oslo")
    between = await child_of(desk, run, "head")
    below = await child_of(desk, between, "clerk")
    await run.pause()
    await until(lambda: _settled(below))
    assert [(await one.state()).paused for one in (run, between, below)] == [True, True, True]
    assert len(await below.operations()) == 1
    await run.resume()
    assert outcomes((await ended(run)).operations) == [("head", "SUCCEEDED")]
    assert travel.log == ["book flight oslo", "book hotel grand"]
    for one in (run, between, below):
        await replayer().replay_workflow(await one.handle.fetch_history())


async def test_a_child_that_begins_while_its_parent_is_being_paused_stands_still_too(
    shop: OpenShop, travel: Travel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause comes when the child is written down, and before its workflow is started."""
    clerk = agent("clerk", [ask("flight", number="oslo"), "booked"])
    desk = await shop(agent("boss", [ask("clerk", request="go"), "Done."], [sub(clerk)]), upstreams=travel.upstreams)
    begin = desk.boundary.ledger.families.begin
    written, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(*args: Any) -> Any:
        result = await begin(*args)
        written.set()
        await go_on.wait()
        return result

    monkeypatch.setattr(desk.boundary.ledger.families, "begin", slowly)
    run = await started(desk)
    await asyncio.wait_for(written.wait(), 30)
    await run.pause()
    go_on.set()
    child = await child_of(desk, run, "clerk")

    async def stands_still() -> bool:
        return (await child.state()).paused

    await until(stands_still)
    await run.resume()
    assert outcomes((await ended(run)).operations) == [("clerk", "SUCCEEDED")]


async def _settled(run: Run) -> bool:
    return all(one.state == "settled" for one in await run.operations())
