"""Half an emoji, NUL and cuts: no text that comes in ends a run, and no cut shows what the whole text hides."""

import asyncio
import json
import re
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from handfast import (
    Agent,
    DecisionRefused,
    Effect,
    HookWord,
    Limits,
    Outcome,
    Pending,
    Plan,
    Run,
    RunStatus,
    Script,
    Tier,
    ToolContext,
    ToolError,
    ask,
    compensation,
    read_plan,
    tool,
)
from handfast.contracts.errors import RunError
from handfast.contracts.policy import ProposedCall
from handfast.contracts.signing import StandardWebhooks
from handfast.contracts.upstream import Upstream
from handfast.gateway.app import _settlement as make_settlement  # pyright: ignore[reportPrivateUsage] - no process
from tests.conftest import OpenShop, Shop, new_database, outcomes, until
from tests.loopback import Loopback, answer_json
from tests.messages_api import Api, block, finish, start, stream, words

HALF, PAIR = "half \ud83d", "whole \ud83d\ude00"
ODD = f"{HALF}, {PAIR}, nul \x00."
CLEAN = "half �, whole 😀, nul �."
READ: dict[str, Any] = {"version": "1.0.0", "effect": Effect.READ, "tier": Tier.READ_ONLY, "scope": "x:r"}
KEYED: dict[str, Any] = {**READ, "effect": Effect.KEYED, "tier": Tier.REVERSIBLE, "scope": "x:w"}
IRREVERSIBLE: dict[str, Any] = {**KEYED, "tier": Tier.IRREVERSIBLE}
KEY = "sk-ant-a1B2c3D4e5F6g7H8i9J0k1L2m3"


def agent(*tools: Any, model: Any, **options: Any) -> Agent:
    return Agent(name="a", instructions="Test.", model=model, tools=tools, **options)


async def begun(desk: Shop, text: str = "Go", **options: Any) -> Run:
    return await desk.client.start("a", text, id=f"odd-{uuid.uuid4()}", **options)


async def ended(run: Run) -> Any:
    return await asyncio.wait_for(run.result(), 30)


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as made:
        made.reply = words("Done.")
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "sqlite" else new_database(request.getfixturevalue("postgres"))


async def test_what_people_say_is_cleaned_before_it_is_written_down(shop: OpenShop, api: Api, ledger_url: str) -> None:
    @tool(**IRREVERSIBLE)
    async def send(to: str) -> str:
        """Send."""
        return to

    api.answers = [said_by_a_model(("Sure.",), "send", '{"to": "x"}')] * 2
    desk = await shop(
        agent(send, model="claude-sonnet-5"), ledger_url=ledger_url, anthropic_api_key="k", anthropic_base_url=api.url
    )
    run = await begun(desk, ODD, user=ODD, tenant="t\x00")
    [waiting] = await until(lambda: waits(run))
    await run.say(ODD)
    await run.decide(waiting.operation, approve=False, by=f"ada {HALF}", reason=ODD)
    [waiting] = await until(lambda: waits(run))
    await run.decide(waiting.operation, approve=True, by=f"ada {HALF}")
    result = await ended(run)
    assert (result.text, outcomes(result.operations)) == (
        "Done.", [("send", Outcome.DENIED), ("send", Outcome.SUCCEEDED)],
    )  # fmt: skip
    summary = await run.summary()
    assert (summary.user, summary.tenant) == (CLEAN, "t�")
    said = str([event.content for event in await desk.ledger.read_events(run.id)])
    assert "\ud83d" not in said
    assert said.count(CLEAN) >= 4
    assert (await desk.ledger.verify(run.id)).faults == ()


async def waits(run: Run) -> Any:
    return (await run.state()).waiting


def said_by_a_model(pieces: tuple[str, ...], name: str, raw: str) -> Any:
    text = [{"type": "text_delta", "text": piece} for piece in pieces]
    thought = {"type": "thinking_delta", "thinking": HALF}
    call: dict[str, Any] = {"type": "tool_use", "id": f"t{uuid.uuid4().hex}", "name": name, "input": {}}
    return stream(
        start(),
        *block(0, {"type": "thinking", "thinking": "", "signature": ""}, thought),
        *block(1, {"type": "text", "text": ""}, *text),
        *block(2, call, {"type": "input_json_delta", "partial_json": raw}),
        *finish("tool_use"),
    )


async def test_half_an_emoji_of_the_model_ends_no_run(shop: OpenShop, api: Api, ledger_url: str) -> None:
    @tool(**READ)
    async def look() -> str:
        """Look."""
        return "seen"

    api.answers = [said_by_a_model(("hi \ud83d", "\ude00 \ud83d"), "look", "{}")]
    desk = await shop(
        agent(look, model="claude-sonnet-5"), ledger_url=ledger_url, anthropic_api_key="k", anthropic_base_url=api.url
    )
    assert (await ended(await begun(desk))).text == "Done."
    [_, answer, _] = api.seen[1]["messages"]
    assert "hi 😀 �" in [part.get("text") for part in answer["content"]]


class Booked(BaseModel):
    code: str
    notes: dict[str, Any]


async def test_what_a_call_returned_is_kept_whatever_its_texts_hold(shop: OpenShop, ledger_url: str) -> None:
    given: list[Any] = []

    @compensation()
    async def cancel(args: Any, result: Any, ctx: ToolContext) -> None:
        given.append((args.hotel, result))

    @tool(**KEYED, compensate=cancel)
    async def book(hotel: str, ctx: ToolContext) -> Booked:
        """Book."""
        await ctx.checkpoint({"at": ODD})
        return Booked(code=ODD, notes={f"k{PAIR}": [ODD], "\x00": 1})

    service = Loopback(lambda request: answer_json(request, 200, {"said": ODD}))

    @tool(**READ)
    async def look(ctx: ToolContext) -> Any:
        """Look."""
        return (await ctx.http("s").get("/")).json()

    model = Script([[ask("book", hotel=ODD), ask("look")], ask("look")])
    made = agent(book, look, model=model, limits=Limits(turns=1))
    desk = await shop(made, ledger_url=ledger_url, upstreams={"s": Upstream(base_url=service.url)})
    run = await begun(desk)
    await ended(run)
    kept = {"code": CLEAN, "notes": {"kwhole 😀": [CLEAN], "�": 1}}
    [booked, looked] = await run.operations()
    assert (booked.outcome, booked.result, looked.result) == (Outcome.COMPENSATED, kept, {"said": CLEAN})
    assert given == [(CLEAN, Booked.model_validate(kept))]
    service.stop()


async def test_errors_and_hooks_may_say_anything(shop: OpenShop, ledger_url: str) -> None:
    def hook(call: ProposedCall) -> HookWord:
        return HookWord(action="ask" if call.tool == "send" else "deny", reason=ODD)

    @tool(**KEYED)
    async def send(to: str) -> str:
        """Send."""
        raise ToolError(ODD, code=ODD, hint=ODD, fields={ODD: ODD})

    @tool(**KEYED)
    async def drop() -> str:
        """Drop."""
        return "dropped"

    made = agent(send, drop, model=Script([[ask("send", to="x"), ask("drop")], "done"]), hooks=[hook])
    desk = await shop(made, ledger_url=ledger_url)
    run = await begun(desk)
    [waiting] = await until(lambda: waits(run))
    await run.decide(waiting.operation, approve=True)
    result = await ended(run)
    told = {"code": CLEAN, "message": CLEAN, "hint": CLEAN, "fields": {CLEAN: CLEAN}}
    [sent, dropped] = result.operations
    assert {name: sent.result[name] for name in told} == told
    assert CLEAN in dropped.result["message"]


async def test_work_elsewhere_may_end_with_anything(shop: OpenShop, ledger_url: str) -> None:
    async def poll(args: Any, reference: str, ctx: ToolContext) -> Any:
        return {"said": ODD, "reference": reference}

    @tool(**KEYED, poll=poll)
    async def render() -> dict[str, str] | Pending:
        """Render."""
        return Pending(reference="j1", deadline=timedelta(minutes=1))

    desk = await shop(agent(render, model=Script([ask("render"), "done"])), ledger_url=ledger_url)
    [operation] = (await ended(await begun(desk))).operations
    assert operation.result == {"said": CLEAN, "reference": "j1"}


async def test_callbacks_may_hold_anything() -> None:
    @tool(**KEYED, callback=StandardWebhooks(secret="s"))
    async def job() -> dict[str, Any] | Pending:
        """Job."""
        return Pending(reference="j", deadline=timedelta(days=1))

    done = make_settlement(job, json.dumps({"result": {ODD: [ODD]}}).encode(), "op")
    assert (done.outcome, done.content) == (Outcome.SUCCEEDED, {CLEAN: [CLEAN]})
    failed = make_settlement(job, json.dumps({"error": {"message": ODD}}).encode(), "op")
    assert (failed.outcome, failed.content["message"]) == (Outcome.FAILED, CLEAN)


async def test_plans_may_hold_anything(shop: OpenShop, ledger_url: str, tmp_path: Path) -> None:
    @tool(**READ)
    async def look(what: str) -> str:
        """Look."""
        return what

    steps = {"s": {"tool": "look", "with": {"what": f"{ODD} ${{request.text}}"}}}
    fields: dict[str, Any] = {"request": {"text": "string"}, "output": "${steps.s.result}"}
    plan = Plan.model_validate({"name": "p", "agent": "a", "steps": steps, **fields})
    desk = await shop(Agent(name="a", tools=[look]), ledger_url=ledger_url)
    run = await desk.client.start_plan(plan, {"text": ODD}, id=f"odd-{uuid.uuid4()}")
    assert (await ended(run)).output == f"{CLEAN} {CLEAN}"
    path = tmp_path / "plan.yaml"
    path.write_text('name: p\nagent: a\nsteps: {s: {tool: look, with: {what: "\\ud83d\\ude00 \\ud83d"}}}\n')
    assert read_plan(path).steps["s"].arguments == {"what": "😀 �"}


async def test_what_is_said_to_a_run_is_bounded(shop: OpenShop) -> None:
    desk = await shop(agent(model=Script(["done"])))
    with pytest.raises(RunError, match="the request has 10000001 characters, allowed are 10000000"):
        await begun(desk, "x" * 10_000_001)
    with pytest.raises(RunError, match="agent of 65 characters: allowed are 64"):
        await desk.client.start("a" * 65, "Go")
    run = await begun(desk)
    with pytest.raises(DecisionRefused, match="a message of 10000001 characters"):
        await run.say("x" * 10_000_001)
    await ended(run)


async def test_a_stranger_with_too_long_a_name_starts_nothing(shop: OpenShop, ledger_url: str) -> None:
    desk = await shop(agent(model=Script(["done"])), ledger_url=ledger_url)
    request = {"agent": "a", "text": "Go", "user": "u" * 256}
    handle = await desk.client.temporal.start_workflow(
        "AgentRun", request, id=f"odd-{uuid.uuid4()}", task_queue=desk.settings.task_queue
    )
    with pytest.raises(Exception, match="failed") as failure:
        await asyncio.wait_for(handle.result(), 20)
    assert "user of 256 characters: allowed are 255" in str(failure.value.__cause__)


# Cuts -----------------------------------------------------------------------------------------------------------------


def reading_on(offsets: list[int], length: int, seen: list[str]) -> Script:
    """A model that reads a result, and then on in it from these places."""

    def step(request: Any) -> Any:
        results = request.messages[-1].results
        if not results:
            return ask("read_page")
        seen.append(results[0].text)
        if len(seen) > len(offsets):
            return "done"
        [operation] = re.findall(r'operation="([^"]+)"', seen[0])
        return ask("read_result", operation=operation, offset=offsets[len(seen) - 1], length=length)

    return Script(step)


@pytest.mark.parametrize("untrusted", [True, False])
@pytest.mark.parametrize("secret", ["bob.builder@example.com", KEY])
async def test_what_a_contract_hides_stays_hidden_when_a_result_is_read_on(
    shop: OpenShop, secret: str, untrusted: bool
) -> None:
    whole = "w " * 3000 + secret + " w" * 3000

    @tool(**READ, hides=("mail",), untrusted=untrusted)
    async def read_page() -> str:
        """Read."""
        return whole

    seen: list[str] = []
    cuts = [*range(5995, 6000 + len(secret) + 2, 4)]
    model = reading_on([*(cut - 300 for cut in cuts), *cuts], 300, seen)
    desk = await shop(agent(read_page, model=model, limits=Limits(turns=100, calls=100)))
    assert (await ended(await begun(desk))).status is RunStatus.COMPLETED
    assert len(seen) == 2 * len(cuts) + 1
    parts = {secret[at : at + 5] for at in range(len(secret) - 5)}
    assert not [part for part in parts for text in seen if part in text]
    assert any("hidden]" in text for text in seen)


async def test_a_secret_across_the_cut_of_a_result_is_not_seen_in_front_of_it(shop: OpenShop) -> None:
    first = 2000 * 2 // 3
    whole = "x" * (first - 12) + f" {KEY} " + "y" * 4000

    @tool(**READ)
    async def read_page() -> str:
        """Read."""
        return whole

    seen: list[str] = []
    desk = await shop(agent(read_page, model=reading_on([first - 100, first], 200, seen)))
    await ended(await begun(desk))
    assert not [text for text in seen if "sk-ant-a" in text or "a1B2c" in text or "k1L2" in text]


@pytest.mark.parametrize("raised", [ToolError, ValueError])
@pytest.mark.parametrize("place", [480, 495, 490])
async def test_a_secret_across_the_cut_of_an_error_is_not_seen(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch, raised: Any, place: int
) -> None:
    monkeypatch.setenv("HANDFAST_SECRET_S", "hunter2-hunter2-hunter2")
    seen: list[str] = []

    @tool(**READ, secrets=("s",), hides=("mail",), attempts=1)
    async def look(what: str, ctx: ToolContext) -> str:
        """Look."""
        secret = {"given": ctx.secret("s"), "mail": "bob.builder@example.com", "key": KEY}[what]
        filled = "look failed: ValueError: " if raised is ValueError else ""
        raise raised("." * (place - len(filled) - 1) + f" {secret} and so on " + "." * 200)

    def step(request: Any) -> Any:
        results = request.messages[-1].results
        seen.extend(result.text for result in results)
        return "done" if results else [ask("look", what=what) for what in ("given", "mail", "key")]

    desk = await shop(agent(look, model=Script(step)))
    run = await begun(desk)
    await ended(run)
    kept = str([event.content for event in await desk.ledger.read_events(run.id) if event.kind == "settled"])
    for part in ("hunter2", "bob.b", "sk-ant-", "a1B2"):
        assert not [text for text in [*seen, kept] if part in text]


async def test_a_shown_argument_is_searched_for_secrets_before_it_is_cut(shop: OpenShop) -> None:
    @tool(**READ, show=("note",))
    async def look(note: str) -> str:
        """Look."""
        return "seen"

    desk = await shop(agent(look, model=Script([ask("look", note="my key is " + KEY + " keep it"), "done"])))
    run = await begun(desk)
    await ended(run)
    [event] = [event for event in await desk.ledger.read_events(run.id) if event.kind == "turn"][:1]
    assert event.data["result"]["heads"][0]["show"] == "my key is [Anthropic key: hidden] keep …"
