"""The loop: turns, calls, limits, results, typed answers, failing visibly; on a real Temporal server."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio import workflow
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from handfast import (
    Agent,
    Client,
    Effect,
    Outcome,
    RunFailed,
    RunIdTaken,
    RunStatus,
    Script,
    Tier,
    ToolError,
    ask,
    tool,
)  # fmt: skip
from handfast.contracts.messages import Message, ModelRequest, ModelResponse, Text, ToolCall
from handfast.contracts.wire import CallInput, Head, Opened
from handfast.ledger import Ledger
from handfast.llm.script import Step
from handfast.workflows.agent_run import AgentRun
from handfast.workflows.calls import Calls
from tests.conftest import OpenShop, outcomes, until
from tests.workflow.agents import ROOMY, agent, double, settled


async def test_an_answer_without_tools_completes_the_run(shop: OpenShop) -> None:
    desk = await shop(agent(["Hello."]))
    result = await desk.client.execute("tester", "Hi", id="hello", user="ada")
    assert (result.status, result.text, result.turns, result.operations) == (RunStatus.COMPLETED, "Hello.", 1, ())


async def test_results_of_parallel_calls_come_back_in_the_order_asked(shop: OpenShop) -> None:
    def answer(request: ModelRequest) -> Step:
        results = request.messages[-1].results
        return " ".join(r.text for r in results) if results else [ask("double", n=n) for n in range(30)]

    desk = await shop(agent(answer, double))
    result = await desk.client.execute("tester", "Go", id="parallel")
    assert result.text == " ".join(str(2 * n) for n in range(30))
    assert outcomes(result.operations) == [("double", Outcome.SUCCEEDED)] * 30


async def test_faulty_calls_come_back_to_the_model_as_structured_errors(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def refuse(n: int) -> int:
        """Refuse."""
        raise ToolError("not today", code="closed", hint="come tomorrow", fields={"n": "too late"})

    heard: list[dict[str, Any]] = []

    def answer(request: ModelRequest) -> Step:
        results = request.messages[-1].results
        if not results:
            return [ask("nothing_like_it"), ask("double", n="many"), ask("refuse", n=1), ask("double", n=1, m=2)]
        heard.extend(json.loads(r.text) for r in results)
        assert all(r.failed for r in results)
        return "done"

    desk = await shop(agent(answer, double, refuse))
    result = await desk.client.execute("tester", "Go", id="faulty")
    ids = [operation.operation_id for operation in result.operations]
    assert heard == [
        {
            "code": "unknown_tool",
            "message": "no tool is named 'nothing_like_it'",
            "hint": "tools: double, read_result, refuse",
            "operation": ids[0],
        },
        {
            "code": "invalid_arguments",
            "message": "the arguments of double don't fit its schema; it was not executed",
            "hint": "correct the fields and call again",
            "fields": {"n": "Input should be a valid integer, unable to parse string as an integer"},
            "operation": ids[1],
        },
        {
            "code": "closed",
            "message": "not today",
            "hint": "come tomorrow",
            "fields": {"n": "too late"},
            "operation": ids[2],
        },
        {
            "code": "invalid_arguments",
            "message": "the arguments of double don't fit its schema; it was not executed",
            "hint": "correct the fields and call again",
            "fields": {"m": "unknown argument; arguments are n"},
            "operation": ids[3],
        },
    ]
    assert outcomes(result.operations) == [
        ("nothing_like_it", Outcome.DENIED),
        ("double", Outcome.DENIED),
        ("refuse", Outcome.FAILED),
        ("double", Outcome.DENIED),
    ]


async def test_calls_that_conflict_run_one_after_the_other(shop: OpenShop) -> None:
    running = 0
    most: dict[str, int] = {"a": 0, "b": 0}
    both = asyncio.Event()
    seen: set[str] = set()

    @tool(version="1.0.0", effect=Effect.IDEMPOTENT, tier=Tier.REVERSIBLE, scope="x:y", conflict=("account",))
    async def touch(account: str, n: int) -> str:
        """Touch an account."""
        nonlocal running
        running += 1
        most[account] += 1
        assert most[account] == 1
        seen.add(account)
        if seen == {"a", "b"}:
            both.set()
        await asyncio.wait_for(both.wait(), 10)
        most[account] -= 1
        return f"{account}{n}"

    steps = [[ask("touch", account=account, n=n) for n in range(3) for account in "ab"], "done"]
    desk = await shop(agent(steps, touch))
    result = await desk.client.execute("tester", "Go", id="conflict")
    assert outcomes(result.operations) == [("touch", Outcome.SUCCEEDED)] * 6


async def test_near_the_limit_of_turns_the_model_is_asked_for_its_answer(shop: OpenShop) -> None:
    def answer(request: ModelRequest) -> Step:
        if not request.may_call_tools:
            assert "turns" in request.messages[-1].text
            return "so far: 2"
        return ask("double", n=1)

    desk = await shop(agent(answer, double, limits=ROOMY.model_copy(update={"turns": 3})))
    result = await desk.client.execute("tester", "Go", id="limited")
    assert (result.status, result.limit, result.text, result.turns) == (
        RunStatus.LIMIT_REACHED,
        "turns",
        "so far: 2",
        3,
    )


@pytest.mark.parametrize(
    ("limits", "limit"),
    [({"tokens": 60}, "tokens"), ({"cost_usd": 0.000001}, "cost_usd"), ({"calls": 1}, "calls")],
)
async def test_each_limit_ends_the_run_with_its_name(shop: OpenShop, limits: dict[str, Any], limit: str) -> None:
    from decimal import Decimal

    from handfast import Price

    steps: list[Step] = [[ask("double", n=1), ask("double", n=2)], *[ask("double", n=n) for n in range(20)]]

    def answer(request: ModelRequest) -> Step:
        return steps[len(request.messages) // 2] if request.may_call_tools else "enough"

    limited = Agent(
        name="tester",
        instructions="Test. " * 10,
        model=Script(
            answer,
            price=Price(input=Decimal(1), output=Decimal(1)),
        ),
        tools=[double],
        limits=ROOMY.model_copy(update=limits),
    )
    desk = await shop(limited)
    result = await desk.client.execute("tester", "Go", id=f"limit-{limit}")
    assert (result.status, result.limit) == (RunStatus.LIMIT_REACHED, limit)
    if limit == "calls":
        assert outcomes(result.operations) == [("double", Outcome.SUCCEEDED), ("double", Outcome.DENIED)]
        assert result.text == "enough"


async def test_a_long_result_is_cut_for_the_model_and_can_be_read_on(shop: OpenShop) -> None:
    text = "".join(f"{n:06d}," for n in range(430_000))  # 3 MB

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def dump() -> str:
        """Dump."""
        return text

    heard: list[str] = []

    def answer(request: ModelRequest) -> Step:
        results = request.messages[-1].results
        heard.extend(r.text for r in results)
        match len(heard):
            case 0:
                return ask("dump")
            case 1:
                operation = heard[0].split('operation="')[1].split('"')[0]
                return ask("read_result", operation=operation, offset=1333, length=100)
            case _:
                return "read"

    desk = await shop(agent(answer, dump))
    run = await desk.client.start("tester", "Go", id="long")
    result = await run.result()
    assert result.operations[0].result == text
    assert heard[0].startswith(text[:1333])
    assert heard[0].endswith(text[-667:])
    assert f"{len(text) - 2000} of {len(text)} characters are left out" in heard[0]
    assert heard[1] == f"[characters 1333 to 1433 of {len(text)}]\n{text[1333:1433]}"
    history = await run.handle.fetch_history()
    assert sum(event.ByteSize() for event in history.events) < 10_000


async def test_three_megabytes_of_arguments_never_reach_the_history(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.IDEMPOTENT, tier=Tier.REVERSIBLE, scope="x:y")
    async def keep(text: str) -> int:
        """Keep."""
        return len(text)

    desk = await shop(agent([ask("keep", text="x" * 3_000_000), "kept"], keep))
    run = await desk.client.start("tester", "Go", id="large")
    assert (await run.result()).operations[0].result == 3_000_000
    history = await run.handle.fetch_history()
    assert sum(event.ByteSize() for event in history.events) < 6_000


class Verdict(BaseModel):
    score: int
    why: str


async def test_a_typed_answer_is_asked_for_again_until_it_fits(shop: OpenShop) -> None:
    def answer(request: ModelRequest) -> Step:
        assert request.output_schema is not None
        if len(request.messages) == 1:
            return '{"score": "high"}'
        assert "score: Input should be a valid integer" in request.messages[-1].text
        assert "why: Field required" in request.messages[-1].text
        return '{"score": 3, "why": "so"}'

    desk = await shop(agent(answer, output=Verdict))
    result = await desk.client.execute("tester", "Go", id="typed")
    assert (result.status, result.output, result.turns) == (RunStatus.COMPLETED, {"score": 3, "why": "so"}, 2)


def response(stop: Any, *parts: Any) -> ModelResponse:
    return ModelResponse(message=Message(role="assistant", parts=parts), stop_reason=stop)


async def test_every_stop_reason_is_handled(shop: OpenShop) -> None:
    call = ToolCall(id="c1", tool="double", arguments={"n": 1})
    ways: dict[str, tuple[list[Any], RunStatus, str]] = {
        "end": ([response("end_turn", Text(text="a"))], RunStatus.COMPLETED, "a"),
        "stop": ([response("stop_sequence", Text(text="a"))], RunStatus.COMPLETED, "a"),
        "pause": ([response("pause_turn", Text(text="a")), "b"], RunStatus.COMPLETED, "b"),
        "refusal": ([response("refusal", Text(text="no"))], RunStatus.REFUSED, "no"),
        "full": ([response("model_context_window_exceeded", Text(text="a"))], RunStatus.LIMIT_REACHED, "a"),
        "max": ([response("max_tokens", Text(text="a")), "b"], RunStatus.COMPLETED, "b"),
        "max-call": ([response("max_tokens", call), "b"], RunStatus.COMPLETED, "b"),
        "tool": ([response("tool_use", call), "b"], RunStatus.COMPLETED, "b"),
    }
    agents = [agent(steps, double, name=name) for name, (steps, _, _) in ways.items()]
    desk = await shop(*agents)
    ended = {name: await desk.client.execute(name, "Go", id=f"stop-{name}") for name in ways}
    assert {name: (r.status, r.text) for name, r in ended.items()} == {n: (s, t) for n, (_, s, t) in ways.items()}
    assert outcomes(ended["max-call"].operations) == [("double", Outcome.DENIED)]
    assert outcomes(ended["tool"].operations) == [("double", Outcome.SUCCEEDED)]


async def test_the_same_run_id_is_the_same_run_and_never_another(shop: OpenShop) -> None:
    desk = await shop(agent(["first", "second"]))
    first = await desk.client.execute("tester", "Go", id="same", user="ada")
    again = await desk.client.execute("tester", "Go", id="same", user="ada")
    assert first == again
    with pytest.raises(RunIdTaken, match="never reused"):
        await desk.client.start("tester", "Go elsewhere", id="same", user="ada")


async def test_a_run_started_by_any_temporal_client_works_the_same(shop: OpenShop) -> None:
    desk = await shop(agent(["Hello."]))
    handle = await desk.client.temporal.start_workflow(
        "AgentRun", {"agent": "tester", "text": "Hi", "user": "ada"}, id="plain", task_queue=desk.settings.task_queue
    )
    closed = await handle.result()
    assert closed["status"] == "completed"
    assert (await desk.client.run("plain").result()).text == "Hello."
    # The same id after it has closed is refused: its operations' ids would be those of the first run.
    handle = await desk.client.temporal.start_workflow(
        "AgentRun", {"agent": "tester", "text": "Hi", "user": "ada"}, id="plain", task_queue=desk.settings.task_queue
    )
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert "never reused" in str(failure.value.cause)
    assert (await desk.client.run("plain").result()).text == "Hello."


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"agnet": "tester"}, "agent"),
        ("just text", "no run request"),
        ({"agent": "nobody", "text": "Hi"}, "no agent is named 'nobody'; this worker serves: tester"),
        ({"agent": "tester", "text": "Hi", "by_reference": True}, "its text is not in this worker's ledger"),
        ({"agent": "tester", "carried": {"turn": 3, "opened": {"model": "x"}}}, "the ledger has no run"),
    ],
)
async def test_a_faulty_request_fails_visibly_and_at_once(shop: OpenShop, request_: Any, told: str) -> None:
    desk = await shop(agent(["Hello."]))
    run_id = f"faulty-{abs(hash(told))}"
    handle = await desk.client.temporal.start_workflow(
        "AgentRun", request_, id=run_id, task_queue=desk.settings.task_queue
    )
    with pytest.raises(WorkflowFailureError) as failure:
        await asyncio.wait_for(handle.result(), 20)
    assert told in str(failure.value.cause)


async def test_a_model_error_that_no_retry_heals_fails_the_run_with_its_reason(shop: OpenShop) -> None:
    desk = await shop(agent([ask("double", n=1)], double))
    run = await desk.client.start("tester", "Go", id="short")
    with pytest.raises(RunFailed, match="the script has 1 steps, and turn 2 was asked for"):
        await run.result()
    summary = await run.summary()
    assert (summary.status, summary.turns) == (RunStatus.FAILED, 1)


async def test_a_bug_in_the_workflow_fails_the_run_with_its_reason(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: Any) -> None:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(AgentRun, "_must_continue_as_new", bug)
    desk = await shop(agent([ask("double", n=1), "done"], double), sandboxed=False)
    run = await desk.client.start("tester", "Go", id="bug")
    with pytest.raises(RunFailed, match="ZeroDivisionError: a bug of ours"):
        await asyncio.wait_for(run.result(), 20)
    assert (await run.handle.describe()).status is WorkflowExecutionStatus.FAILED


async def test_a_bug_in_one_lane_ends_the_run_after_the_calls_under_way_and_waits_for_nobody(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def send() -> str:
        """Send."""
        begun.set()
        await go.wait()
        return "sent"

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.IRREVERSIBLE, scope="x:y")
    async def pay() -> str:
        """Pay."""
        raise AssertionError

    settle = vars(Calls)["_settle"]

    async def bug(self: Calls, head: Head, call: CallInput, opened: Opened) -> None:
        if head.tool == "double":
            await workflow.wait_condition(lambda: self.may_come_to_wait(head.id))
            raise ZeroDivisionError("a bug of ours")
        await settle(self, head, call, opened)

    monkeypatch.setattr(Calls, "_settle", bug)
    desk = await shop(
        agent([[ask("send"), ask("pay"), ask("double", n=1)], "done"], send, pay, double), sandboxed=False
    )
    run = await desk.client.start("tester", "Go", id="bug-in-a-lane")
    await asyncio.wait_for(begun.wait(), 20)
    await until(lambda: settled(run, 1))
    assert not (await run.summary()).status.closed
    go.set()
    with pytest.raises(RunFailed, match="ZeroDivisionError: a bug of ours"):
        await asyncio.wait_for(run.result(), 20)
    expected = [("send", Outcome.SUCCEEDED), ("pay", Outcome.FAILED), ("double", None)]
    assert outcomes(await run.operations()) == expected


async def test_the_fast_lane_leaves_two_events_a_call(shop: OpenShop) -> None:
    @tool(
        version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y", lane="fast", timeout=timedelta(seconds=2)
    )
    async def quick(n: int) -> int:
        """Be quick."""
        return n

    desk = await shop(agent([ask("quick", n=n) for n in range(5)] + ["done"], quick))
    run = await desk.client.start("tester", "Go", id="fast")
    assert outcomes((await run.result()).operations) == [("quick", Outcome.SUCCEEDED)] * 5
    history = await run.handle.fetch_history()
    types = [event.WhichOneof("attributes") for event in history.events]
    assert types.count("activity_task_scheduled_event_attributes") == 6
    assert types.count("marker_recorded_event_attributes") == 7


async def test_a_run_that_another_ledger_has_is_not_waited_for_in_vain(shop: OpenShop, tmp_path: Path) -> None:
    desk = await shop(agent(["Hello."]))
    run = await desk.client.start("tester", "Hi", id="elsewhere")
    await run.handle.result()
    address, other = desk.client.engine.address, f"sqlite:///{tmp_path / 'other.db'}"
    ledger = Ledger.connect(other)
    await ledger.migrate()
    await ledger.close()
    async with await Client.connect(address, settings=desk.settings, ledger_url=other) as client:
        with pytest.raises(RunIdTaken, match="do HANDFAST_LEDGER_URL and TEMPORAL_ADDRESS belong together"):
            await client.start("tester", "Hi", id="elsewhere")
    again = await desk.client.start("tester", "Hi", id="elsewhere")
    assert (await again.result()).text == "Hello."
