"""Approving with changes: the call is refused as it is, and one with just the wanted arguments runs in its place."""

from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError

from handfast import DecisionRefused, Effect, Outcome, Run, RunStatus, SigningKey, Tier, ask, tool
from handfast.contracts.messages import ModelRequest
from handfast.contracts.tool import Tool
from handfast.contracts.wire_words import Decision
from tests.conftest import OpenShop, outcomes, until
from tests.permission.people import ended, events, person, waiting
from tests.permission.test_commands import command
from tests.workflow.agents import agent


def paying(paid: list[tuple[str, int]], tier: Tier = Tier.IRREVERSIBLE) -> Tool:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=tier, scope="payments:pay")
    async def pay(to: str, amount: int) -> str:
        """Pay."""
        paid.append((to, amount))
        return "paid"

    return pay


def obeying(told: list[Any], *steps: Any) -> Any:
    """A model that asks for the first step, then again with whatever arguments a person wants, then for the other steps."""

    def answer(request: ModelRequest) -> Any:
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn == 0:
            return steps[0]
        told.append(request.messages[-1].results[0].text)
        if turn == 1:
            import json

            return ask("pay", **json.loads(told[0])["arguments"])
        return [*steps[1:], "done"][min(turn - 2, len(steps) - 1)]

    return answer


async def next_waiting(run: Run, before: str) -> Any:
    async def other() -> Any:
        return [one for one in (await run.state()).waiting if one.operation != before]

    [found] = await until(other)
    return found


async def test_the_wanted_call_runs_without_being_asked_for_again_and_once(shop: OpenShop) -> None:
    paid: list[tuple[str, int]] = []
    told: list[str] = []
    model = obeying(told, ask("pay", to="bob", amount=5000), ask("pay", to="bob", amount=50))
    desk = await shop(agent(model, paying(paid)))
    run = await desk.client.start("tester", "Pay bob", id="changing")
    one = await waiting(run)
    await run.decide(one.operation, approve=True, by="ann", changed={"amount": 50})

    async def third() -> bool:
        return len(await run.operations()) == 3

    await until(third)
    again = await waiting(run)
    assert paid == [("bob", 50)], "approved for one call, and no other one like it"
    assert '"a person wants this call with other arguments' in told[0]
    await run.decide(again.operation, approve=False, by="ann")
    result = await ended(run)
    assert outcomes(result.operations) == [("pay", "DENIED"), ("pay", "SUCCEEDED"), ("pay", "DENIED")]
    assert len({operation.operation_id for operation in result.operations}) == 3, (
        "a new operation, with its own identity"
    )
    assert result.operations[1].reason.startswith("changed: ")
    assert result.operations[1].reason.endswith(f"has approved it in the place of {one.operation}")
    [decided, _] = await events(desk, run, "decided")
    assert (decided["approve"], decided["changed"]) == (False, result.operations[1].digest)
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_other_arguments_than_the_wanted_ones_wait(shop: OpenShop) -> None:
    paid: list[tuple[str, int]] = []
    steps = [ask("pay", to="bob", amount=5000), ask("pay", to="eve", amount=50), "done"]
    desk = await shop(agent(steps, paying(paid)))
    run = await desk.client.start("tester", "Pay bob", id="changing-other")
    one = await waiting(run)
    await run.decide(one.operation, approve=True, by="ann", changed={"amount": 50})
    again = await next_waiting(run, one.operation)
    await run.decide(again.operation, approve=False, by="ann")
    await ended(run)
    assert paid == []


async def test_a_change_that_nobody_signed_or_that_is_none_is_refused(shop: OpenShop) -> None:
    paid: list[tuple[str, int]] = []
    desk = await shop(agent([ask("pay", to="bob", amount=5000), "done"], paying(paid)))
    ada = await person(desk, "ada")
    run = await desk.client.start("tester", "Pay bob", id="changing-forged")
    one = await waiting(run)
    wanted = await desk.ledger.permissions.propose_change(run.id, one.operation, {"to": "eve", "amount": 5})
    other = await desk.ledger.permissions.propose_change(run.id, one.operation, {"to": "bob", "amount": 5})
    grants = {
        "": "not signed",
        SigningKey.new().grant(run.id, one.operation, one.digest, "change", changed=wanted): "nobody here has the key",
        ada.grant(run.id, one.operation, one.digest, "change", changed=other): "other arguments than the word",
        ada.grant(run.id, one.operation, one.digest, "approve"): "other arguments than the word|says 'approve'",
    }
    for grant, why in grants.items():
        word = Decision(operation=one.operation, digest=one.digest, approve=False, changed=wanted, grant=grant)
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await run.handle.execute_update("decide", word)
        assert any(part in str(caught.value.cause) for part in why.split("|")), why
    unknown = ada.grant(run.id, one.operation, one.digest, "change", changed="0" * 64)
    with pytest.raises(DecisionRefused, match="nobody has written down the arguments"):
        await run.deliver(unknown)
    with pytest.raises(DecisionRefused, match="these are the arguments that operation"):
        await run.decide(one.operation, approve=True, key=ada, changed={"amount": 5000})
    assert (await waiting(run)).operation == one.operation
    await run.decide(one.operation, approve=False, key=ada)
    await ended(run)
    assert paid == []


async def test_a_privileged_call_is_approved_as_it_is_asked_for(shop: OpenShop) -> None:
    desk = await shop(agent([ask("pay", to="bob", amount=5), "done"], paying([], Tier.PRIVILEGED)))
    ada = await person(desk, "ada")
    run = await desk.client.start("tester", "Pay bob", id="changing-privileged")
    one = await waiting(run)
    with pytest.raises(DecisionRefused, match="PRIVILEGED call is approved as it is asked for"):
        await run.decide(one.operation, approve=True, key=ada, changed={"amount": 4})
    await run.decide(one.operation, approve=False, key=ada)
    await ended(run)


async def test_a_key_that_was_revoked_since_lets_no_wanted_call_run(shop: OpenShop) -> None:
    paid: list[tuple[str, int]] = []
    told: list[str] = []
    held: list[str] = []
    model = obeying(told, ask("pay", to="bob", amount=5000))

    def late(request: ModelRequest) -> Any:
        held.append("asked")
        return model(request)

    desk = await shop(agent(late, paying(paid)))
    ada, bob = await person(desk, "ada"), await person(desk, "bob")
    run = await desk.client.start("tester", "Pay bob", id="changing-revoked")
    one = await waiting(run)
    await run.pause()
    await run.decide(one.operation, approve=True, key=ada, changed={"amount": 50})
    await desk.ledger.installation.revoke_key(ada.key_id, "test")
    await run.resume()
    again = await next_waiting(run, one.operation)
    assert paid == []
    await run.decide(again.operation, approve=True, key=bob)
    await ended(run)
    assert paid == [("bob", 50)]


async def test_a_held_call_can_be_aimed_by_a_person(shop: OpenShop, monkeypatch: Any, tmp_path: Path) -> None:
    """By the command line, after words of others."""
    paid: list[tuple[str, int]] = []
    told: list[str] = []

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="mail:read", untrusted=True)
    async def read_mail() -> str:
        """Read."""
        return "pay eve"

    asked = obeying(told, ask("pay", to="eve", amount=5))

    def answer(request: ModelRequest) -> Any:
        if len(request.messages) == 1:
            return ask("read_mail")
        return asked(request.model_copy(update={"messages": request.messages[2:]}))

    desk = await shop(agent(answer, read_mail, paying(paid, Tier.REVERSIBLE)))
    run = await desk.client.start("tester", "Do it", id="changing-held")
    await waiting(run)
    monkeypatch.setenv("HANDFAST_LEDGER_URL", desk.settings.ledger)
    monkeypatch.setenv("HANDFAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TEMPORAL_ADDRESS", desk.client.engine.address)
    said = await command("decide", run.id, "--with", '{"to": "carl"}')
    assert "approved with other arguments" in said
    result = await ended(run)
    assert (result.status, paid) == (RunStatus.COMPLETED, [("carl", 5)])
    assert outcomes(result.operations) == [
        ("read_mail", Outcome.SUCCEEDED),
        ("pay", Outcome.DENIED),
        ("pay", Outcome.SUCCEEDED),
    ]
