"""Whose words count as the user's, where a policy wants them signed: those of a client's key, for its tenants, as it signed them."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from handfast import Client, Effect, Plan, Run, SigningKey, Tier, ask, tool
from handfast.client.keyring import write_key
from handfast.contracts.errors import LedgerError
from handfast.contracts.grants import CLIENT, Approver
from handfast.contracts.messages import ModelRequest
from handfast.contracts.tool import Tool
from handfast.contracts.words import Words, sign_words, words_fault
from tests.conftest import OpenShop, Shop, outcomes, until
from tests.permission.people import ended, events, waiting
from tests.workflow.agents import agent

KEY = SigningKey.new()
DESK = Approver(name="desk", public=KEY.public, roles=(CLIENT,), tenants=("acme",))
WORDS = Words(run="r1", told={"text": "Pay bob", "tenant": "acme"})
SIGNED = 'signed_words = true\n[[rules]]\nname = "all"\nverdict = "run"\n'


def test_words_count_that_a_client_has_signed_for_one_of_its_tenants() -> None:
    signature = sign_words(KEY, WORDS)
    assert words_fault(signature, WORDS, "acme", [DESK]) == ""
    for other in (
        WORDS.model_copy(update={"run": "r2"}),
        WORDS.model_copy(update={"message": "m1"}),
        WORDS.model_copy(update={"told": {"text": "Pay eve", "tenant": "acme"}}),
    ):
        assert "forged or damaged: desk has not signed this" in words_fault(signature, other, "acme", [DESK])
    assert words_fault(signature, WORDS, "beta", [DESK]) == "desk may not say what users of tenant 'beta' want"
    assert "nobody here" in words_fault(signature, WORDS, "acme", [])
    person = DESK.model_copy(update={"roles": ("approver",)})
    assert "nobody here" in words_fault(signature, WORDS, "acme", [person])


@pytest.mark.parametrize(
    "place",
    ["", "x", "hw1", "hw1..", "hf1.{id}.{sig}", "hw1.{id}.", "hw1.{id}.{sig}A", "hw1.{id}.{sig}\n", "\x00" * 900],
)
def test_what_is_no_signature_counts_for_nothing(place: str) -> None:
    _, key_id, signature = sign_words(KEY, WORDS).split(".")
    assert words_fault(place.format(id=key_id, sig=signature), WORDS, "acme", [DESK]) != ""


def paying(paid: list[str]) -> Tool:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="payments:pay")
    async def pay(to: str) -> str:
        """Pay."""
        paid.append(to)
        return "paid"

    return pay


@asynccontextmanager
async def client_of(desk: Shop, folder: Path, key: SigningKey | None) -> AsyncGenerator[Client]:
    """Another client of the same ledger, with or without a key."""
    path = None
    if key is not None:
        path = folder / f"{key.key_id}.key"
        if not path.exists():
            write_key(path, key)
    settings = desk.settings.model_copy(update={"client_key": path})
    async with await Client.connect(desk.client.engine.address, settings=settings) as client:
        yield client


async def opened(shop: OpenShop, *steps: Any, paid: list[str], policy: str = SIGNED) -> Shop:
    desk = await shop(agent(list(steps), paying(paid)))
    await desk.ledger.installation.add_key(DESK, "test")
    await desk.client.set_policy(policy)
    await desk.boundary.permission.policies(fresh=True)
    return desk


async def reason_of(desk: Shop, run: Run) -> str:
    [told] = await events(desk, run, "unsigned")
    return str(told["reason"])


async def test_a_request_that_a_client_has_signed_is_the_users_and_any_other_is_not(
    shop: OpenShop, tmp_path: Path
) -> None:
    paid: list[str] = []
    desk = await opened(shop, *[ask("pay", to="bob"), "done"] * 4, paid=paid)
    async with client_of(desk, tmp_path, KEY) as signing, client_of(desk, tmp_path, SigningKey.new()) as strange:
        run = await signing.start("tester", "Pay bob", id="words-signed", tenant="acme", user="ada")
        assert outcomes((await ended(run)).operations) == [("pay", "SUCCEEDED")]
        assert await events(desk, run, "unsigned") == []
        for number, (client, tenant, why) in enumerate(
            (
                (desk.client, "acme", "they are not signed"),
                (strange, "acme", "nobody here who may say what users want has signed them"),
                (signing, "beta", "desk may not say what users of tenant 'beta' want"),
            )
        ):
            run = await client.start("tester", "Pay bob", id=f"words-{number}", tenant=tenant)
            assert "words that no client has signed" in (await waiting(run)).reason
            assert why in await reason_of(desk, run)
            assert (await desk.ledger.verify(run.id)).faults == ()
            await run.cancel()
    assert paid == ["bob"]


async def test_a_request_that_is_edited_in_the_ledger_or_taken_from_another_run_is_nobodys(
    shop: OpenShop, tmp_path: Path
) -> None:
    """Before a worker has opened it."""
    paid: list[str] = []
    desk = await shop(agent([ask("pay", to="eve"), "done"] * 2, paying(paid)), serve=False)
    await desk.ledger.installation.add_key(DESK, "test")
    await desk.client.set_policy(SIGNED)
    async with client_of(desk, tmp_path, KEY) as signing:
        edited = await signing.start("tester", "Pay bob", id="words-edited", tenant="acme")
        other = await signing.start("tester", "Pay eve", id="words-other", tenant="acme")
    [old], [new] = [await events(desk, one, "requested") for one in (edited, other)]
    change = (
        "UPDATE entries SET body = replace(body, 'bob', 'eve'), meta = replace(meta, :old, :new) WHERE run_id = :run"
    )
    values = {"old": old["signed"], "new": new["signed"], "run": edited.id}
    await desk.ledger.database.write(lambda connection: connection.execute(text(change), values))
    async with desk.another_worker(agent([ask("pay", to="eve"), "done"] * 2, paying(paid))):
        await waiting(desk.client.run(edited.id))
        assert "the signature is forged or damaged" in await reason_of(desk, edited)
        await edited.cancel()
        assert outcomes((await ended(desk.client.run(other.id))).operations) == [("pay", "SUCCEEDED")]
        with pytest.raises(LedgerError, match="this ledger was closed"):
            await other.operations()
    assert paid == ["eve"], "the one that eve's own request has named"


async def test_what_is_said_during_a_run_counts_if_it_is_signed(shop: OpenShop, tmp_path: Path) -> None:
    paid: list[str] = []
    go_on = asyncio.Event()

    @tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:r")
    async def wait() -> str:
        """Wait."""
        await go_on.wait()
        return "waited"

    def answer(request: ModelRequest) -> Any:
        heard = request.messages[-1].text
        if "eve" in heard or "bob" in heard:
            return ask("pay", to="eve" if "eve" in heard else "bob")
        return "done" if paid or len(request.messages) > 4 else ask("wait")

    desk = await shop(agent(answer, paying(paid), wait))
    await desk.ledger.installation.add_key(DESK, "test")
    await desk.client.set_policy(SIGNED)
    await desk.boundary.permission.policies(fresh=True)
    async with client_of(desk, tmp_path, KEY) as signing:
        first = await signing.start("tester", "Go", id="words-said", tenant="acme")
        await signing.run(first.id).say("Pay bob")
        go_on.set()
        assert outcomes((await ended(first)).operations)[-1] == ("pay", "SUCCEEDED")
        go_on.clear()
        paid.clear()
        second = await signing.start("tester", "Go", id="words-unsaid", tenant="acme")
        await desk.client.run(second.id).say("Pay eve")
        go_on.set()
        await waiting(second)
        assert (await reason_of(desk, second), paid) == ("they are not signed", [])
        await second.cancel()


async def test_a_key_that_is_revoked_says_nothing_any_more_and_decides_on_nothing_ever(
    shop: OpenShop, tmp_path: Path
) -> None:
    paid: list[str] = []
    desk = await opened(shop, *[ask("pay", to="bob"), "done"] * 2, paid=paid)
    assert await desk.ledger.installation.revoke_key(KEY.key_id, "test")
    async with client_of(desk, tmp_path, KEY) as signing:
        run = await signing.start("tester", "Pay bob", id="words-revoked", tenant="acme")
        call = await waiting(run)
        assert "nobody here" in await reason_of(desk, run)
        # As long as only clients have keys, whoever sits here decides; a client's key does not.
        with pytest.raises(Exception, match="nobody here has the key"):
            await run.decide(call.operation, approve=True, key=KEY)
        await run.decide(call.operation, approve=True, by="ada")
        assert outcomes((await ended(run)).operations) == [("pay", "SUCCEEDED")]


async def test_a_run_that_thinks_again_from_its_first_turn_does_not_forget_whose_words_they_were(
    shop: OpenShop,
) -> None:
    paid: list[str] = []
    desk = await opened(shop, *[ask("pay", to="bob")] * 2, "done", paid=paid)
    run = await desk.client.start("tester", "Pay bob", id="words-again", tenant="acme")
    await waiting(run)
    await run.reset(1)

    async def again() -> bool:
        return any((await run.state()).waiting) and len(await run.operations()) == 2

    await until(again)
    assert (paid, len(await events(desk, run, "unsigned"))) == ([], 1)
    await run.cancel()


async def test_children_and_plans_go_by_the_words_of_whoever_has_asked_for_them(shop: OpenShop, tmp_path: Path) -> None:
    paid: list[str] = []
    child = agent([ask("pay", to="bob"), "done"], paying(paid), name="child")
    boss = agent([ask("child", request="pay bob"), "done"], child.as_tool(description="Ask it"), name="boss")
    desk = await shop(boss, child)
    await desk.ledger.installation.add_key(DESK, "test")
    await desk.client.set_policy(SIGNED)
    await desk.boundary.permission.policies(fresh=True)
    steps = {"one": {"tool": "pay", "with": {"to": "bob"}, "stands": True}}
    plan = Plan.model_validate({"name": "p", "agent": "child", "steps": steps})
    async with client_of(desk, tmp_path, KEY) as signing:
        family = await signing.start("boss", "Have bob paid", id="words-family", tenant="acme")
        assert outcomes((await ended(family)).operations) == [("child", "SUCCEEDED")]
        planned = await signing.start_plan(plan, {}, id="words-plan", tenant="acme")
        assert outcomes((await ended(planned)).operations) == [("pay", "SUCCEEDED")]
        assert paid == ["bob", "bob"]
    unsigned = await desk.client.start_plan(plan, {}, id="words-unplanned", tenant="acme")
    await waiting(unsigned)
    assert (await reason_of(desk, unsigned), paid) == ("they are not signed", ["bob", "bob"])
    await unsigned.cancel()
    assert "hw1." not in json.dumps((await family.handle.fetch_history()).to_json_dict())
