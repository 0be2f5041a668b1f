"""Budgets that all runs share: held back before a model is asked, counted when it has answered, never overshot."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from handfast import Agent, Effect, Lane, Limits, Policy, Run, RunStatus, Script, Tier, ask, tool
from handfast.contracts.errors import ContractError, ErrorCode, ModelError
from handfast.contracts.messages import Message, ModelRequest, ModelResponse, Text, Usage
from handfast.contracts.policy import Caller, parse_policy
from handfast.contracts.policy.budgets import Allowance, Spending, allowances
from handfast.contracts.price import Price
from handfast.ledger import Ledger
from handfast.ledger.budgets import hold, list_budgets, settle
from handfast.ledger.entries import now_ms
from tests.conftest import OpenShop, Shop, new_database, outcomes
from tests.permission.people import ended, waiting
from tests.workflow.agents import ROOMY, agent, double

MINUTE = 60_000


def limit(name: str = "day", **most: int) -> Allowance:
    fields: dict[str, Any] = {
        "turns": None,
        "tokens": None,
        "cost_micros": None,
        "calls": None,
        "work_ms": None,
        **most,
    }
    return Allowance(key=f"{name}/key", name=name, ends_at=now_ms() + MINUTE, **fields)


def tokens(number: int) -> Spending:
    return Spending(turns=1, tokens=number)


async def used(desk: Shop) -> dict[str, Spending]:
    """What was used of each budget, by its name and who."""
    return {
        f"{name.split('/')[0]} {name.split('/')[-1]}".strip(): spent
        for name, spent, _, _ in await desk.ledger.installation.list_budgets()
    }


async def test_what_is_held_back_is_not_there_for_others_until_it_is_settled(ledger: Ledger) -> None:
    day = limit(tokens=1000)
    first = await ledger.write(hold, "a/1", 1, [day], tokens(600), MINUTE)
    assert (first.exhausted, first.busy, first.near) == ("", "", "day"), "another one like it would not fit"
    second = await ledger.write(hold, "b/1", 1, [day], tokens(600), MINUTE)
    assert (second.exhausted, second.busy) == ("", "day")
    await ledger.write(settle, [day.key], "a/1", tokens(100))
    third = await ledger.write(hold, "b/1", 1, [day], tokens(600), MINUTE)
    assert (third.exhausted, third.busy) == ("", "")
    await ledger.write(settle, [day.key], "b/1", tokens(600))
    fourth = await ledger.write(hold, "c/1", 1, [day], tokens(600), MINUTE)
    assert fourth.exhausted == "day"
    [(key, spent, held, _)] = await ledger.read(list_budgets)
    assert (key, spent, held) == (day.key, Spending(turns=2, tokens=700), Spending())


async def test_of_several_budgets_all_or_nothing_is_held(ledger: Ledger) -> None:
    wide, narrow = limit("wide", tokens=10_000), limit("narrow", turns=1)
    assert not (await ledger.write(hold, "a/1", 1, [wide, narrow], tokens(100), MINUTE)).busy
    assert (await ledger.write(hold, "b/1", 1, [wide, narrow], tokens(100), MINUTE)).busy == "narrow"
    found = {key: held for key, _, held, _ in await ledger.read(list_budgets)}
    assert found == {wide.key: tokens(100), narrow.key: tokens(100)}


async def test_a_call_that_was_not_made_uses_nothing_and_one_that_may_have_been_does(ledger: Ledger) -> None:
    day = limit(tokens=1000)
    await ledger.write(hold, "a/1", 1, [day], tokens(300), MINUTE)
    await ledger.write(settle, [day.key], "a/1", None)
    await ledger.write(hold, "a/1", 1, [day], tokens(300), MINUTE)
    await ledger.write(hold, "a/1", 2, [day], tokens(300), MINUTE)
    await ledger.write(hold, "b/1", 1, [day], tokens(100), -1)
    await ledger.write(hold, "c/1", 1, [day], tokens(100), MINUTE)
    [(_, spent, held, _)] = await ledger.read(list_budgets)
    assert spent == Spending(turns=2, tokens=400), "an attempt that died, and a hold that nobody settled in time"
    assert held == Spending(turns=2, tokens=400)


async def test_many_at_once_hold_back_no_more_than_there_is(ledger: Ledger) -> None:
    day = limit(turns=7)

    async def one(number: int) -> bool:
        held = await ledger.write(hold, f"{number}/1", 1, [day], Spending(turns=1), MINUTE)
        return not (held.busy or held.exhausted)

    assert sum(await asyncio.gather(*(one(number) for number in range(30)))) == 7


def test_spans_follow_each_other_and_each_of_whom_a_budget_is_about_has_one() -> None:
    policy = parse_policy(
        """
        [[budgets]]
        name = "a day of one"
        per = "24h"
        each = "user"
        users = ["acme/*"]
        cost_usd = 1.5
        """
    )
    day = 24 * 3600 * 1000
    caller = Caller(agent="a", user="ada", tenant="acme")
    [first] = allowances([policy], caller, 10 * day + 5)
    [same] = allowances([policy], caller, 11 * day - 1)
    [next_day] = allowances([policy], caller, 11 * day)
    [other] = allowances([policy], Caller(agent="a", user="bob", tenant="acme"), 10 * day + 5)
    assert first == same
    assert (first.cost_micros, first.ends_at) == (1_500_000, 11 * day)
    assert len({first.key, next_day.key, other.key}) == 3
    assert not list(allowances([policy], Caller(agent="a", user="ada", tenant="other"), 0))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[[budgets]]\nname = "x"\nper = "24h"', "it limits nothing"),
        ('[[budgets]]\nname = "x"\nper = "1s"\ntokens = 1', "at least 1min"),
        (
            '[[budgets]]\nname = "x"\nper = "1h"\ntokens = 1\n[[budgets]]\nname = "x"\nper = "1h"\nturns = 1',
            "two budgets",
        ),
    ],
)
def test_a_budget_that_says_nothing_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ContractError, match=fault):
        parse_policy(text)


async def test_runs_of_a_user_end_when_their_day_is_used_up_and_others_go_on(shop: OpenShop) -> None:
    asked: list[str] = []

    def answer(request: ModelRequest) -> Any:
        asked.append(request.messages[-1].text)
        return "done" if not request.may_call_tools or len(request.messages) > 1 else ask("double", n=1)

    policy = parse_policy('[[budgets]]\nname = "a day of one"\nper = "24h"\neach = "user"\nturns = 3\n')
    desk = await shop(agent(answer, double, policy=policy))

    async def one(user: str, number: int) -> Any:
        run = await desk.client.start("tester", f"Go {number}", user=user, id=f"budget-{user}-{number}")
        return await ended(run)

    first = await one("ada", 1)
    assert first.status is RunStatus.COMPLETED
    second = await one("ada", 2)
    assert (second.status, second.limit, second.text) == (RunStatus.LIMIT_REACHED, "budget a day of one", "done")
    assert "has nearly used up its limit of budget a day of one" in asked[-1], "the last one is asked for an answer"
    third = await one("ada", 3)
    assert (third.status, third.limit, third.text) == (RunStatus.LIMIT_REACHED, "budget a day of one", "")
    assert len(asked) == 3
    assert (await one("bob", 1)).status is RunStatus.COMPLETED
    spent = await used(desk)
    assert {who: one.turns for who, one in spent.items()} == {"a day of one ada": 3, "a day of one bob": 2}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_hundred_runs_at_once_do_not_overshoot(
    shop: OpenShop, database: str, request: pytest.FixtureRequest
) -> None:
    """Each answer uses just what was held back for it at most: the budget is met to the token."""
    url = new_database(request.getfixturevalue("postgres")) if database == "postgresql" else ""
    asked: list[int] = []

    async def slow(_: ModelRequest) -> ModelResponse:
        asked.append(1)
        await asyncio.sleep(0.02)
        usage = Usage(input_tokens=50, output_tokens=100)
        return ModelResponse(
            message=Message(role="assistant", parts=(Text(text="done"),)), stop_reason="end_turn", usage=usage
        )

    class Slow(Script):
        async def respond(self, request: ModelRequest) -> ModelResponse:
            return await slow(request)

    policy = parse_policy('[[budgets]]\nname = "hour"\nper = "7d"\ntokens = 5000\n')
    one = Agent(
        name="tester",
        model=Slow(["done"], lane=Lane.STANDARD),
        instructions="Test.",
        policy=policy,
        limits=ROOMY,
        max_output_tokens=100,
    )
    desk = await shop(one, ledger_url=url)
    runs = await asyncio.gather(
        *(desk.client.start("tester", "Go", id=f"hundred-{database}-{number}") for number in range(100))
    )
    results = await asyncio.gather(*(asyncio.wait_for(run.result(), 60) for run in runs))
    spent = (await used(desk))["hour"]
    assert 150 * len(asked) <= spent.tokens <= 5000
    assert len(asked) >= 25, "and what there is, is used"
    assert {result.status for result in results} == {RunStatus.COMPLETED, RunStatus.LIMIT_REACHED}
    assert all(result.limit in {"", "budget hour"} for result in results)


async def test_a_model_that_fails_uses_nothing(shop: OpenShop) -> None:
    tries: list[int] = []

    class Shaky(Script):
        async def respond(self, request: ModelRequest) -> ModelResponse:
            tries.append(1)
            if len(tries) < 3:
                raise ModelError("overloaded", ErrorCode.RATE_LIMITED, retry_after=0.05)
            return await super().respond(request)

    policy = parse_policy('[[budgets]]\nname = "hour"\nper = "7d"\nturns = 100\n')
    desk = await shop(Agent(name="tester", model=Shaky(["done"]), instructions="Test.", policy=policy, limits=ROOMY))
    await ended(await desk.client.start("tester", "Go", id="budget-shaky"))
    assert len(tries) == 3
    assert (await used(desk))["hour"].turns == 1


async def test_a_whole_family_uses_one_budget_and_what_was_done_is_undone_if_the_agent_says_so(shop: OpenShop) -> None:
    done: list[str] = []

    async def take_back(args: Any, result: str | None, ctx: Any) -> None:
        done.append("undone")

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="seats:book", compensate=take_back)
    async def book(seat: str) -> str:
        """Book a seat."""
        done.append(seat)
        return "booked"

    child = agent([ask("double", n=1), ask("double", n=2), "done"], double, name="child")
    boss = agent(
        [ask("book", seat="4A"), ask("child", request="go"), ask("child", request="once more"), "done"],
        book,
        child.as_tool(description="Ask it"),
        name="boss",
    )
    desk = await shop(boss)
    await desk.client.set_policy('[[budgets]]\nname = "week"\nper = "7d"\neach = "tenant"\nturns = 7\n', by="ann")
    await desk.boundary.permission.policies(fresh=True)
    run: Run = await desk.client.start("boss", "Go", id="budget-family", tenant="acme")
    result = await ended(run)
    assert (result.status, result.limit) == (RunStatus.LIMIT_REACHED, "budget week")
    assert done == ["4A", "undone"]
    assert (await used(desk))["week acme"].turns == 7


async def test_money_is_counted_in_what_the_model_costs(shop: OpenShop) -> None:
    policy = Policy.model_validate({"budgets": [{"name": "money", "per": "7d", "cost_usd": 0.02}]})
    priced = Agent(
        name="tester",
        model=Script([ask("double", n=1)] * 50, price=Price(input=Decimal(100), output=Decimal(100))),
        instructions="Test.",
        tools=[double],
        policy=policy,
        limits=Limits(turns=100, calls=100, tokens=10**7, cost_usd=100),
        max_output_tokens=20,
    )
    desk = await shop(priced)
    result = await ended(await desk.client.start("tester", "Go", id="budget-money"))
    spent = (await used(desk))["money"]
    assert result.limit == "budget money"
    assert 0 < spent.cost_micros <= 20_000
    assert spent.cost_micros == round(result.cost_usd * 1e6)
    assert outcomes(result.operations)[0] == ("double", "SUCCEEDED")


async def test_calls_are_counted_as_models_ask_for_them(shop: OpenShop) -> None:
    policy = parse_policy('[[budgets]]\nname = "week"\nper = "7d"\ncalls = 5\n')
    steps = [[ask("double", n=1), ask("double", n=2)], [ask("double", n=3), ask("none", n=4)], "done"]
    desk = await shop(agent(steps * 4, double, policy=policy))
    first = await ended(await desk.client.start("tester", "Go", id="budget-calls-1"))
    assert first.status is RunStatus.COMPLETED
    assert (await used(desk))["week"].calls == 3, "the one that no tool takes is refused, and counts for nothing"
    second = await ended(await desk.client.start("tester", "Go", id="budget-calls-2"))
    assert (second.status, second.limit, second.calls) == (RunStatus.LIMIT_REACHED, "budget week", 2)
    third = await ended(await desk.client.start("tester", "Go", id="budget-calls-3"))
    assert (third.status, third.calls) == (RunStatus.LIMIT_REACHED, 0)


@pytest.mark.parametrize("continues", [0, 1])
async def test_time_at_work_is_that_of_models_and_calls_and_each_second_counts_once(
    shop: OpenShop, continues: int
) -> None:
    """Also what a child works, which its parent waits for; not what a person takes to decide."""

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
    async def work(seconds: float) -> str:
        """Work."""
        await asyncio.sleep(seconds)
        return "worked"

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="x:w")
    async def act() -> str:
        """Act."""
        return "acted"

    class Slow(Script):
        async def respond(self, request: ModelRequest) -> ModelResponse:
            await asyncio.sleep(0.3)
            return await super().respond(request)

    child = agent([ask("work", seconds=3.0), "done"], work, name="child")
    boss = Agent(
        name="boss",
        model=Slow([ask("work", seconds=0.5), ask("child", request="go"), ask("act"), "done"], lane=Lane.STANDARD),
        instructions="Test.",
        limits=ROOMY,
        tools=[work, act, child.as_tool(description="Ask it")],
    )
    desk = await shop(boss, child)
    await desk.client.set_policy('[[budgets]]\nname = "week"\nper = "7d"\nwork_time = "1h"\n', by="ann")
    await desk.boundary.permission.policies(fresh=True)
    run = await desk.client.start("boss", "Go", id=f"budget-work-{continues}", continue_after_turns=continues)
    call = await waiting(run)
    await asyncio.sleep(2)
    await run.decide(call.operation, approve=True, by="ada")
    await ended(run)
    worked, least = (await used(desk))["week"].work_ms / 1000, 4 * 0.3 + 0.5 + 3.0
    assert least <= worked < least + 2, "neither the child's three seconds twice, nor the person's two"


async def test_runs_end_when_the_time_at_work_is_used_up(shop: OpenShop) -> None:
    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
    async def work() -> str:
        """Work."""
        await asyncio.sleep(0.4)
        return "worked"

    policy = parse_policy('[[budgets]]\nname = "week"\nper = "7d"\nwork_time = "1s"\n')
    desk = await shop(agent([ask("work")] * 20, work, policy=policy))
    result = await ended(await desk.client.start("tester", "Go", id="budget-worked"))
    assert (result.status, result.limit) == (RunStatus.LIMIT_REACHED, "budget week")
    assert 2 <= result.calls <= 4
