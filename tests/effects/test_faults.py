"""Whatever a tool or a stranger does wrong: a clear error, nothing lost, nothing twice."""

import asyncio
import math
import subprocess
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from handfast import (
    Agent,
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
from handfast.activities.gate import Gate
from handfast.contracts.messages import ModelRequest, ModelResponse, Text
from handfast.contracts.wire import CallInput, TurnResult
from handfast.engine.connect import Engine, connect
from handfast.engine.embedded import find_binary
from handfast.ledger import NewTurn
from handfast.llm.script import Step
from tests.conftest import OpenShop, outcomes, until
from tests.effects.agents import agent


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


async def test_the_process_goes_on_from_what_was_settled_not_from_what_it_heard(shop: OpenShop) -> None:
    """Another worker settles the turn while this one still listens to the model."""
    heard: list[str] = []

    class Late(Script):
        async def respond(self, request: ModelRequest) -> ModelResponse:
            heard.extend(message.text for message in request.messages)
            answer = await super().respond(request)
            if not answer.message.calls or answer.usage is None:
                return answer
            text = Text(text="settled by another worker")
            other = answer.message.model_copy(update={"parts": (text, *answer.message.parts)})
            run = await desk.ledger.read_run("overtaken")
            gate = Gate(tester, {"look": look}, run, set(), closed="")
            calls = tuple(gate.judge(call) for call in other.calls)
            result = TurnResult(heads=tuple(call.head for call in calls), calls=1)
            await desk.ledger.settle_turn(
                "overtaken",
                NewTurn(
                    turn=1,
                    heard=(),
                    message=other,
                    calls=calls,
                    result=result,
                    meta={"usage": answer.usage.model_dump()},
                ),
            )
            return answer

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def look() -> str:
        """Look."""
        return "seen"

    tester = Agent(name="tester", instructions="Test.", model=Late([ask("look"), "done"]), tools=[look])
    desk = await shop(tester)
    result = await desk.client.execute("tester", "Go", id="overtaken")
    assert (result.text, result.calls, heard) == ("done", 1, ["Go", "Go", "settled by another worker", ""])


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

    told: list[str] = []

    def answer(request: ModelRequest) -> Step:
        told.extend(one.text for one in request.messages[-1].results)
        return "done" if told else [ask("look"), ask("act"), ask("odd")]

    tester = Agent(name="tester", instructions="Test.", model=Script(answer), tools=[look, act, odd])
    result = await (await shop(tester)).client.execute("tester", "Go", id="no-json")
    looked, acted, odd_one = result.operations
    assert (looked.outcome, looked.result["code"]) == (Outcome.FAILED, "result_not_serialisable")
    assert (acted.outcome, acted.result) == (Outcome.SUCCEEDED, None)
    assert "do not call again" in told[1]
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
    monkeypatch.setenv("HANDFAST_SECRET_BANK", "hush-hush")

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y", secrets=("bank", "safe"))
    async def look(name: str, ctx: ToolContext) -> int:
        """Look."""
        ctx.heartbeat()
        return len(ctx.secret(name))

    desk = await shop(agent([ask("look", name="bank"), ask("look", name="safe")], "done", tools=[look]))
    result = await desk.client.execute("tester", "Go", id="secret")
    known, missing = result.operations
    assert (known.result, missing.outcome) == (9, Outcome.FAILED)
    assert missing.result["hint"] == "an operator must set HANDFAST_SECRET_SAFE for the workers that serve this tool"
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
