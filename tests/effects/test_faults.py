"""Everything a tool, a ledger, a server or a stranger can do wrong: a clear error or a wait, nothing lost, nothing twice."""

import asyncio
import math
import os
import signal
import sqlite3
import subprocess
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import text
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from holdfast import (
    Agent,
    Client,
    Effect,
    Limits,
    Outcome,
    RunStatus,
    Script,
    Tier,
    ToolContext,
    ToolError,
    ask,
    tool,
)  # fmt: skip
from holdfast.activities.watchdog import EXIT_CODE
from holdfast.contracts.messages import ModelRequest
from holdfast.contracts.wire import CallInput
from holdfast.engine.connect import Engine, connect, require_search_attributes
from holdfast.engine.embedded import EmbeddedEngine, find_binary
from holdfast.ledger import Ledger
from holdfast.settings import Settings
from holdfast.workers.worker import make_boundary, make_worker
from tests.conftest import OpenShop, new_database, outcomes, start_postgres, until
from tests.crash.harness import Process, worker_env

ROOMY = Limits(turns=100, tokens=10_000_000, wall_time=timedelta(hours=1))


def agent(*steps: Any, tools: list[Any], **options: Any) -> Agent:
    return Agent(name="tester", instructions="Test.", model=Script(steps), tools=tools, limits=ROOMY, **options)


class Weird:
    """Not serialisable."""


RAISES: dict[str, BaseException] = {
    "a bug": ZeroDivisionError("division by zero"),
    "an exit": SystemExit(3),
    "an interrupt": KeyboardInterrupt(),
    "a timeout of its own": TimeoutError("the database was slow"),
    "a recursion": RecursionError("too deep"),
    "a very long message": ValueError("x" * 100_000),
}


@pytest.mark.parametrize("what", RAISES)
async def test_a_read_that_raises_anything_fails_after_its_attempts_and_the_run_goes_on(
    shop: OpenShop, what: str
) -> None:
    tried: list[int] = []

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y", attempts=2)
    async def fail(ctx: ToolContext) -> str:
        """Fail."""
        tried.append(ctx.attempt)
        raise RAISES[what]

    desk = await shop(agent(ask("fail"), "went on", tools=[fail]))
    result = await desk.client.execute("tester", "Go", id=f"raise-{uuid.uuid4().hex[:6]}")
    assert (result.text, len(tried)) == ("went on", 2)
    [operation] = result.operations
    assert operation.outcome is Outcome.FAILED
    assert operation.result["code"] == "tool_failed"
    assert operation.result["message"].startswith(f"fail failed: {type(RAISES[what]).__name__}: ")
    assert len(operation.result["message"]) <= 500
    assert "Traceback" not in str(operation.result)


async def test_each_effect_class_retries_as_it_may_when_the_end_is_not_known(shop: OpenShop) -> None:
    tried: dict[str, list[str]] = {}

    def failing(effect: Effect, **clauses: Any) -> Any:
        @tool(
            name=effect.lower(),
            version="1.0.0",
            effect=effect,
            tier=Tier.REVERSIBLE,
            scope="x:y",
            attempts=2,
            **clauses,
        )
        async def act(ctx: ToolContext) -> str:
            """Act."""
            tried.setdefault(effect, []).append(ctx.operation_id)
            raise ConnectionError("the line went dead")

        return act

    async def absent(args: Any, ctx: ToolContext) -> None:
        return None

    tools = [
        failing(Effect.IDEMPOTENT),
        failing(Effect.KEYED),
        failing(Effect.ONCE),
        failing(Effect.TRANSACTIONAL),
        failing(Effect.RECONCILED, reconcile=absent, settles_within=timedelta(seconds=0.2)),
    ]
    names = [t.name for t in tools]
    desk = await shop(agent([ask(name) for name in names], "done", tools=tools))
    run = await desk.client.start("tester", "Go", id="classes")
    while not (await run.summary()).status.closed:
        for waiting in (await run.state()).waiting:
            await run.resolve(waiting.operation, happened=False, by="ada", note="looked")
        await asyncio.sleep(0.05)
    operations = {o.tool: o for o in (await run.result()).operations}
    assert {name: len(set(ids)) for name, ids in tried.items()} == dict.fromkeys(tried, 1)
    assert {name.lower(): len(ids) for name, ids in tried.items()} == {
        "idempotent": 2, "keyed": 2, "once": 1, "transactional": 2, "reconciled": 2,
    }  # fmt: skip
    assert {name: o.outcome for name, o in operations.items()} == dict.fromkeys(names, Outcome.FAILED)
    resolved = {e.reference for e in await desk.ledger.read_events("classes") if e.kind == "resolved"}
    assert resolved == {operations[name].operation_id for name in ("idempotent", "keyed", "once", "reconciled")}
    assert (await desk.ledger.verify("classes")).faults == ()


async def test_a_once_call_that_surely_did_not_happen_is_tried_again(shop: OpenShop) -> None:
    tried: list[int] = []

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def send(ctx: ToolContext) -> str:
        """Send."""
        tried.append(ctx.attempt)
        if len(tried) == 1:
            raise ToolError("the door was closed", retryable=True, happened="no", retry_after=0.1)
        return "sent"

    desk = await shop(agent(ask("send"), "done", tools=[send]))
    result = await desk.client.execute("tester", "Go", id="closed-door")
    assert (tried, outcomes(result.operations)) == ([1, 2], [("send", Outcome.SUCCEEDED)])


async def test_reconcile_that_finds_the_call_settles_it_without_running_it_again(shop: OpenShop) -> None:
    class Sent(BaseModel):
        number: int

    tried: list[str] = []

    async def find(args: Any, ctx: ToolContext) -> Sent:
        return Sent(number=7)

    @tool(version="1.0.0", effect=Effect.RECONCILED, tier=Tier.REVERSIBLE, scope="x:y", reconcile=find)
    async def send(ctx: ToolContext) -> Sent:
        """Send."""
        tried.append(ctx.operation_id)
        raise ConnectionError("sent, but the answer was lost")

    desk = await shop(agent(ask("send"), "done", tools=[send]))
    [operation] = (await desk.client.execute("tester", "Go", id="found")).operations
    assert (operation.outcome, operation.result, len(tried)) == (Outcome.SUCCEEDED, {"number": 7}, 1)


async def test_reconcile_that_is_not_sure_leaves_it_to_a_person(shop: OpenShop) -> None:
    async def find(args: Any, ctx: ToolContext) -> None:
        raise ValueError("the list is truncated")

    @tool(version="1.0.0", effect=Effect.RECONCILED, tier=Tier.REVERSIBLE, scope="x:y", reconcile=find)
    async def send() -> str:
        """Send."""
        raise ConnectionError

    desk = await shop(agent(ask("send"), "done", tools=[send]))
    run = await desk.client.start("tester", "Go", id="unsure")

    async def waiting() -> Any:
        return (await run.state()).waiting

    [one] = await until(waiting)
    assert one.unknown
    await run.resolve(one.operation, happened=True, by="ada", note="it is in the outbox")
    [operation] = (await run.result()).operations
    assert (operation.outcome, operation.result["note"]) == (Outcome.SUCCEEDED, "it is in the outbox")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_transactional_effect_commits_with_its_settlement_or_not_at_all(
    shop: OpenShop, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tried: list[int] = []

    @tool(version="1.0.0", effect=Effect.TRANSACTIONAL, tier=Tier.REVERSIBLE, scope="x:y")
    async def book(amount: int, ctx: ToolContext) -> int:
        """Book."""
        async with ctx.transaction() as connection:
            await connection.execute(text("INSERT INTO bookings VALUES (:amount)"), {"amount": amount})
        tried.append(amount)
        if len(tried) == 1:
            raise ConnectionError("after the write")
        return amount

    url = (
        f"sqlite:///{tmp_path / 'ledger.db'}" if kind == "sqlite" else new_database(request.getfixturevalue("postgres"))
    )
    desk = await shop(agent(ask("book", amount=5), ask("book", amount=6), "done", tools=[book]), ledger_url=url)
    await desk.ledger.database.write(lambda c: c.execute(text("CREATE TABLE bookings (amount INTEGER)")))
    result = await desk.client.execute("tester", "Go", id=f"book-{kind}")
    rows = await desk.ledger.database.read(lambda c: [*c.execute(text("SELECT amount FROM bookings")).scalars()])
    assert (rows, tried) == ([5, 6], [5, 5, 6])
    assert outcomes(result.operations) == [("book", Outcome.SUCCEEDED)] * 2
    assert (await desk.ledger.verify(f"book-{kind}")).faults == ()


async def test_results_that_are_no_json_are_named_and_an_effect_is_not_repeated_for_them(shop: OpenShop) -> None:
    done: list[str] = []

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def look() -> Any:
        """Look."""
        return Weird()

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def act() -> Any:
        """Act."""
        done.append("acted")
        return {"weird": Weird()}

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def odd() -> Any:
        """Odd."""
        return {"nan": math.nan, "bytes": b"ok", "when": timedelta(seconds=1)}

    desk = await shop(agent([ask("look"), ask("act"), ask("odd")], "done", tools=[look, act, odd]))
    result = await desk.client.execute("tester", "Go", id="no-json")
    looked, acted, odd_one = result.operations
    assert (looked.outcome, looked.result["code"]) == (Outcome.FAILED, "result_not_serialisable")
    assert (acted.outcome, acted.result["code"]) == (Outcome.SUCCEEDED, "result_not_serialisable")
    assert "do not call again" in acted.result["hint"]
    assert odd_one.result == {"nan": None, "bytes": "ok", "when": "PT1S"}
    assert done == ["acted"]


async def test_a_tool_that_hangs_is_ended_by_its_timeout(shop: OpenShop) -> None:
    @tool(
        version="1.0.0",
        effect=Effect.READ,
        tier=Tier.READ_ONLY,
        scope="x:y",
        attempts=1,
        timeout=timedelta(seconds=0.3),
    )
    async def hang() -> str:
        """Hang."""
        await asyncio.sleep(600)
        return "never"

    @tool(
        version="1.0.0",
        effect=Effect.READ,
        tier=Tier.READ_ONLY,
        scope="x:y",
        attempts=1,
        timeout=timedelta(seconds=0.3),
    )
    def hang_in_a_thread(ctx: ToolContext) -> str:
        """Hang."""
        while not ctx.cancelled:
            time.sleep(0.01)
        return "told"

    desk = await shop(agent([ask("hang"), ask("hang_in_a_thread")], "went on", tools=[hang, hang_in_a_thread]))
    result = await desk.client.execute("tester", "Go", id="hang")
    assert result.text == "went on"
    assert [o.result["code"] for o in result.operations] == ["timeout", "timeout"]


async def test_a_checkpoint_survives_to_the_next_attempt(shop: OpenShop) -> None:
    seen: list[Any] = []

    @tool(version="1.0.0", effect=Effect.IDEMPOTENT, tier=Tier.REVERSIBLE, scope="x:y")
    async def walk(ctx: ToolContext) -> int:
        """Walk."""
        seen.append(ctx.last_checkpoint)
        page = int((ctx.last_checkpoint or {"page": 0})["page"])
        await ctx.checkpoint({"page": page + 1})
        if page < 2:
            raise ToolError("stumbled", retryable=True, retry_after=0.05)
        return page

    desk = await shop(agent(ask("walk"), "done", tools=[walk]))
    result = await desk.client.execute("tester", "Go", id="walk")
    assert (seen, result.operations[0].result) == ([None, {"page": 1}, {"page": 2}], 2)


async def test_a_secret_is_resolved_in_the_worker_and_never_recorded(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOLDFAST_SECRET_BANK", "hush-hush")

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def look(name: str, ctx: ToolContext) -> int:
        """Look."""
        ctx.heartbeat()
        return len(ctx.secret(name))

    desk = await shop(agent([ask("look", name="bank"), ask("look", name="safe")], "done", tools=[look]))
    result = await desk.client.execute("tester", "Go", id="secret")
    known, missing = result.operations
    assert (known.result, missing.outcome) == (9, Outcome.FAILED)
    assert missing.result["hint"] == "an operator must set HOLDFAST_SECRET_SAFE for the workers that serve this tool"
    assert result.usage.total == result.tokens > 0
    stored = (tmp_path / "ledger.db").read_bytes() + (tmp_path / "ledger.db-wal").read_bytes()
    assert b"hush-hush" not in stored


async def test_long_calls_are_kept_alive_by_the_engines_heartbeats(shop: OpenShop) -> None:
    tried: list[int] = []

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def take_long(ctx: ToolContext) -> str:
        """Take longer than two heartbeat timeouts."""
        tried.append(ctx.attempt)
        await asyncio.sleep(2.5)
        return "done"

    desk = await shop(agent(ask("take_long"), "done", tools=[take_long]), heartbeat_seconds=1.0)
    result = await desk.client.execute("tester", "Go", id="long-call")
    assert (tried, outcomes(result.operations)) == ([1], [("take_long", Outcome.SUCCEEDED)])


async def test_a_tool_that_blocks_the_event_loop_ends_its_worker_and_another_goes_on(
    engine: Engine, tmp_path: Path
) -> None:
    queue = f"block-{uuid.uuid4().hex[:8]}"
    settings = Settings(home=tmp_path, task_queue=queue, ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger = Ledger.connect(settings.ledger)
    await ledger.migrate()
    await ledger.close()
    env = worker_env(
        engine.address, settings.ledger, queue, {}, HOLDFAST_WATCHDOG_SECONDS="1", BLOCK_MARK=str(tmp_path / "mark")
    )
    worker = Process(
        "holdfast.client.cli", "worker", "tests.effects.blocking:agent", env=env, output=tmp_path / "w.log"
    )
    try:
        async with await Client.connect(engine.address, settings=settings) as client:
            run = await client.start("blocker", "Go", id=f"run-{queue}")
            assert await worker.wait() == EXIT_CODE
            assert '"tools": ["block"]' in worker.output.read_text()
            worker = Process(
                "holdfast.client.cli", "worker", "tests.effects.blocking:agent", env=env, output=tmp_path / "w.log"
            )
            result = await run.result()
            assert (result.status, outcomes(result.operations)) == (RunStatus.COMPLETED, [("block", Outcome.SUCCEEDED)])
            assert result.operations[0].attempts >= 1
    finally:
        await worker.stop()


async def test_runs_wait_while_another_process_holds_the_sqlite_ledger(shop: OpenShop, tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def send() -> str:
        """Send."""
        begun.set()
        await go_on.wait()
        done.append("sent")
        return "sent"

    desk = await shop(agent(ask("send"), "done", tools=[send]), heartbeat_seconds=1.0)
    run = await desk.client.start("tester", "Go", id="locked")
    await begun.wait()
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    go_on.set()
    await asyncio.sleep(10)  # longer than SQLite itself waits: the ledger is away
    assert (done, outcomes(await run.operations())) == (["sent"], [("send", None)])
    other.execute("ROLLBACK")
    other.close()
    result = await run.result()
    assert (done, outcomes(result.operations)) == (["sent"], [("send", Outcome.SUCCEEDED)])
    assert [o.attempts for o in result.operations] == [1]


async def test_runs_wait_while_postgresql_is_down_for_ten_seconds(shop: OpenShop, tmp_path: Path) -> None:
    server = start_postgres(tmp_path / "postgres")
    try:
        done: list[int] = []
        begun = asyncio.Event()

        @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
        async def send(n: int) -> str:
            """Send."""
            done.append(n)
            begun.set()
            await asyncio.sleep(0.3)
            return "sent"

        steps = [*(ask("send", n=n) for n in range(3)), "done"]
        desk = await shop(agent(*steps, tools=[send]), ledger_url=new_database(server))
        run = await desk.client.start("tester", "Go", id="pg-down")
        await begun.wait()
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(10)
        await asyncio.to_thread(server.ensure_postgres_running)
        result = await run.result()
        assert (done, outcomes(result.operations)) == ([0, 1, 2], [("send", Outcome.SUCCEEDED)] * 3)
        assert (await desk.ledger.verify("pg-down")).faults == ()
    finally:
        server.cleanup()


async def test_runs_go_on_after_the_temporal_server_was_killed_and_came_back(tmp_path: Path) -> None:
    done: list[int] = []

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def send(n: int) -> str:
        """Send."""
        done.append(n)
        await asyncio.sleep(0.2)
        return "sent"

    steps = [*(ask("send", n=n) for n in range(8)), "done"]
    settings = Settings(home=tmp_path, ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}", heartbeat_seconds=2)
    async with EmbeddedEngine(tmp_path) as embedded:
        ledger = Ledger.connect(settings.ledger)
        await ledger.migrate()
        temporal, _ = await connect(settings, embedded.engine.address)
        await require_search_attributes(temporal)
        boundary = make_boundary([agent(*steps, tools=[send])], ledger, settings)
        async with (
            make_worker(temporal, boundary, settings),
            await Client.connect(embedded.engine.address, settings=settings) as client,
        ):
            run = await client.start("tester", "Go", id="server-killed")

            async def some() -> bool:
                return len(done) >= 3

            await until(some)
            first = embedded.engine.pid
            os.kill(first, signal.SIGKILL)
            result = await asyncio.wait_for(run.result(), 90)
            assert embedded.engine.pid != first
        assert (done, outcomes(result.operations)) == ([*range(8)], [("send", Outcome.SUCCEEDED)] * 8)
        await ledger.close()


async def test_the_same_call_asked_for_again_and_again_is_ended_by_the_limit(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def look() -> str:
        """Look."""
        return "nothing new"

    def stubborn(request: ModelRequest) -> Any:
        return ask("look") if request.may_call_tools else "I kept looking"

    looping = Agent(name="tester", instructions="Test.", model=Script(stubborn), tools=[look], limits=Limits(turns=6))
    desk = await shop(looping)
    result = await desk.client.execute("tester", "Go", id="stubborn")
    assert (result.status, result.limit, result.calls) == (RunStatus.LIMIT_REACHED, "turns", 5)


@workflow.defn
class Forger:
    """A stranger's workflow that asks for an effect which no model asked for in it."""

    @workflow.run
    async def run(self, call: CallInput, queue: str) -> None:
        await workflow.execute_activity("send", call, task_queue=queue, start_to_close_timeout=timedelta(seconds=5))


async def test_a_stranger_who_reaches_temporal_can_make_no_tool_act(shop: OpenShop, engine: Engine) -> None:
    done: list[str] = []

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="x:y")
    async def send(what: str) -> str:
        """Send."""
        done.append(what)
        return "sent"

    desk = await shop(agent(ask("send", what="money"), "done", tools=[send]))
    run = await desk.client.start("tester", "Go", id="victim")

    async def waiting() -> Any:
        return (await run.state()).waiting

    await until(waiting)
    [operation] = await run.operations()
    real = CallInput(id=operation.operation_id, turn=1, index=0, digest=operation.digest)
    queue = desk.settings.task_queue

    # On its own, without any workflow around it.
    command = [
        find_binary(), "activity", "execute", "--address", engine.address, "--type", "send", "--task-queue", queue,
        "--activity-id", f"alone-{queue}", "--start-to-close-timeout", "5s", "--input", real.model_dump_json(),
    ]  # fmt: skip
    alone = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert "does nothing on its own" in alone.stdout + alone.stderr

    # From a workflow of the stranger's own, for a call that no turn asked for.
    temporal, _ = await connect(desk.settings, engine.address)
    async with Worker(
        temporal, task_queue=f"{queue}-f", workflows=[Forger], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        forged = real.model_copy(update={"digest": "0" * 32})
        for call in (forged, real):
            with pytest.raises(WorkflowFailureError) as failure:
                await temporal.execute_workflow(
                    Forger.run, args=[call, queue], id=f"forger-{uuid.uuid4()}", task_queue=f"{queue}-f"
                )
            assert "no settled turn of run 'forger-" in str(failure.value.cause.__cause__)
    assert done == []
    await run.decide(operation.operation_id, approve=False)
    assert (await run.result()).status is RunStatus.COMPLETED
    assert done == []
