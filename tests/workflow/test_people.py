"""Calls that wait for a person: approval, rejection, suspected duplicates, rules."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from handfast import (
    Condition,
    DecisionRefused,
    Effect,
    HookWord,
    Outcome,
    Policy,
    ProposedCall,
    Rule,
    RunStatus,
    Tier,
    ToolContext,
    Verdict,
    ask,
    tool,
)  # fmt: skip
from handfast.contracts.errors import RunError
from handfast.contracts.messages import ModelRequest
from handfast.contracts.wire import RunClosed
from handfast.contracts.wire_words import Resolution
from handfast.llm.script import Step
from tests.conftest import OpenShop, outcomes, until
from tests.workflow.agents import ROOMY, agent, reset, settled


async def _waiting(run: Any) -> Any:
    return (await run.state()).waiting


async def test_work_time_ends_the_run_and_waiting_for_people_does_not_count(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
    async def think_hard() -> str:
        """Take a while."""
        await asyncio.sleep(0.4)
        return "hm"

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="x:y")
    async def act() -> str:
        """Act."""
        return "acted"

    steps = [ask("act"), ask("think_hard"), "answer", "more", "more"]
    limits = ROOMY.model_copy(update={"wall_time": timedelta(seconds=1.2)})
    desk = await shop(agent(steps, think_hard, act, limits=limits))
    run = await desk.client.start("tester", "Go", id="patient")
    waiting = await until(lambda: _waiting(run))
    await asyncio.sleep(1.5)  # longer than the limit: a person takes their time
    await run.decide(waiting[0].operation, approve=True)
    result = await run.result()
    assert result.status is RunStatus.COMPLETED

    steps = [ask("think_hard"), ask("think_hard"), ask("think_hard"), ask("think_hard"), "answer"]
    desk = await shop(agent(steps, think_hard, limits=limits))
    result = await desk.client.execute("tester", "Go", id="impatient")
    assert (result.status, result.limit) == (RunStatus.LIMIT_REACHED, "wall_time")


async def test_approval_is_bound_to_the_digest_and_counts_once(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="x:y")
    async def act(n: int) -> str:
        """Act."""
        return f"acted {n}"

    desk = await shop(agent([ask("act", n=7), "done"], act))
    run = await desk.client.start("tester", "Go", id="approve")
    [waiting] = await until(lambda: _waiting(run))
    [operation] = await run.operations()
    assert (operation.state, operation.arguments) == ("waiting", {"n": 7})
    with pytest.raises(DecisionRefused, match="digest"):
        await run.decide(waiting.operation, approve=True, digest="0" * 32)
    with pytest.raises(DecisionRefused, match="does not wait"):
        await run.decide("no-such-operation", approve=True, digest=waiting.digest)
    with pytest.raises(DecisionRefused, match="does not wait for a resolution"):
        await run.resolve(waiting.operation, happened=True)
    both = await asyncio.gather(
        run.decide(waiting.operation, approve=True, by="ada"),
        run.decide(waiting.operation, approve=False, by="eve"),
        return_exceptions=True,
    )
    assert sorted(type(word).__name__ for word in both) == ["DecisionRefused", "NoneType"]
    result = await run.result()
    decided = [e for e in await desk.ledger.read_events("approve") if e.kind == "decided"]
    assert len(decided) == 1
    assert result.operations[0].outcome is (Outcome.SUCCEEDED if decided[0].data["approve"] else Outcome.DENIED)


async def test_a_rejection_tells_the_model_why_and_the_run_goes_on(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="x:y")
    async def act() -> str:
        """Act."""
        raise AssertionError

    heard: list[dict[str, Any]] = []

    def answer(request: ModelRequest) -> Step:
        heard.extend(json.loads(r.text) for r in request.messages[-1].results)
        return "as you wish" if heard else ask("act")

    desk = await shop(agent(answer, act))
    run = await desk.client.start("tester", "Go", id="reject")
    [waiting] = await until(lambda: _waiting(run))
    await run.decide(waiting.operation, approve=False, by="ada", reason="too expensive")
    result = await run.result()
    assert (result.status, result.text) == (RunStatus.COMPLETED, "as you wish")
    assert heard == [
        {
            "code": "denied",
            "message": "a person rejected this call: too expensive",
            "hint": "do not ask for it again; go on without it, or tell the user",
            "operation": waiting.operation,
        }
    ]


async def test_the_reworded_retry_of_one_intention_waits_for_a_person(shop: OpenShop) -> None:
    paid: list[int] = []

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y", same_intent=("invoice",))
    async def pay(invoice: str, amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return "paid"

    steps = [
        ask("pay", invoice="i1", amount=10),
        [ask("pay", invoice="i1", amount=11), ask("pay", invoice="i2", amount=5)],
        "ok",
    ]
    desk = await shop(agent(steps, pay))
    run = await desk.client.start("tester", "Go", id="intent")
    [waiting] = await until(lambda: _waiting(run))
    assert waiting.reason == "duplicate_suspected: an earlier call of this run has the same invoice"
    await until(lambda: settled(run, 2))
    assert sorted(paid) == [5, 10]
    await run.decide(waiting.operation, approve=True)
    await run.result()
    assert sorted(paid) == [5, 10, 11]


async def test_two_intended_identical_payments_are_two_effects(shop: OpenShop) -> None:
    keys: list[str] = []

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y")
    async def pay(amount: int, ctx: ToolContext) -> str:
        """Pay."""
        keys.append(ctx.operation_id)
        return "paid"

    desk = await shop(agent([[ask("pay", amount=5), ask("pay", amount=5)], "ok"], pay))
    await desk.client.execute("tester", "Go", id="twice")
    assert len(set(keys)) == len(keys) == 2


async def test_a_rule_may_let_small_calls_run_and_large_ones_wait(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="x:y")
    async def pay(amount: int) -> str:
        """Pay."""
        return "paid"

    small = agent([[ask("pay", amount=5), ask("pay", amount=500)], "ok"], pay, policy=SMALL)
    desk = await shop(small)
    run = await desk.client.start("tester", "Go", id="rule")
    [waiting] = await until(lambda: _waiting(run))
    operations = await until(lambda: _all_but_one(run))
    assert {o.arguments["amount"]: o.state for o in operations} == {5: "settled", 500: "waiting"}
    await run.decide(waiting.operation, approve=True)
    assert (await run.result()).status is RunStatus.COMPLETED


@pytest.mark.parametrize("approve", [True, False])
async def test_a_rule_that_tightened_since_the_turn_holds_the_call_for_a_person(shop: OpenShop, approve: bool) -> None:
    judged: list[str] = []
    done: list[str] = []

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="x:y")
    async def act() -> str:
        """Act."""
        done.append("acted")
        return "acted"

    def only_the_first_time(call: ProposedCall) -> HookWord | None:
        judged.append(call.tool)
        return None if len(judged) == 1 else HookWord(action="ask", reason="once is enough")

    desk = await shop(agent([ask("act"), "done"], act, policy=OPEN, hooks=[only_the_first_time]))
    run = await desk.client.start("tester", "Go", id=f"tightened-{approve}")
    [waiting] = await until(lambda: _waiting(run))
    assert ([one.run_id for one in await desk.client.runs(waiting=True)], done) == ([run.id], [])
    await run.decide(waiting.operation, approve=approve, by="ada")
    result = await run.result()
    assert result.status is RunStatus.COMPLETED
    assert outcomes(result.operations) == [("act", Outcome.SUCCEEDED if approve else Outcome.DENIED)]
    assert (done, (await desk.ledger.verify(run.id)).faults) == (["acted"] if approve else [], ())


OPEN = Policy(gates={Tier.IRREVERSIBLE: Verdict.RUN})
SMALL = Policy(rules=(Rule(name="small", verdict=Verdict.RUN, arguments={"amount": Condition(below=50)}),))


async def _all_but_one(run: Any) -> Any:
    operations = await run.operations()
    return operations if sum(o.state == "settled" for o in operations) == len(operations) - 1 else None


@pytest.mark.parametrize(
    ("activities", "forgotten", "asked_again"),
    [(0, False, False), (0, True, False), (1, False, False), (1, True, True)],
    ids=["before the turn", "before the turn, words forgotten", "before the decision", "the decision forgotten"],
)
async def test_a_reset_can_not_undo_what_was_decided_and_done_before(
    shop: OpenShop, activities: int, forgotten: bool, asked_again: bool
) -> None:
    paid: list[int] = []

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.IRREVERSIBLE, scope="x:y")
    async def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return "paid"

    desk = await shop(agent([ask("pay", amount=5), "done"], pay))
    run = await desk.client.start("tester", "Go", id=f"reset-decided-{activities}-{forgotten}")
    [waiting] = await until(lambda: _waiting(run))
    await run.decide(waiting.operation, approve=True, by="ada")
    first = await run.result()
    again = await reset(desk.client, run.id, activities, forget_updates=forgotten)
    if asked_again:
        [waiting] = await until(lambda: _waiting(run))
        with pytest.raises(DecisionRefused, match="was already decided by 'ada'"):
            await run.decide(waiting.operation, approve=False, by="bob")
    closed = RunClosed.model_validate(await asyncio.wait_for(again.result(), 30))
    assert (closed.status, paid, await run.result()) == (RunStatus.COMPLETED, [5], first)
    assert outcomes(first.operations) == [("pay", Outcome.SUCCEEDED)]
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_a_call_behind_another_one_can_be_decided_before_its_turn_comes(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="x:y", conflict=("account",))
    async def pay(account: str, amount: int) -> str:
        """Pay."""
        return "paid"

    desk = await shop(agent([[ask("pay", account="a", amount=n) for n in (1, 2, 3)], "done"], pay))
    run = await desk.client.start("tester", "Go", id="ahead")
    [waiting] = await until(lambda: _waiting(run))
    one, two, three = await run.operations()
    assert (waiting.operation, {o.state for o in (one, two, three)}) == (one.operation_id, {"waiting"})
    await run.decide(three.operation_id, approve=True)
    await run.decide(two.operation_id, approve=False)
    with pytest.raises(DecisionRefused, match="already decided"):
        await run.decide(three.operation_id, approve=False)
    await run.decide(one.operation_id, approve=True)
    with pytest.raises(DecisionRefused, match="already decided"):
        await run.decide(one.operation_id, approve=True)
    denied, paid = Outcome.DENIED, Outcome.SUCCEEDED
    assert outcomes((await run.result()).operations) == [("pay", paid), ("pay", denied), ("pay", paid)]


async def test_a_word_on_a_call_that_comes_to_need_none_is_refused_when_that_is_known(shop: OpenShop) -> None:
    """While the model answers or a call runs, the ledger may know more than the workflow; a word waits until it does, too."""
    begun, go = asyncio.Event(), asyncio.Event()

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y")
    async def act() -> str:
        """Act."""
        begun.set()
        await go.wait()
        return "acted"

    desk = await shop(agent([ask("act"), "done"], act))
    run = await desk.client.start("tester", "Go", id="no-word-needed")
    await asyncio.wait_for(begun.wait(), 20)
    [operation] = await run.operations()
    words = [
        asyncio.create_task(run.decide(operation.operation_id, approve=True)),
        asyncio.create_task(run.resolve(operation.operation_id, happened=True)),
    ]
    await asyncio.wait(words, timeout=0.5)
    assert not any(word.done() for word in words)
    go.set()
    refused = await asyncio.gather(*words, return_exceptions=True)
    assert [type(word) for word in refused] == [DecisionRefused, DecisionRefused]
    assert ["does not wait for a decision" in str(refused[0]), "a resolution" in str(refused[1])] == [True, True]
    assert outcomes((await run.result()).operations) == [("act", Outcome.SUCCEEDED)]


async def test_words_that_temporal_would_not_carry_are_refused_before_anything_is_decided(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="x:y")
    async def act() -> str:
        """Act."""
        return "acted"

    desk = await shop(agent([ask("act"), "done"], act))
    with pytest.raises(RunError, match="user of 3000000 characters: allowed are 255"):
        await desk.client.start("tester", "Go", user="u" * 3_000_000, id="long-user")
    run = await desk.client.start("tester", "Go", id="long-words")
    [waiting] = await until(lambda: _waiting(run))
    too_long: tuple[dict[str, Any], ...] = ({"reason": "r" * 3_000_000}, {"by": "b" * 3_000_000})
    for words in too_long:
        with pytest.raises(DecisionRefused, match="characters: allowed are 2000"):
            await run.decide(waiting.operation, approve=False, **words)
    with pytest.raises(DecisionRefused, match="nothing in it to say"):
        await run.say(" ")
    await run.decide(waiting.operation, approve=True)
    assert outcomes((await run.result()).operations) == [("act", Outcome.SUCCEEDED)]
    assert [event for event in await desk.ledger.read_events(run.id) if event.kind == "said"] == []


async def test_a_word_that_only_the_ledger_has_is_said_again_and_counts_once(shop: OpenShop) -> None:
    """The worker died after it wrote the word down, and Temporal has forgotten who said it."""

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
    async def send() -> str:
        """Send."""
        raise ConnectionError("the line went dead")

    desk = await shop(agent([ask("send"), "done"], send))
    run = await desk.client.start("tester", "Go", id="said-again")

    async def waits() -> bool:
        return [waiting.unknown for waiting in (await run.state()).waiting] == [True]

    await until(waits)
    [operation] = await run.operations()
    word = Resolution(operation=operation.operation_id, happened=True, by="ada")
    await desk.ledger.record_resolution(run.id, word)
    await run.resolve(operation.operation_id, happened=True, by="ada")
    assert (await run.result()).text == "done"
    assert [event.kind for event in await desk.ledger.read_events(run.id)].count("resolved") == 1
