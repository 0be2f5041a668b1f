"""Deciding on calls of real runs: who may, what counts, and that nobody who only reaches Temporal can."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError

from handfast import Condition, DecisionRefused, Effect, Outcome, Run, RunStatus, SigningKey, Tier, ToolError, ask, tool
from handfast.contracts.errors import RunError
from handfast.contracts.wire_words import Decision, Resolution, UndoWord
from tests.conftest import OpenShop, outcomes, until
from tests.permission.people import ended, events, person, waiting
from tests.workflow.agents import agent

Paid = list[str]


def paying(paid: Paid, tier: Tier = Tier.IRREVERSIBLE, **clauses: Any) -> Any:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=tier, scope="payments:pay", **clauses)
    async def pay(to: str, amount: int = 5) -> str:
        """Pay."""
        paid.append(f"{to} {amount}")
        return "paid"

    return pay


async def test_what_is_sent_straight_to_temporal_without_a_key_changes_nothing(shop: OpenShop) -> None:
    """Unsigned, signed by a stranger, replayed from another run: each is refused, and the ledger says so."""
    paid: Paid = []
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying(paid)))
    ada, stranger = await person(desk, "ada"), SigningKey.new()
    run = await desk.client.start("tester", "Go", id="straight", user="uma")
    other = await desk.client.start("tester", "Go", id="straight-other", user="uma")
    one, two = await waiting(run), await waiting(other)
    handle = desk.client.temporal.get_workflow_handle(run.id)
    words = {
        "": "it is not signed",
        stranger.grant(run.id, one.operation, one.digest, "approve"): "nobody here has the key",
        ada.grant(other.id, two.operation, two.digest, "approve"): "of run 'straight-other', not for this one",
        ada.grant(run.id, one.operation, one.digest, "approve", lasts_ms=-1): "the grant has expired",
        ada.grant(run.id, one.operation, one.digest, "reject"): "the grant says 'reject', the word with it 'approve'",
        "hf1.x.y": "no grant",
    }
    for grant, told in words.items():
        forged = Decision(operation=one.operation, digest=one.digest, approve=True, by="ada", grant=grant)
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update("decide", forged)
        assert told in str(caught.value.cause), told
    long = Decision(operation=one.operation, digest=one.digest, approve=True, grant="hf1.x.y" * 100_000)
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await handle.execute_update("decide", long)
    assert "longer than 4096 characters" in str(caught.value.cause)
    assert (paid, (await waiting(run)).operation) == ([], one.operation)
    refused = await events(desk, run, "refused")
    assert [(entry["claimed"], told in entry["why"]) for entry, told in zip(refused, words.values(), strict=True)] == [
        ("ada", True)
    ] * len(words)
    await run.decide(one.operation, approve=True, key=ada)
    assert outcomes((await ended(run)).operations) == [("pay", Outcome.SUCCEEDED)]
    assert (paid, (await events(desk, run, "decided"))[0]["by"]) == (["bob 5"], "ada")
    with pytest.raises(RunError):
        await run.decide(one.operation, approve=True, key=ada)
    assert (await desk.ledger.verify(run.id)).faults == ()
    await other.decide(two.operation, approve=False, reason="no", key=ada)
    assert outcomes((await ended(other)).operations) == [("pay", Outcome.DENIED)]


async def test_forged_words_are_kept_only_so_many(shop: OpenShop) -> None:
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying([])))
    run = await desk.client.start("tester", "Go", id="many-forged")
    one = await waiting(run)
    for number in range(25):
        forged = Decision(operation=one.operation, digest=one.digest, approve=True, grant=f"hf1.{number}.x")
        with pytest.raises(WorkflowUpdateFailedError):
            await desk.client.temporal.get_workflow_handle(run.id).execute_update("decide", forged)
    assert len(await events(desk, run, "refused")) == 20


async def test_a_privileged_call_needs_people_with_keys_and_two_where_there_are_two(shop: OpenShop) -> None:
    paid: Paid = []
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying(paid, Tier.PRIVILEGED)))
    run = await desk.client.start("tester", "Go", id="privileged", user="ada")
    one = await waiting(run)
    with pytest.raises(DecisionRefused, match="somebody with a key of their own"):
        await run.decide(one.operation, approve=True)
    ada, bob, eve = [await person(desk, name) for name in ("ada", "bob", "eve")]
    again = await person(desk, "bob")
    with pytest.raises(DecisionRefused, match="ada has asked for this"):
        await run.decide(one.operation, approve=True, key=ada)
    with pytest.raises(DecisionRefused, match="give yours with --key"):
        await run.decide(one.operation, approve=True)
    # One person stays one, with two keys, too.
    for key in (bob, bob, again):
        await run.decide(one.operation, approve=True, key=key)
        [waits] = await desk.client.inbox(run_id=run.id)
        assert (paid, waits.agreed) == ([], ("bob",))
    await run.decide(one.operation, approve=True, key=eve)
    assert outcomes((await ended(run)).operations) == [("pay", Outcome.SUCCEEDED)]
    [decided] = await events(desk, run, "decided")
    assert (paid, decided["by"]) == (["bob 5"], "bob, eve")


async def test_one_person_is_enough_to_reject_what_another_has_approved(shop: OpenShop) -> None:
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying([], Tier.PRIVILEGED)))
    bob, eve = [await person(desk, name) for name in ("bob", "eve")]
    run = await desk.client.start("tester", "Go", id="privileged-rejected")
    one = await waiting(run)
    await run.decide(one.operation, approve=True, key=bob)
    await run.decide(one.operation, approve=False, reason="not today", key=eve)
    assert outcomes((await ended(run)).operations) == [("pay", Outcome.DENIED)]


async def test_roles_and_tenants_of_a_key_say_what_its_word_is_worth(shop: OpenShop) -> None:
    paid: Paid = []
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying(paid)))
    await desk.client.set_policy('[roles]\nmoney-desk = ["money"]\nlibrarian = ["books:*"]')
    desk_clerk = await person(desk, "clerk", roles=("money-desk",), tenants=("acme",))
    librarian = await person(desk, "librarian", roles=("librarian", "no-such-role"))
    run = await desk.client.start("tester", "Go", id="roles", tenant="acme")
    other = await desk.client.start("tester", "Go", id="roles-beta", tenant="beta")
    one, two = await waiting(run), await waiting(other)
    with pytest.raises(DecisionRefused, match="no role that may decide on payments:pay"):
        await run.decide(one.operation, approve=True, key=librarian)
    with pytest.raises(DecisionRefused, match="may not decide for tenant 'beta'"):
        await other.decide(two.operation, approve=True, key=desk_clerk)
    await run.decide(one.operation, approve=True, key=desk_clerk)
    assert (await ended(run)).status is RunStatus.COMPLETED
    assert paid == ["bob 5"]


@pytest.mark.parametrize("why", ["revoked", "expired"])
async def test_an_approval_that_no_longer_counts_when_the_call_begins_is_asked_for_again(
    shop: OpenShop, why: str
) -> None:
    """The run is paused between the two: what counted when it was said is looked at again right before the effect."""
    paid: Paid = []
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying(paid)))
    ada, bob = await person(desk, "ada"), await person(desk, "bob")
    run = await desk.client.start("tester", "Go", id=f"withdrawn-{why}")
    one = await waiting(run)
    await run.pause()
    lasts = timedelta(seconds=1) if why == "expired" else timedelta(hours=1)
    await run.decide(one.operation, approve=True, key=ada, lasts=lasts)
    if why == "expired":
        await asyncio.sleep(1.1)
    else:
        assert await desk.ledger.installation.revoke_key(ada.key_id, "test")
    await run.resume()
    assert (await waiting(run)).operation == one.operation
    [withdrawn] = await events(desk, run, "withdrawn")
    assert ("expired" if why == "expired" else "nobody here has the key") in withdrawn["why"]
    assert paid == []
    await run.decide(one.operation, approve=True, key=bob)
    assert outcomes((await ended(run)).operations) == [("pay", Outcome.SUCCEEDED)]
    assert (paid, len(await events(desk, run, "decided"))) == (["bob 5"], 2)
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_a_file_of_approvers_stands_above_the_ledger(shop: OpenShop, tmp_path: Any) -> None:
    paid: Paid = []
    ada = SigningKey.new()
    file = tmp_path / "approvers.toml"
    file.write_text(f'[[approver]]\nname = "ada"\npublic = "{ada.public}"\n')
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying(paid)), approvers=file)
    eve = await person(desk, "eve")
    run = await desk.client.start("tester", "Go", id="file")
    one = await waiting(run)
    with pytest.raises(DecisionRefused, match="nobody here has the key"):
        await run.decide(one.operation, approve=True, key=eve)
    await run.decide(one.operation, approve=True, key=ada)
    assert ((await ended(run)).status, paid) == (RunStatus.COMPLETED, ["bob 5"])


async def test_a_grant_goes_by_any_way_and_anybody_may_bring_it(shop: OpenShop, tmp_path: Any) -> None:
    paid: Paid = []
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying(paid)))
    ada = await person(desk, "ada")
    (tmp_path / "ada.key").write_bytes(ada.to_pem())
    run = await desk.client.start("tester", "Go", id="by-mail")
    one = await waiting(run)
    grant = await run.grant(one.operation, "approve", key=tmp_path / "ada.key")
    assert paid == []
    with pytest.raises(DecisionRefused, match="no grant"):
        await desk.client.deliver("hello")
    await desk.client.deliver(grant, by="the postman")
    assert (await ended(run)).status is RunStatus.COMPLETED
    [decided] = await events(desk, run, "decided")
    assert (paid, decided["by"]) == (["bob 5"], "ada")


async def test_the_inbox_shows_what_waits_over_all_runs(shop: OpenShop) -> None:
    desk = await shop(agent([ask("pay", to="bob", amount=7), "done"], paying([])))
    runs: list[Run] = []
    for number, tenant in enumerate(("acme", "acme", "beta")):
        runs.append(await desk.client.start("tester", "Go", id=f"inbox-{number}", user="uma", tenant=tenant))
        await waiting(runs[-1])
    found = await desk.client.inbox()
    assert [one.run_id for one in found] == [run.id for run in runs]
    assert {(one.tool, one.arguments["amount"], one.user, one.reason) for one in found} == {
        ("pay", 7, "uma", "tier IRREVERSIBLE")
    }
    filters: list[dict[str, Any]] = [{"tenant": "acme"}, {"tool": "other"}, {"agent": "tester"}, {"limit": 1}]
    assert [len(await desk.client.inbox(**given)) for given in filters] == [2, 0, 3, 1]
    await runs[0].decide(found[0].operation_id, approve=False, by="ada")
    await ended(runs[0])
    await runs[1].cancel()
    await ended(runs[1])
    assert [one.run_id for one in await desk.client.inbox()] == [runs[2].id]


async def test_what_became_of_a_call_in_doubt_says_only_who_has_a_key(shop: OpenShop) -> None:
    """Forged, it would have a call done twice, or never."""

    @tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="payments:pay", attempts=1)
    async def pay() -> str:
        """Pay."""
        raise ToolError("the line is dead", happened="unknown")

    desk = await shop(agent([ask("pay"), "done"], pay))
    ada = await person(desk, "ada")
    run = await desk.client.start("tester", "Go", id="in-doubt")
    one = await waiting(run)
    handle = desk.client.temporal.get_workflow_handle(run.id)
    approval = ada.grant(run.id, one.operation, one.digest, "approve")
    for grant, told in (("", "not signed"), (approval, "the grant says 'approve', the word with it 'did not happen'")):
        forged = Resolution(operation=one.operation, happened=False, by="ada", grant=grant)
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update("resolve", forged)
        assert told in str(caught.value.cause)
    assert [entry["word"] for entry in await events(desk, run, "refused")] == ["did not happen"] * 2
    await run.resolve(one.operation, happened=True, note="the bank says so", key=ada)
    assert outcomes((await ended(run)).operations) == [("pay", Outcome.SUCCEEDED)]
    [resolved] = await events(desk, run, "resolved")
    assert (resolved["by"], (await desk.ledger.verify(run.id)).faults) == ("ada", ())


async def test_what_becomes_of_a_call_that_could_not_be_undone_says_only_who_has_a_key(shop: OpenShop) -> None:
    undone: list[str] = []

    async def take_back(args: Any, result: Any, ctx: Any) -> None:
        undone.append("tried")
        raise ToolError("the bank is closed", happened="no")

    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="payments:pay", compensate=take_back)
    async def pay() -> str:
        """Pay."""
        return "paid"

    desk = await shop(agent([ask("pay"), "done"], pay))
    ada = await person(desk, "ada")
    run = await desk.client.start("tester", "Go", id="stuck")
    await ended(run)
    await run.rollback()
    rollback = desk.client.temporal.get_workflow_handle(f"rollback:{run.id}")

    async def blocked() -> Any:
        return [one for one in await run.undo() if one.blocked]

    [stuck] = await until(blocked)
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await rollback.execute_update("unblock", UndoWord(operation=stuck.operation, action="done", by="ada"))
    assert "not signed" in str(caught.value.cause)
    assert [one.operation for one in await blocked()] == [stuck.operation]
    await run.unblock(stuck.operation, "skip", reason="let it be", key=ada)
    await asyncio.wait_for(rollback.result(), 20)
    [unblocked] = await events(desk, run, "unblocked")
    assert (unblocked["by"], unblocked["action"], (await desk.ledger.verify(run.id)).faults) == ("ada", "skip", ())


async def test_an_approval_is_remembered_for_calls_like_it_in_its_run_only(shop: OpenShop) -> None:
    paid: Paid = []
    small = [ask("pay", to="bob", amount=5), ask("pay", to="bob", amount=6)]
    steps = [small, ask("pay", to="bob", amount=7), ask("pay", to="bob", amount=500), "done"]
    desk = await shop(agent(steps, paying(paid)))
    ada = await person(desk, "ada")
    run = await desk.client.start("tester", "Go", id="remembered", continue_after_turns=1)
    other = await desk.client.start("tester", "Go", id="remembered-other")

    async def both() -> Any:
        found = (await run.state()).waiting
        return found if len(found) == 2 else None

    one, two = await until(both)
    await run.decide(
        one.operation, approve=True, key=ada, remember={"to": Condition(equals="bob"), "amount": Condition(most=50)}
    )
    # The other one that waits goes on, too, and later ones do not wait, also after the run has continued as new; a larger one does.
    large = await until(lambda: _waits_for(run, 500))
    assert sorted(paid) == ["bob 5", "bob 6", "bob 7"]
    assert {one.operation, two.operation}.isdisjoint({large.operation})
    reasons = [operation.reason for operation in await run.operations()]
    assert sum(reason.startswith("remembered: ada has approved") for reason in reasons) == 2
    assert len((await other.state()).waiting) == 2
    await desk.ledger.installation.revoke_key(ada.key_id, "test")
    bob = await person(desk, "bob")
    await run.decide(large.operation, approve=True, key=bob)
    result = await ended(run)
    assert (result.status, len(paid)) == (RunStatus.COMPLETED, 4)
    assert (await desk.ledger.verify(run.id)).faults == ()
    await other.cancel()
    await ended(other)


async def _waits_for(run: Run, amount: int) -> Any:
    waits = {one.operation: one for one in (await run.state()).waiting}
    found = [o for o in await run.operations() if o.operation_id in waits and o.arguments["amount"] == amount]
    return waits[found[0].operation_id] if found else None


async def test_a_remembered_approval_ends_with_its_grant_or_its_key(shop: OpenShop) -> None:
    paid: Paid = []
    may_go_on = asyncio.Event()

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="time:read")
    async def wait() -> str:
        """Wait."""
        await may_go_on.wait()
        return "now"

    steps = [ask("pay", to="bob"), ask("wait"), ask("pay", to="bob"), "done"]
    desk = await shop(agent(steps, paying(paid), wait))
    ada, bob = await person(desk, "ada"), await person(desk, "bob")
    run = await desk.client.start("tester", "Go", id="remembered-revoked")
    one = await waiting(run)
    await run.decide(one.operation, approve=True, key=ada, remember={})

    async def paid_once() -> bool:
        return len(paid) == 1

    await until(paid_once)
    await desk.ledger.installation.revoke_key(ada.key_id, "test")
    may_go_on.set()
    two = await waiting(run)
    assert len(paid) == 1
    await run.decide(two.operation, approve=True, key=bob)
    assert ((await ended(run)).status, len(paid)) == (RunStatus.COMPLETED, 2)


async def test_what_can_not_be_remembered_is_refused(shop: OpenShop) -> None:
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying([], Tier.PRIVILEGED)))
    ada = await person(desk, "ada")
    run = await desk.client.start("tester", "Go", id="not-remembered")
    one = await waiting(run)
    with pytest.raises(DecisionRefused, match="is decided each time"):
        await run.decide(one.operation, approve=True, key=ada, remember={})
    nonsense = ada.grant(run.id, one.operation, one.digest, "approve", remember="[1]")
    forged = Decision(operation=one.operation, digest=one.digest, approve=True, grant=nonsense, remember=True)
    with pytest.raises(WorkflowUpdateFailedError):
        await desk.client.temporal.get_workflow_handle(run.id).execute_update("decide", forged)
    await run.decide(one.operation, approve=True, key=ada)
    await ended(run)
