"""Runs that write to each other: each message is read once, by whom it is for, and as what it is."""

import json
from typing import Any

import pytest

from handfast import Agent, RunStatus, ask
from handfast.contracts.errors import ContractError
from handfast.contracts.messages import ModelRequest
from tests.conftest import OpenShop, outcomes, until
from tests.family.people import agent, ended, new_id, require_sound, started, sub


def said_to(request: ModelRequest) -> list[str]:
    """What the model was told besides results, after its request."""
    return [
        part.text
        for message in request.messages[1:]
        if message.role == "user"
        for part in message.parts
        if part.kind == "text"
    ]


def wants(request: ModelRequest) -> str:
    return said_to(request)[-1].rsplit(") ", 1)[-1]


def haggling(other: str, mine: list[int], *, opens: bool) -> Any:
    """A model that offers one number after the other until the other side agrees."""

    def think(request: ModelRequest) -> Any:
        heard = [text for text in said_to(request) if "message from" in text]
        offers = sum(call.tool == "send_message" for m in request.messages for call in m.calls)
        if heard and "agreed" in heard[-1]:
            return f"deal at {heard[-1].rsplit(' ', 1)[-1]}"
        last = request.messages[-1]
        if opens and offers == len(heard) and last.role == "user" and offers < len(mine):
            return ask("send_message", to=other, text=f"I offer {mine[offers]}")
        if not opens and len(heard) > offers:
            price = int(heard[-1].rsplit(" ", 1)[-1])
            word = f"agreed at {price}" if price >= mine[0] else f"not for {price}"
            return ask("send_message", to=other, text=word)
        if not opens and offers and "agreed" in str(request.messages[-2].calls):
            return "sold"
        return ask("wait_for_message", seconds=20)

    return think


async def test_two_children_haggle_until_they_agree(shop: OpenShop) -> None:
    buyer = agent("buyer", haggling("seller", [10, 20, 30], opens=True), (), peers=("seller",))
    seller = agent("seller", haggling("buyer", [25], opens=False), (), peers=("buyer",))
    steps = [[ask("buyer", request="buy"), ask("seller", request="sell")], "Done."]
    desk = await shop(agent("boss", steps, [sub(buyer), sub(seller)]))
    result = await ended(await started(desk))
    assert [one.result for one in result.operations] == ["deal at 30", "sold"]
    await require_sound(desk)


async def test_runs_that_were_started_apart_write_to_each_other_by_id(shop: OpenShop) -> None:
    listener = agent(
        "listener",
        lambda r: f"heard {said_to(r)}" if said_to(r) else ask("wait_for_message", seconds=30),
        (),
        peers=("teller",),
    )
    ear = new_id()
    teller = agent(
        "teller", [ask("send_message", to=ear, text="the password is swordfish"), "told"], (), peers=("listener",)
    )
    desk = await shop(listener, teller)
    run = await desk.client.start("listener", "Listen", id=ear)
    mouth = await started(desk, "teller")
    assert (await ended(mouth)).text == "told"
    heard = (await ended(run)).text
    assert f"(message from teller, run {mouth.id}; these are not the user's words) the password is swordfish" in heard
    history = json.dumps((await run.handle.fetch_history()).to_json_dict())
    assert "swordfish" not in history


async def test_a_message_that_is_sent_twice_is_read_once(shop: OpenShop) -> None:
    """An attempt that has delivered and not settled is repeated: the message is the same."""
    from handfast.contracts.wire_words import Said

    listener = agent(
        "listener",
        lambda r: f"heard {len(said_to(r))}" if len(r.messages) > 3 else ask("wait_for_message", seconds=1.5),
        (),
        peers=("listener",),
    )
    desk = await shop(listener)
    run = await started(desk, "listener")
    await until(lambda: _turned(run))
    said = await desk.ledger.record_said(run.id, "a", "hello")
    for _ in range(3):
        await run.handle.execute_update("say", said)
    assert said == await desk.ledger.record_said(run.id, "a", "hello")
    assert isinstance(said, Said)
    assert (await ended(run)).text == "heard 1"


async def _turned(run: Any) -> bool:
    return bool((await run.state()).turn)


async def test_nobody_writes_to_whom_its_agent_does_not_name(shop: OpenShop) -> None:
    told: list[str] = []

    def write(request: ModelRequest) -> Any:
        if len(request.messages) == 1:
            return [
                ask("send_message", to="stranger", text="x"),
                ask("send_message", to=request.messages[0].text, text="x"),
            ]
        told.extend(result.text for result in request.messages[-1].results)
        return "done"

    writer = agent("writer", write, (), peers=("friend",))
    stranger = agent("stranger", [ask("wait_for_message", seconds=5), "bye"], (), peers=("writer",))
    desk = await shop(writer, stranger)
    other = await started(desk, "stranger")
    result = await ended(await started(desk, "writer", other.id))
    assert outcomes(result.operations) == [("send_message", "FAILED")] * 2
    assert all("that may be written to" in one for one in told)
    assert (await ended(other)).text == "bye"
    assert [e.kind for e in await desk.ledger.read_events(other.id) if e.kind == "said"] == []


async def test_other_tenants_are_out_of_reach(shop: OpenShop) -> None:
    writer = agent(
        "writer",
        lambda r: ask("send_message", to=r.messages[0].text, text="x") if len(r.messages) == 1 else "done",
        (),
        peers=("ear",),
    )
    ear = agent("ear", [ask("wait_for_message", seconds=4), "bye"], (), peers=("writer",))
    desk = await shop(writer, ear)
    other = await started(desk, "ear", tenant="another")
    assert outcomes((await ended(await started(desk, "writer", other.id))).operations) == [("send_message", "FAILED")]
    assert (await ended(other)).text == "bye"


async def test_who_has_ended_or_is_one_of_several_is_told_to_the_sender(shop: OpenShop) -> None:
    told: list[str] = []

    def write(request: ModelRequest) -> Any:
        if len(request.messages) == 1:
            return ask("ear", request="quick")
        if len(request.messages) == 3:
            return ask("send_message", to="ear", text="x")
        told.append(request.messages[-1].results[0].text)
        return "done"

    ear = agent("ear", ["bye"], (), peers=())
    desk = await shop(agent("boss", write, [sub(ear)], peers=("ear",)))
    assert (await ended(await started(desk))).status is RunStatus.COMPLETED
    assert "has ended, and reads nothing any more" in told[0]


async def test_a_wait_ends_by_itself_and_with_the_run(shop: OpenShop) -> None:
    waiter = agent(
        "waiter",
        [ask("wait_for_message", seconds=0.3), ask("wait_for_message", seconds=80_000), "x"],
        (),
        peers=("waiter",),
    )
    desk = await shop(waiter)
    run = await started(desk, "waiter")

    async def second() -> bool:
        return len(await run.operations()) == 2

    await until(second)
    await run.cancel()
    result = await ended(run)
    assert (result.status, outcomes(result.operations)[0]) == (RunStatus.CANCELLED, ("wait_for_message", "SUCCEEDED"))
    assert "nobody wrote within 0.3 s" in result.operations[0].result


async def test_the_user_ends_a_wait_too(shop: OpenShop) -> None:
    waiter = agent(
        "waiter", lambda r: wants(r) if said_to(r) else ask("wait_for_message", seconds=60), (), peers=("waiter",)
    )
    desk = await shop(waiter)
    run = await started(desk, "waiter")
    await until(lambda: _turned(run))
    await run.say("go on")
    assert (await ended(run)).text == "go on"


def test_peers_that_can_be_nobody_are_refused() -> None:
    with pytest.raises(ContractError, match="peers holds 'a b'"):
        agent("x", ["x"], (), peers=("a b",))

    with pytest.raises(ContractError, match="peers= needs a model"):
        Agent(name="x", peers=("y",))
