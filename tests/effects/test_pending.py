"""Work that goes on after the call: asked for, or reported by a signed callback to a real gateway process."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from handfast import (
    Backoff,
    BackoffKind,
    DecisionRefused,
    Effect,
    Lane,
    Outcome,
    Pending,
    Run,
    RunStatus,
    Tier,
    ToolContext,
    ToolError,
    ask,
    tool,
)
from handfast.contracts.results import Operation
from handfast.contracts.signing import OnceOnly, onceonly_headers, webhook_headers
from handfast.contracts.tool import Tool
from handfast.engine.connect import Engine, connect
from handfast.engine.embedded import free_port
from handfast.ledger import Ledger, Settlement
from handfast.ledger.late import OUTSIDE
from handfast.workers.worker import make_boundary, make_worker
from tests.conftest import OpenShop, Shop, until
from tests.crash.harness import Process
from tests.effects import jobs
from tests.effects.agents import agent, ended

LATER = Backoff(kind=BackoffKind.FIXED, base=timedelta(minutes=1), longest=timedelta(minutes=1))
SOON = Backoff(kind=BackoffKind.FIXED, base=timedelta(seconds=0.2))


def new_id() -> str:
    return f"pending-{uuid.uuid4()}"


def rendering(
    began: list[str],
    answers: list[Any],
    *,
    effect: Effect = Effect.KEYED,
    deadline: timedelta = timedelta(minutes=1),
    polls: Backoff = SOON,
    **clauses: Any,
) -> Tool:
    """A tool whose work is asked for; each look gets the next answer."""

    async def poll(args: Any, reference: str, ctx: ToolContext) -> dict[str, str] | None:
        assert reference == "job-1"
        answer = answers.pop(0) if answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    @tool(
        version="1.0.0",
        effect=effect,
        tier=Tier.READ_ONLY if effect is Effect.READ else Tier.REVERSIBLE,
        scope="x:y",
        poll=poll,
        polls=polls,
        **clauses,
    )
    async def render(ctx: ToolContext) -> dict[str, str] | Pending:
        """Render."""
        began.append(ctx.operation_id)
        return Pending(reference="job-1", deadline=deadline)

    return render


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.READ, Effect.ONCE])
async def test_pending_work_is_looked_at_until_it_has_ended_and_begun_once(
    shop: OpenShop, effect: Effect, lane: Lane
) -> None:
    began: list[str] = []
    clauses: dict[str, Any] = {"lane": lane, "timeout": timedelta(seconds=2)}
    answers = [None, ToolError("busy", retryable=True), ConnectionError("the line went dead"), {"url": "x"}]
    desk = await shop(agent(ask("render"), "done", tools=[rendering(began, answers, effect=effect, **clauses)]))
    run = await desk.client.start("tester", "Go", id=new_id())
    operation = await ended(run)
    assert (operation.outcome, operation.result, began) == (
        Outcome.SUCCEEDED, {"url": "x"}, [operation.operation_id],
    )  # fmt: skip
    assert (await desk.ledger.verify(run.id)).faults == ()
    kinds = [event.kind for event in await desk.ledger.read_events(run.id)]
    assert (kinds.count("pending"), kinds.count("settled")) == (1, 1)


async def test_a_look_on_the_worker_that_settled_the_turn_begins_nothing_again(shop: OpenShop) -> None:
    """It knows the call from its turn, as one that nobody has begun; another worker has."""
    began: list[str] = []
    answers: list[Any] = []
    queue = f"own-{uuid.uuid4().hex[:8]}"
    render = agent(ask("render"), "done", tools=[rendering(began, answers, effect=Effect.READ, queue=queue)])
    desk = await shop(render)
    run = await desk.client.start("tester", "Go", id=new_id())

    async def pending() -> bool:
        return [operation.state for operation in await run.operations()] == ["pending"]

    for boundary in (make_boundary([render], desk.ledger, desk.settings), desk.boundary):
        temporal, _ = await connect(desk.settings, desk.client.engine.address)
        async with make_worker(temporal, boundary, desk.settings, task_queue=queue):
            await until(pending)
            if boundary is desk.boundary:
                answers.append({"url": "x"})
                assert (await ended(run)).result == {"url": "x"}
    assert len(began) == 1


@pytest.mark.parametrize(
    ("answers", "deadline", "outcome", "message"),
    [
        ([ToolError("the template is broken")], timedelta(minutes=1), Outcome.FAILED, "the template is broken"),
        ([], timedelta(seconds=0.7), Outcome.UNKNOWN, "still going on elsewhere at its deadline"),
    ],
    ids=["failed", "deadline"],
)
async def test_pending_work_that_fails_or_never_ends(
    shop: OpenShop, answers: list[Any], deadline: timedelta, outcome: Outcome, message: str
) -> None:
    desk = await shop(agent(ask("render"), "done", tools=[rendering([], answers, deadline=deadline)]))
    operation = await ended(await desk.client.start("tester", "Go", id=new_id()))
    assert (operation.outcome, message in operation.result["message"]) == (outcome, True)


async def test_pending_work_outlives_the_worker_and_no_slot_is_held_for_it(shop: OpenShop) -> None:
    began: list[str] = []
    answers: list[Any] = []
    render = agent(ask("render"), "done", tools=[rendering(began, answers)])
    desk = await shop(render, serve=False)
    run = await desk.client.start("tester", "Go", id=new_id())

    async def pending() -> bool:
        return [operation.state for operation in await run.operations()] == ["pending"]

    async with desk.another_worker(render):
        await until(pending)
    answers.append({"url": "x"})
    async with desk.another_worker(render):
        assert (await ended(run)).result == {"url": "x"}
    assert len(began) == 1


async def test_a_word_on_work_that_goes_on_elsewhere_is_refused_at_once(shop: OpenShop) -> None:
    answers: list[Any] = []
    desk = await shop(agent(ask("render"), "done", tools=[rendering([], answers, polls=LATER)]))
    run = await desk.client.start("tester", "Go", id=new_id())

    async def refused() -> bool:
        [operation] = await run.operations()
        if operation.state != "pending":
            return False
        with pytest.raises(DecisionRefused, match="does not wait for a resolution"):
            await asyncio.wait_for(run.resolve(operation.operation_id, happened=True), 5)
        return True

    await until(run.operations)
    await until(refused)
    answers.append({"url": "x"})
    await run.handle.signal("wake", (await run.operations())[0].operation_id)
    assert (await ended(run)).result == {"url": "x"}


async def test_a_run_that_is_cancelled_while_work_is_pending_ends_and_shows_the_doubt(shop: OpenShop) -> None:
    desk = await shop(agent(ask("render"), "done", tools=[rendering([], [])]))
    run = await desk.client.start("tester", "Go", id=new_id())

    async def pending() -> bool:
        return [operation.state for operation in await run.operations()] == ["pending"]

    await until(pending)
    await run.cancel()
    result = await run.result()
    assert (result.status, result.operations[0].outcome) == (RunStatus.CANCELLED, Outcome.UNKNOWN)


class Gateway:
    """A gateway process, and callbacks to it."""

    def __init__(self, desk: Shop, url: str) -> None:
        self.desk = desk
        self.http = httpx.AsyncClient(base_url=url)

    async def post(self, operation_id: str, body: Any, *, secret: str = jobs.SECRET) -> httpx.Response:
        content = json.dumps(body).encode()
        headers = webhook_headers(secret, "msg_1", content)
        return await self.http.post(f"/callbacks/{operation_id}", content=content, headers=headers)

    async def start(self, name: str = "jobs") -> tuple[Run, Operation]:
        """A run whose call is pending."""
        run = await self.desk.client.start(name, "Go", id=new_id())

        async def pending() -> list[Operation]:
            return [operation for operation in await run.operations() if operation.state == "pending"]

        [operation] = await until(pending)
        return run, operation


@pytest.fixture
async def gateway(
    shop: OpenShop, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    monkeypatch.setenv("HANDFAST_SECRET_JOBS", jobs.SECRET)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    desk = await shop(*jobs.both, gateway_url=url)
    env = {
        "TEMPORAL_ADDRESS": engine.address,
        "HANDFAST_LEDGER_URL": desk.settings.ledger,
        "HANDFAST_SECRET_JOBS": jobs.SECRET,
    }
    words = ("gateway", "tests.effects.jobs:both", "--port", str(port))
    process = Process("handfast.client.cli", *words, env=env, output=tmp_path / "gateway.log")
    made = Gateway(desk, url)

    async def serves() -> bool:
        assert process.code is None, process.output.read_text()
        try:
            return (await made.http.get("/health")).is_success
        except httpx.TransportError:
            return False

    await until(serves)
    yield made
    await made.http.aclose()
    await process.stop()


async def test_a_signed_callback_ends_the_call_and_wakes_the_run(gateway: Gateway) -> None:
    run, operation = await gateway.start()
    assert jobs.started[-1] == f"{gateway.http.base_url}/callbacks/{operation.operation_id}".replace("//call", "/call")
    taken = await gateway.post(operation.operation_id, {"result": {"pages": 3}})
    assert (taken.status_code, taken.json()) == (200, {"operation": operation.operation_id, "outcome": "SUCCEEDED"})
    assert (await asyncio.wait_for(ended(run), 10)).result == {"pages": 3}
    # The sender did not hear the answer, and posts it again; or posts something else under the same id.
    for body in ({"result": {"pages": 3}}, {"error": {"message": "no"}}):
        assert (await gateway.post(operation.operation_id, body)).json()["outcome"] == "SUCCEEDED"
    assert (await gateway.desk.ledger.verify(run.id)).faults == ()


async def test_a_callback_may_say_that_the_work_failed(gateway: Gateway) -> None:
    run, operation = await gateway.start()
    await gateway.post(operation.operation_id, {"error": {"message": "out of paper", "code": "no_paper"}})
    failed = await ended(run)
    assert (failed.outcome, failed.result) == (
        Outcome.FAILED,
        {"code": "no_paper", "message": "out of paper", "operation": operation.operation_id},
    )


async def test_callbacks_that_are_not_signed_or_do_not_fit_change_nothing(gateway: Gateway) -> None:
    run, operation = await gateway.start()
    one = operation.operation_id
    refused = [
        await gateway.post(one, {"result": {"pages": 3}}, secret="whsec_bm90IGl0"),
        await gateway.post(str(uuid.uuid4()), {"result": {"pages": 3}}),
        await gateway.http.post(f"/callbacks/{one}", json={"result": {"pages": 3}}),
    ]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in refused] == [(401, "refused")] * 3
    assert len({answer.text for answer in refused}) == 1
    misfits: list[Any] = [{"result": {"pages": 0}}, {"result": None, "error": {}}, {}, [], {"error": "no"}]
    assert [(await gateway.post(one, body)).status_code for body in misfits] == [400] * 5
    assert (await gateway.post(one, misfits[0])).json()["error"]["fields"].keys() == {"pages"}
    assert [operation.state for operation in await run.operations()] == ["pending"]
    await gateway.post(one, {"result": {"pages": 1}})
    assert (await ended(run)).outcome is Outcome.SUCCEEDED


async def test_callbacks_in_the_other_dialect(gateway: Gateway) -> None:
    run, operation = await gateway.start("counter")
    content = b'{"result": 17}'
    headers = onceonly_headers(OnceOnly(secret="jobs"), jobs.SECRET, "count_words", content)
    await gateway.http.post(f"/callbacks/{operation.operation_id}", content=content, headers=headers)
    assert (await ended(run)).result == 17


async def test_who_only_reaches_temporal_can_wake_a_run_and_changes_nothing_by_it(gateway: Gateway) -> None:
    run, operation = await gateway.start()
    for _ in range(3):
        await run.handle.signal("wake", operation.operation_id)
    await run.handle.signal("wake", "something else")
    assert [one.state for one in await run.operations()] == ["pending"]
    await gateway.post(operation.operation_id, {"result": {"pages": 1}})
    assert (await ended(run)).attempts == 1


async def test_a_callback_that_is_faster_than_the_call_is_not_lost(shop: OpenShop) -> None:
    """The other side may have ended before the tool has said that it began."""
    kept: list[Ledger] = []

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y")
    async def quick(ctx: ToolContext) -> str | Pending:
        """Quick."""
        word = Settlement(outcome=Outcome.SUCCEEDED, content="done already", meta={"callback": True})
        await kept[0].settle(ctx.run_id, ctx.operation_id, OUTSIDE, word)
        return Pending()

    desk = await shop(agent(ask("quick"), "done", tools=[quick]))
    kept.append(desk.ledger)
    operation = await ended(await desk.client.start("tester", "Go", id=new_id()))
    assert (operation.outcome, operation.result) == (Outcome.SUCCEEDED, "done already")
