"""Policies over real runs: what the gate makes of calls, before the turn is settled and right before the effect."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from temporalio.api.enums.v1 import EventType

from handfast import (
    Agent,
    Backoff,
    CalledFrom,
    Condition,
    Effect,
    HookWord,
    Lane,
    Outcome,
    Policy,
    ProposedCall,
    Rule,
    Run,
    RunStatus,
    Script,
    Tier,
    ToolError,
    Verdict,
    ask,
    tool,
)
from handfast.contracts.errors import ContractError
from handfast.contracts.messages import ModelRequest
from handfast.contracts.plan import Plan
from handfast.contracts.tool import Tool
from handfast.engine.connect import connect
from handfast.ledger.tables import entries
from handfast.llm.script import Step
from handfast.workers.worker import make_worker
from tests.conftest import OpenShop, outcomes, until
from tests.permission.people import ended, events, person, waiting
from tests.workflow.agents import agent

DENY_PAY = '[[rules]]\nname = "no more payments"\nverdict = "deny"\ntools = ["pay"]\nreason = "the month is closed"\n'
LET_PAY = '[[rules]]\nname = "payments are fine"\nverdict = "run"\ntools = ["pay"]\n'
OPEN = Policy(gates={Tier.IRREVERSIBLE: Verdict.RUN})


def paying(paid: list[Any], tier: Tier = Tier.IRREVERSIBLE, **clauses: Any) -> Tool:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=tier, scope="payments:pay", **clauses)
    async def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return "paid"

    return pay


def told_to(heard: list[Any], steps: list[Any]) -> Any:
    """A script that keeps what the model is told about its calls."""
    left = iter(steps)

    def answer(request: ModelRequest) -> Step:
        heard.extend(result.text for result in request.messages[-1].results)
        step: Step = next(left)
        return step

    return answer


async def test_what_a_rule_decides_is_written_down_with_the_rule(shop: OpenShop) -> None:
    paid: list[int] = []
    heard: list[str] = []
    policy = Policy(
        rules=(
            Rule(name="small", verdict=Verdict.RUN, arguments={"amount": Condition(most=50)}),
            Rule(name="huge", verdict=Verdict.DENY, arguments={"amount": Condition(above=1000)}, reason="ask the bank"),
        )
    )
    steps = [[ask("pay", amount=5), ask("pay", amount=500), ask("pay", amount=5000)], "done"]
    desk = await shop(agent(told_to(heard, steps), paying(paid), policy=policy))
    run = await desk.client.start("tester", "Go", id="rules")
    one = await waiting(run)
    assert one.reason == "tier IRREVERSIBLE"
    await run.decide(one.operation, approve=True)
    result = await ended(run)
    assert outcomes(result.operations) == [("pay", "SUCCEEDED"), ("pay", "SUCCEEDED"), ("pay", "DENIED")]
    assert [operation.reason for operation in result.operations] == [
        "small: amount most 50", "tier IRREVERSIBLE", "huge: ask the bank",
    ]  # fmt: skip
    # In the chain, too, where nobody can change it unseen.
    [first, *_] = await events(desk, run, "turn")
    assert first["rules"] == {
        "0": "small: amount most 50", "1": "tier IRREVERSIBLE", "2": "huge: ask the bank",
    }  # fmt: skip
    assert sorted(paid) == [5, 500]
    assert "this call of pay is not allowed: ask the bank" in heard[2]


async def test_a_gate_adds_nothing_to_the_history_of_a_call_that_may_run(shop: OpenShop) -> None:
    async def story(policy: Policy, installed: str, id_: str) -> tuple[list[str], int]:
        desk = await shop(agent([ask("pay", amount=5), "done"], paying([], Tier.REVERSIBLE), policy=policy))
        if installed:
            await desk.client.set_policy(installed)
        run = await desk.client.start("tester", "Go", id=id_)
        await ended(run)
        history = await desk.client.temporal.get_workflow_handle(run.id).fetch_history()
        return [EventType.Name(event.event_type) for event in history.events], sum(e.ByteSize() for e in history.events)

    plain, size = await story(Policy(), "", "no-policy")
    ruled = Policy(rules=(Rule(name="small", verdict=Verdict.RUN, arguments={"amount": Condition(most=50)}),))
    events_, grown = await story(ruled, LET_PAY, "policies")
    assert (events_, abs(grown - size) < 40) == (plain, True)


@pytest.mark.parametrize("lane", [Lane.STANDARD, Lane.FAST])
async def test_a_policy_that_tightens_reaches_a_call_that_was_free_to_run(shop: OpenShop, lane: Lane) -> None:
    """The first of two holds the second up; meanwhile the policy changes."""
    paid: list[int] = []
    may_go_on = asyncio.Event()
    short = timedelta(seconds=1.9)

    @tool(
        version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="payments:pay", conflict=("account",), lane=lane,
        timeout=short,
    )  # fmt: skip
    async def pay(account: str, amount: int) -> str:
        """Pay."""
        paid.append(amount)
        await may_go_on.wait()
        return "paid"

    heard: list[str] = []
    calls = [ask("pay", account="a", amount=1), ask("pay", account="a", amount=2)]
    desk = await shop(agent(told_to(heard, [calls, "done"]), pay))
    run = await desk.client.start("tester", "Go", id=f"tightened-{lane}")

    async def begun() -> bool:
        return paid == [1]

    await until(begun)
    await desk.client.set_policy(DENY_PAY, by="ada")
    await asyncio.sleep(1.1)
    may_go_on.set()
    result = await ended(run)
    assert (outcomes(result.operations), paid) == ([("pay", "SUCCEEDED"), ("pay", "DENIED")], [1])
    assert result.operations[1].reason == "no more payments: the month is closed"
    assert "the month is closed" in heard[1]


async def test_a_policy_that_tightens_reaches_what_a_person_has_approved(shop: OpenShop) -> None:
    paid: list[int] = []
    desk = await shop(agent([ask("pay", amount=5), "done"], paying(paid)))
    run = await desk.client.start("tester", "Go", id="approved-then-denied")
    one = await waiting(run)
    await run.pause()
    await run.decide(one.operation, approve=True)
    await desk.client.set_policy(DENY_PAY)
    await asyncio.sleep(1.1)
    await run.resume()
    result = await ended(run)
    assert (outcomes(result.operations), paid) == ([("pay", "DENIED")], [])
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_a_policy_that_changes_releases_or_refuses_what_waits_and_tells_nobody_else(shop: OpenShop) -> None:
    paid: list[int] = []
    desk = await shop(agent([ask("pay", amount=5), "done"], paying(paid)))
    run = await desk.client.start("tester", "Go", id="released")
    await waiting(run)
    # Nothing in it is about this call: it goes on waiting.
    await desk.client.set_policy('deny = ["other"]')
    await asyncio.sleep(0.3)
    assert (paid, (await waiting(run)).tool) == ([], "pay")
    await desk.client.set_policy(LET_PAY)
    result = await ended(run)
    assert (outcomes(result.operations), paid) == ([("pay", "SUCCEEDED")], [5])
    assert result.operations[0].reason == "payments are fine"
    assert [entry["rule"] for entry in await events(desk, run, "unheld")] == ["payments are fine"]
    await desk.client.set_policy("")
    await asyncio.sleep(1.1)
    other = await desk.client.start("tester", "Go", id="refused")
    await waiting(other)
    await desk.client.set_policy(DENY_PAY)
    assert outcomes((await ended(other)).operations) == [("pay", "DENIED")]
    assert [(version.number, version.by) for version in await desk.ledger.installation.policy_versions()] == [
        (4, ""), (3, ""), (2, ""), (1, ""),
    ]  # fmt: skip
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_a_privileged_call_and_a_suspected_duplicate_go_on_waiting_whatever_is_loosened(shop: OpenShop) -> None:
    paid: list[int] = []
    twice = paying(paid, Tier.REVERSIBLE, same_intent=("amount",))

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.PRIVILEGED, scope="admin:wipe")
    async def wipe() -> str:
        """Wipe everything."""
        paid.append(-1)
        return "wiped"

    desk = await shop(agent([ask("pay", amount=5), [ask("pay", amount=5), ask("wipe")], "done"], twice, wipe))
    run = await desk.client.start("tester", "Go", id="stays")

    async def both() -> Any:
        return [one.tool for one in (await run.state()).waiting] == ["pay", "wipe"]

    await until(both)
    await desk.client.set_policy('[[rules]]\nname = "everything"\nverdict = "run"\n')
    await asyncio.sleep(0.5)
    assert (paid, await both()) == ([5], True)
    await run.cancel()
    assert (await ended(run)).status is RunStatus.CANCELLED


async def test_a_review_lets_go_what_a_deployment_has_loosened(shop: OpenShop) -> None:
    paid: list[int] = []
    answers = [ask("pay", amount=5), "done"]
    desk = await shop(agent(answers, paying(paid)), serve=False)
    async with desk.another_worker(agent(answers, paying(paid))):
        run = await desk.client.start("tester", "Go", id="deployed")
        await waiting(run)
    async with desk.another_worker(agent(answers, paying(paid), policy=OPEN)):
        assert await desk.client.review() == 1
        assert (outcomes((await ended(run)).operations), paid) == ([("pay", "SUCCEEDED")], [5])


async def test_hooks_change_and_leave_out_calls_and_the_model_is_told(shop: OpenShop) -> None:
    paid: list[int] = []
    heard: list[str] = []

    def at_most_fifty(call: ProposedCall) -> HookWord | None:
        if call.arguments["amount"] > 1000:
            return HookWord(action="skip", reason="not in a test")
        if call.arguments["amount"] > 50:
            return HookWord(action="change", arguments={"amount": 50})
        return None

    steps = [[ask("pay", amount=5), ask("pay", amount=500), ask("pay", amount=5000)], "done"]
    desk = await shop(agent(told_to(heard, steps), paying(paid), policy=OPEN, hooks=[at_most_fifty]))
    run = await desk.client.start("tester", "Go", id="hooks")
    result = await ended(run)
    assert outcomes(result.operations) == [("pay", "SUCCEEDED"), ("pay", "SUCCEEDED"), ("pay", "DENIED")]
    assert sorted(paid) == [5, 50]
    assert [operation.arguments["amount"] for operation in result.operations] == [5, 50, 5000]
    assert heard[0] == "paid"
    assert heard[1] == "paid\n(from the engine) a rule has changed the arguments of this call before it was carried out"
    assert json.loads(heard[2])["message"] == "pay was left out: not in a test"
    # Read back from the ledger by another process, it is the same conversation.
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_a_policy_that_this_worker_can_not_read_lets_nothing_run_by_itself(shop: OpenShop) -> None:
    paid: list[int] = []
    desk = await shop(agent([ask("pay", amount=5), "done"], paying(paid, Tier.REVERSIBLE)))
    with pytest.raises(ContractError, match="Extra inputs"):
        await desk.client.set_policy("from_the_future = 1")
    await desk.ledger.installation.set_policy("from_the_future = 1", "a newer version")
    run = await desk.client.start("tester", "Go", id="future")
    assert ((await waiting(run)).reason, paid) == ("gates.REVERSIBLE", [])
    await desk.client.set_policy("")
    assert (await ended(run)).status is RunStatus.COMPLETED


async def test_a_worker_for_one_tool_alone_goes_by_the_installations_policy(shop: OpenShop) -> None:
    """It has no agent of the run: what the gate has said stands, and may only become stricter."""
    paid: list[int] = []
    pay = paying(paid, queue="bank")
    desk = await shop(agent([ask("pay", amount=5), ask("pay", amount=6), "done"], pay, policy=OPEN))
    bank = await shop(agent(["unused"], pay, name="bank"), serve=False)
    bank.boundary.registry.agents.clear()
    bank.boundary.registry.tools.update(desk.boundary.registry.tools)
    temporal, _ = await connect(desk.settings, desk.client.engine.address)
    run: Run
    async with make_worker(temporal, bank.boundary, desk.settings, task_queue="bank"):
        run = await desk.client.start("tester", "Go", id="bank")
        result = await ended(run)
    assert (outcomes(result.operations), paid) == ([("pay", "SUCCEEDED"), ("pay", "SUCCEEDED")], [5, 6])


async def test_a_step_of_a_plan_is_judged_as_a_call_of_a_model(shop: OpenShop) -> None:
    paid: list[int] = []
    policy = Policy(rules=(Rule(name="cap", verdict=Verdict.DENY, arguments={"amount": Condition(above=50)}),))
    both = Policy(gates=OPEN.gates, rules=policy.rules)
    desk = await shop(agent(["unused"], paying(paid), policy=both))
    steps: dict[str, Any] = {
        "one": {"tool": "pay", "with": {"amount": 5}, "stands": True},
        "two": {"tool": "pay", "with": {"amount": 51}, "depends_on": ["one"], "stands": True},
    }
    plan = Plan.model_validate({"name": "p", "agent": "tester", "steps": steps})
    run = await desk.client.start_plan(plan, {}, id="plan-judged")
    with pytest.raises(Exception, match="ended as DENIED"):
        await ended(run)
    operations = await run.operations()
    assert (outcomes(operations), paid) == ([("pay", "SUCCEEDED"), ("pay", "DENIED")], [5])
    assert operations[1].reason == "cap: amount above 50"


async def test_who_is_blocked_is_refused_from_the_next_call_on(shop: OpenShop) -> None:
    paid: list[int] = []
    pay = paying(paid, Tier.REVERSIBLE)

    async def block(number: int) -> None:
        if number == 1:
            await desk.client.set_policy('[blocked]\nusers = ["acme/mallory"]')

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="time:read")
    async def wait() -> str:
        """Wait."""
        await block(1)
        await asyncio.sleep(1.1)
        return "later"

    desk = await shop(agent([ask("pay", amount=1), ask("wait"), ask("pay", amount=2), "done"], pay, wait))
    run = await desk.client.start("tester", "Go", id="blocked", user="mallory", tenant="acme")
    result = await ended(run)
    assert (outcomes(result.operations)[-1], paid) == (("pay", Outcome.DENIED), [1])
    assert result.operations[-1].reason == "blocked.users: user 'mallory' is blocked"
    await person(desk, "unused")


@pytest.mark.parametrize("blocks", ['addresses = ["203.0.113.0/24"]', 'sessions = ["stolen"]'])
async def test_a_blocked_address_or_session_stops_runs_that_were_asked_for_from_there(
    shop: OpenShop, blocks: str
) -> None:
    paid: list[int] = []
    pay = paying(paid, Tier.REVERSIBLE)

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="time:read")
    async def wait() -> str:
        """Wait until the policy holds."""
        await desk.client.set_policy(f"[blocked]\n{blocks}")
        await desk.boundary.permission.policies(fresh=True)
        return "later"

    clerk = agent([ask("pay", amount=1), ask("wait"), ask("pay", amount=2), "done"], pay, wait)
    head = Agent(
        name="head",
        instructions="Head.",
        model=Script([ask("tester", request="Go"), "Done."]),
        tools=[clerk.as_tool(description="Ask the clerk")],
    )
    desk = await shop(head, clerk)
    run = await desk.client.start(
        "head", "Go", id=f"from-{blocks[:4]}", called_from=CalledFrom(address="203.0.113.9", session="stolen")
    )
    await ended(run)
    [asked] = await run.operations()
    below = desk.client.run(asked.child)
    operations = await below.operations()
    assert (outcomes(operations)[-1], paid) == (("pay", Outcome.DENIED), [1])
    assert operations[-1].reason == f"blocked.{blocks.split()[0]}: " + (
        "calls from the caller's address are blocked" if "addresses" in blocks else "the caller's session is blocked"
    )
    assert (await below.summary()).called_from.address == "203.0.113.9"
    for one in (run, below):
        assert "203.0.113.9" not in json.dumps((await one.handle.fetch_history()).to_json_dict())
        assert (await desk.ledger.verify(one.id)).faults == ()
    await desk.ledger.erase(run.id)
    assert (await below.summary()).called_from == CalledFrom()
    kept = await desk.ledger.database.read(lambda connection: connection.execute(select(entries)).all())
    assert "203.0.113.9" not in str(kept)
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_the_version_of_the_policy_that_decided_is_written_down_with_the_rule(shop: OpenShop) -> None:
    """When the turn is settled, when a call is held right before its effect, and when it is released."""
    paid: list[int] = []
    cap = '[[rules]]\nname = "cap"\nverdict = "ask"\narguments = {{ amount = {{ above = {} }} }}\n'
    pay = paying(paid, Tier.REVERSIBLE, conflict=("amount",))

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope=pay.scope, conflict=("amount",))
    async def tighten(amount: int) -> str:
        """Tighten the policy, before the call that comes after it."""
        await desk.client.set_policy(cap.format(5))
        await desk.boundary.permission.policies(fresh=True)
        return "later"

    steps = [ask("pay", amount=1), [ask("tighten", amount=7), ask("pay", amount=7)], "done"]
    desk = await shop(agent(steps, pay, tighten))
    await desk.client.set_policy(cap.format(100))
    await desk.boundary.permission.policies(fresh=True)
    run = await desk.client.start("tester", "Go", id="policy-version")
    await waiting(run)
    await desk.client.set_policy(cap.format(50))
    await ended(run)
    turns = [one.get("policy") for one in await events(desk, run, "turn")]
    [held] = await events(desk, run, "held")
    [unheld] = await events(desk, run, "unheld")
    assert (turns, held["policy"], held["rule"]) == ([1, 1, None], 2, "cap: amount above 5")
    assert (unheld["policy"], paid) == (3, [1, 7])
    audit = await desk.client.audit(datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC))
    assert {(one.tool, one.policy) for one in audit.decisions if one.tool == "pay"} == {("pay", 1)}


async def test_who_edits_where_a_run_was_asked_for_from_is_found_out(shop: OpenShop) -> None:
    desk = await shop(agent(["done"], paying([], Tier.REVERSIBLE)))
    run = await desk.client.start("tester", "Go", id="from-edited", called_from=CalledFrom(session="stolen"))
    await ended(run)
    await desk.ledger.database.write(lambda connection: connection.execute(text("UPDATE runs SET called_from = ''")))
    assert "where it was asked for from" in (await desk.ledger.verify(run.id)).faults[0]


async def test_a_call_that_is_held_released_and_held_again_still_finds_people(shop: OpenShop) -> None:
    """Each time it waits in the ledger, too, so that somebody can decide."""
    paid: list[int] = []
    desk = await shop(agent([ask("pay", amount=5), "done"], paying(paid)))
    run = await desk.client.start("tester", "Go", id="back-and-forth")
    one = await waiting(run)
    await run.pause()
    for number in (1, 2):
        await desk.client.set_policy(LET_PAY)
        await until(lambda: _is(run, "asked"))
        await desk.client.set_policy(LET_PAY.replace('"run"', '"ask"'))
        await asyncio.sleep(1.1)
        await run.resume()
        await until(lambda: _is(run, "waiting"))
        assert len(await events(desk, run, "held")) == number
        await run.pause()
    await run.resume()
    await run.decide(one.operation, approve=True)
    assert (outcomes((await ended(run)).operations), paid) == ([("pay", "SUCCEEDED")], [5])
    assert (await desk.ledger.verify(run.id)).faults == ()


async def _is(run: Run, state: str) -> bool:
    [operation] = await run.operations()
    waits = bool((await run.state()).waiting)
    return operation.state == state and waits is (state == "waiting")


LIMIT = '[[limits]]\nname = "a few"\ncount = 2\nper = "1h"\neach = "{each}"\nthen = "{then}"\ntools = ["pay"]\n'


@pytest.mark.parametrize("then", ["deny", "ask"])
async def test_a_limit_holds_over_runs_and_workers_and_says_what_comes_then(shop: OpenShop, then: str) -> None:
    paid: list[int] = []
    heard: list[str] = []
    calls = [ask("pay", amount=1), ask("pay", amount=2)]
    pay = paying(paid, Tier.REVERSIBLE)
    tester = agent(told_to(heard, [calls, "done"] * 3), pay)
    desk = await shop(tester)
    await desk.client.set_policy(LIMIT.format(each="user", then=then))
    async with desk.another_worker(tester):
        first = await desk.client.start("tester", "Go", id=f"limit-{then}-1", user="uma", tenant="acme")
        await ended(first)
        # Another user's calls are counted apart.
        other = await desk.client.start("tester", "Go", id=f"limit-{then}-other", user="uma", tenant="beta")
        await ended(other)
        second = await desk.client.start("tester", "Go", id=f"limit-{then}-2", user="uma", tenant="acme")
        if then == "ask":

            async def both() -> Any:
                found = (await second.state()).waiting
                return found if len(found) == 2 else None

            one, two = await until(both)
            assert (await second.operations())[0].reason == "limit a few: 2 calls in 1:00:00 for each user"
            # No policy releases it, a person does.
            await desk.client.review()
            await asyncio.sleep(0.3)
            assert len((await second.state()).waiting) == 2
            await second.decide(one.operation, approve=True)
            await second.decide(two.operation, approve=False)
        result = await ended(second)
    expected = ["DENIED", "DENIED"] if then == "deny" else ["DENIED", "SUCCEEDED"]
    assert sorted(str(operation.outcome) for operation in result.operations) == expected
    assert len(paid) == (4 if then == "deny" else 5)
    if then == "deny":
        assert any("limit a few: 2 calls in 1:00:00 for each user" in text for text in heard)
    assert (await desk.ledger.verify(second.id)).faults == ()


async def test_a_limit_may_let_calls_wait_and_counts_reads_and_no_retries(shop: OpenShop) -> None:
    tries: list[float] = []

    @tool(
        version="1.0.0",
        effect=Effect.READ,
        tier=Tier.READ_ONLY,
        scope="x:read",
        backoff=Backoff(base=timedelta(milliseconds=50)),
    )
    async def look() -> str:
        """Look."""
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise ToolError("not now", retryable=True)
        return "seen"

    desk = await shop(agent([ask("look"), ask("look"), ask("look"), "done"], look))
    limit = '[[limits]]\nname = "slowly"\ncount = 2\nper = "1500ms"\nthen = "wait"\nscopes = ["x:*"]\n'
    await desk.client.set_policy(limit)
    run = await desk.client.start("tester", "Go", id="slowly")
    result = await ended(run)
    assert outcomes(result.operations) == [("look", "SUCCEEDED")] * 3
    assert len(tries) == 4
    assert tries[3] - tries[0] >= 1.4
