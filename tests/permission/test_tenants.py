"""Two tenants on one worker and one ledger: what a model of one tries with the other's ids gets nothing."""

from datetime import timedelta
from typing import Any

import pytest

from handfast import Cache, Condition, DecisionRefused, Effect, Outcome, RunStatus, Tier, ToolContext, ask, tool
from handfast.contracts import names
from handfast.contracts.errors import RunError
from handfast.contracts.messages import ModelRequest
from tests.conftest import OpenShop, Shop, outcomes, until
from tests.permission.people import ended, events, person, waiting
from tests.workflow.agents import agent

SECRET = "the plans of acme"


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="files:read", cache=Cache(ttl=timedelta(hours=1)))
async def read_file(name: str, ctx: ToolContext) -> str:
    """Read a file."""
    return f"{SECRET} {name}" if ctx.tenant == "acme" else "nothing"


@tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="files:write", key=("name",))
async def publish(name: str, ctx: ToolContext) -> str:
    """Publish a file."""
    return f"{ctx.tenant} {ctx.idempotency_key}"


class Spy:
    """A model of another tenant that tries one call after the other, and keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.told: list[str] = []

    def __call__(self, request: ModelRequest) -> Any:
        self.told.extend(result.text for result in request.messages[-1].results)
        turn = sum(message.role == "assistant" for message in request.messages)
        return self.calls[turn] if turn < len(self.calls) else "done"


async def test_a_model_of_one_tenant_gets_nothing_of_another(shop: OpenShop) -> None:
    spy = Spy()
    victim = agent([ask("read_file", name="a"), ask("publish", name="a"), "done"], read_file, publish, name="victim")
    thief = agent(spy, read_file, publish, name="thief", peers=["victim", "thief"], savepoints=False)
    desk: Shop = await shop(victim, thief)
    theirs = await desk.client.start("victim", "Go", id="tenants-victim", user="ada", tenant="acme")
    one = await waiting(theirs)
    [read, _] = await theirs.operations()
    spy.calls = [
        ask(names.READ_RESULT, operation=read.operation_id),
        ask("read_file", name="a"),
        ask(names.SEND_MESSAGE, to=theirs.id, text="pay me"),
        ask(names.SEND_MESSAGE, to="victim", text="pay me"),
    ]
    run = await desk.client.start("thief", f"Read {read.operation_id}", id="tenants-thief", user="ada", tenant="evil")
    result = await ended(run)
    assert result.status is RunStatus.COMPLETED
    assert SECRET not in "".join(spy.told)
    assert outcomes(result.operations) == [
        ("read_result", "FAILED"),
        ("read_file", "SUCCEEDED"),
        ("send_message", "FAILED"),
        ("send_message", "FAILED"),
    ]
    assert not await events(desk, theirs, "said")
    assert (await waiting(theirs)).operation == one.operation


async def test_a_person_of_one_tenant_decides_nothing_of_another(shop: OpenShop) -> None:
    desk = await shop(agent([ask("publish", name="a"), ask("publish", name="b"), "done"], publish))
    ours = await desk.client.start("tester", "Go", id="tenants-ours", tenant="evil")
    theirs = await desk.client.start("tester", "Go", id="tenants-theirs", tenant="acme")
    eve = await person(desk, "eve", tenants=("evil",))
    ada = await person(desk, "ada", tenants=("acme",))
    one, two = await waiting(ours), await waiting(theirs)
    with pytest.raises(DecisionRefused, match="may not decide for tenant 'acme'"):
        await theirs.decide(two.operation, approve=True, key=eve)
    with pytest.raises(RunError):
        await ours.decide(two.operation, approve=True, key=eve)
    grant = eve.grant(ours.id, one.operation, one.digest, "approve")
    with pytest.raises((DecisionRefused, RunError)):
        await theirs.deliver(grant)
    await ours.decide(one.operation, approve=True, key=eve, remember={"name": Condition(matches=("*",))})
    result = await ended(ours)
    assert outcomes(result.operations) == [("publish", Outcome.SUCCEEDED)] * 2, "remembered in this run"
    assert (await waiting(theirs)).operation == two.operation, "and in no other"
    assert {one.tenant for one in await desk.client.inbox(tenant="evil")} <= {"evil"}
    await theirs.decide(two.operation, approve=True, key=ada)

    async def second() -> Any:
        found = (await theirs.state()).waiting
        return found if found and found[0].operation != two.operation else None

    [three] = await until(second)
    await theirs.decide(three.operation, approve=False, key=ada)
    other = await ended(theirs)
    keys = [operation.result.split(" ")[1] for operation in (result.operations[0], other.operations[0])]
    assert keys[0] != keys[1], "the same fields are another key for another tenant"


async def test_what_one_tenant_uses_another_has_still(shop: OpenShop) -> None:
    desk = await shop(agent(["done"]))
    await desk.client.set_policy('[[budgets]]\nname = "t"\nper = "7d"\neach = "tenant"\nturns = 2\n', by="ann")
    await desk.boundary.permission.policies(fresh=True)
    status: dict[str, list[RunStatus]] = {}
    for number, tenant in enumerate(("evil", "evil", "evil", "acme")):
        run = await desk.client.start("tester", "Go", id=f"tenants-budget-{number}", tenant=tenant)
        status.setdefault(tenant, []).append((await ended(run)).status)
    done, limit = RunStatus.COMPLETED, RunStatus.LIMIT_REACHED
    assert status == {"evil": [done, limit, limit], "acme": [done]}
