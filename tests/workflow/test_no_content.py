"""Temporal's histories hold no contents, whatever goes wrong: each test marks contents with `PRIVATE` and looks for the marks."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, field_validator
from temporalio.client import WorkflowUpdateFailedError

from handfast import (
    Agent,
    Backoff,
    BackoffKind,
    Effect,
    HookWord,
    Limits,
    Outcome,
    Pending,
    Plan,
    Run,
    RunFailed,
    Script,
    Tier,
    ToolContext,
    ToolError,
    ask,
    compensation,
    tool,
)
from handfast.contracts.policy import ProposedCall
from handfast.contracts.upstream import Upstream
from handfast.workflows.agent_run import AgentRun
from tests.conftest import OpenShop, Shop, until
from tests.family.people import agent as member
from tests.family.people import sub
from tests.histories import PRIVATE, leaks_of
from tests.loopback import Loopback, answer_json
from tests.messages_api import Api, block, finish, start, stream, words

SOON = Backoff(kind=BackoffKind.FIXED, base=timedelta(milliseconds=20))
READ: dict[str, Any] = {
    "version": "1.0.0", "effect": Effect.READ, "tier": Tier.READ_ONLY, "scope": "x:r", "backoff": SOON, "attempts": 2,
}  # fmt: skip
KEYED: dict[str, Any] = {**READ, "effect": Effect.KEYED, "tier": Tier.REVERSIBLE, "scope": "x:w"}
ONCE: dict[str, Any] = {**KEYED, "effect": Effect.ONCE}
RECONCILED: dict[str, Any] = {**KEYED, "effect": Effect.RECONCILED}
IRREVERSIBLE: dict[str, Any] = {**ONCE, "tier": Tier.IRREVERSIBLE}


def mark(name: str) -> str:
    return f"{PRIVATE}{name}"


def agent(*tools: Any, model: Any, **options: Any) -> Agent:
    options = {"limits": Limits(turns=5, wall_time=timedelta(seconds=30)), **options}
    return Agent(name="a", instructions=mark("instructions"), model=model, tools=tools, **options)


async def begun(desk: Shop, text: str = mark("request"), name: str = "a") -> Run:
    return await desk.client.start(name, text, id=f"private-{uuid.uuid4()}", user="ada")


async def told(run: Run, *, seconds: float = 20) -> str:
    """How a run ends, in words for people."""
    async with asyncio.timeout(seconds):
        try:
            result = await run.result()
        except RunFailed as failure:
            return str(failure)
    return " ".join([result.text, result.reason, *(str(one.result) for one in result.operations)])


async def require_private(desk: Shop, run: Run, *more: str) -> None:
    children = [one.run_id for one in await run.children()]
    assert await leaks_of(desk.client.temporal, run.id, *children, *more) == []


class Iban(BaseModel):
    iban: str

    @field_validator("iban")
    @classmethod
    def known(cls, value: str) -> str:
        msg = f"{value} is no IBAN"
        raise ValueError(msg)


class Odd(Exception):
    """An error that tells all it knows."""

    def __init__(self) -> None:
        super().__init__(mark("odd"), {"key": mark("odd detail")})


def a_tool_error() -> ToolError:
    return ToolError(
        mark("message"), code=mark("code"), hint=mark("hint"), fields={mark("field"): mark("fault")}, retryable=True
    )


def a_misread_answer() -> Any:
    return TypeAdapter(dict[str, int]).validate_python({mark("key"): mark("value")})


def a_wrapped_error() -> Any:
    try:
        raise ValueError(mark("cause"))
    except ValueError as error:
        raise RuntimeError(mark("wrapper")) from error


def raised(how: Any) -> Any:
    made = how()
    raise made if isinstance(made, BaseException) else AssertionError


FAULTS = [
    a_tool_error, a_misread_answer, a_wrapped_error, Odd,
    lambda: ExceptionGroup(mark("group"), [ValueError(mark("leaf"))]), lambda: SystemExit(mark("exit")),
]  # fmt: skip
NAMES = ["tool error", "misread", "wrapped", "odd", "group", "exit"]


@pytest.mark.parametrize("how", FAULTS, ids=NAMES)
@pytest.mark.parametrize("lane", ["standard", "fast"])
async def test_what_a_tool_raises_stays_out_of_temporal(shop: OpenShop, how: Any, lane: str) -> None:
    @tool(**READ, lane=lane, timeout=timedelta(seconds=2))
    async def look(what: str) -> str:
        """Look."""
        raised(how)
        return what

    desk = await shop(agent(look, model=Script([ask("look", what=mark("argument")), mark("answer")])))
    run = await begun(desk)
    assert mark("answer") in await told(run)
    await require_private(desk, run)
    failed = [event for event in await desk.ledger.read_events(run.id) if event.kind == "failed"]
    assert [PRIVATE in event.content["message"] for event in failed] == [True]
    assert PRIVATE not in str([event.data for event in failed])


async def test_what_a_service_answers_stays_out_of_temporal(shop: OpenShop) -> None:
    answers = [500, 404, 500]
    service = Loopback(lambda request: answer_json(request, answers.pop(0), {"detail": mark("body")}))

    @tool(**READ)
    async def look(ctx: ToolContext) -> Any:
        """Look."""
        await ctx.checkpoint({"at": mark("checkpoint")})
        return (await ctx.http("s").get(f"/{mark('path')}", params={"q": mark("query")})).text

    @tool(**ONCE)
    async def send(body: dict[str, Any], ctx: ToolContext) -> Any:
        """Send."""
        return (await ctx.http("s").post("/", json=body)).text

    model = Script([ask("look"), ask("send", body={"deep": [{"er": mark("nested")}]}), "done"])
    desk = await shop(agent(look, send, model=model), upstreams={"s": Upstream(base_url=service.url)})
    run = await begun(desk)
    waiting = await until(lambda: in_doubt(run))
    await run.say(mark("said"))
    await run.resolve(waiting, happened=True, by="ada")
    await told(run)
    await require_private(desk, run)
    service.stop()


async def in_doubt(run: Run) -> str:
    return next((one.operation for one in (await run.state()).waiting if one.unknown), "")


@pytest.mark.parametrize("how", FAULTS, ids=NAMES)
async def test_what_looking_and_polling_raise_stays_out_of_temporal(shop: OpenShop, how: Any) -> None:
    async def find(args: Any, ctx: ToolContext) -> Any:
        raised(how)

    async def poll(args: Any, reference: str, ctx: ToolContext) -> Any:
        raised(how)

    @tool(**RECONCILED, reconcile=find)
    async def pay(amount: str) -> str:
        """Pay."""
        raise ToolError(mark("lost"), happened="unknown", retryable=True)

    @tool(**KEYED, poll=poll, polls=SOON)
    async def render(what: str) -> str | Pending:
        """Render."""
        return Pending(reference=mark("job"), deadline=timedelta(seconds=1))

    desk = await shop(agent(render, pay, model=Script([[ask("render", what=mark("x")), ask("pay", amount=mark("y"))]])))
    run = await begun(desk)
    waiting = await until(lambda: in_doubt(run))
    await run.cancel()
    await until(lambda: is_over(run))
    assert waiting in {one.operation_id for one in await run.operations()}
    await require_private(desk, run)


async def is_over(run: Run) -> bool:
    return (await run.summary()).status.closed


@pytest.mark.parametrize("how", FAULTS, ids=NAMES)
async def test_what_undoing_raises_stays_out_of_temporal(shop: OpenShop, how: Any) -> None:
    @compensation(attempts=2, backoff=SOON)
    async def cancel(args: Any, result: Any, ctx: ToolContext) -> None:
        raised(how)

    @tool(**KEYED, compensate=cancel)
    async def book(hotel: str) -> dict[str, str]:
        """Book."""
        return {"hotel": hotel, "code": mark("result")}

    desk = await shop(agent(book, model=Script([ask("book", hotel=mark("hotel"))])))
    run = await begun(desk)
    [stuck] = await until(lambda: blocked(run))
    assert PRIVATE in stuck.reason
    await run.unblock(stuck.operation, "done", by="ada")
    assert "the script has 1 steps" in await told(run)
    await require_private(desk, run)


async def blocked(run: Run) -> Any:
    return (await run.state()).blocked


@pytest.mark.parametrize("action", ["ask", "deny", "skip", "raise"])
async def test_what_hooks_and_validators_say_stays_out_of_temporal(shop: OpenShop, action: Any) -> None:
    def hook(call: ProposedCall) -> HookWord:
        if action == "raise":
            raise ValueError(mark("hook"))
        return HookWord(action=action, reason=mark("hook"))

    @tool(**ONCE)
    async def send(to: str) -> str:
        """Send."""
        return to

    @tool(**READ)
    async def look(args: Iban) -> str:
        """Look."""
        return args.iban

    asked = [ask("send", to=mark("to")), ask("look", iban=mark("iban")), ask(mark("tool"), deep=[mark("deep")])]
    desk = await shop(agent(send, look, model=Script([asked, "done"]), hooks=[hook]))
    run = await begun(desk)
    if action in {"ask", "raise"}:
        [waiting] = await until(lambda: waits(run))
        assert mark("hook") in waiting.reason
        await run.decide(waiting.operation, approve=True, changed={"to": mark("changed")})
    assert "done" in await told(run)
    tools = [one.tool for one in await run.operations()]
    assert mark("tool") in tools
    await require_private(desk, run)


async def waits(run: Run) -> Any:
    return (await run.state()).waiting


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as made:
        made.reply = words("Done.")
        yield made


def whole(*blocks: tuple[Any, ...], stop: str = "tool_use") -> Any:
    events = [event for number, parts in enumerate(blocks) for event in block(number, parts[0], *parts[1:])]
    return stream(start(), *events, *finish(stop))


def said_by_a_model(raw: str, stop: str = "tool_use") -> Any:
    call: dict[str, Any] = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    return whole(
        (thinking, {"type": "thinking_delta", "thinking": mark("thinking")}),
        ({"type": "text", "text": ""}, {"type": "text_delta", "text": mark("text")}),
        (call, {"type": "input_json_delta", "partial_json": raw}),
        stop=stop,
    )


def refused(status: int) -> Any:
    told = {"type": "error", "error": {"type": "invalid_request_error", "message": mark("provider")}}

    def reply(handler: BaseHTTPRequestHandler) -> None:
        answer_json(handler, status, told)

    return reply


def broken_off() -> Any:
    return stream(start(), {"type": "error", "error": {"type": "invalid_request_error", "message": mark("stream")}})


@pytest.mark.parametrize(
    "answers",
    [
        [said_by_a_model(f'{{"iban": "{mark("iban")}"}}')],
        [said_by_a_model(f'{{"iban": "{mark("iban")}",, }}')] * 9,
        [said_by_a_model(f'{{"iban": "{mark("iban")}"', stop="max_tokens")],
        [refused(400)],
        [refused(529), refused(500)],
        [broken_off()] * 9,
    ],
    ids=["whole", "no JSON", "cut off", "refused", "overloaded", "broken off"],
)
async def test_what_a_provider_sends_stays_out_of_temporal(shop: OpenShop, api: Api, answers: list[Any]) -> None:
    @tool(**READ)
    async def look(iban: str) -> str:
        """Look."""
        return mark("seen")

    api.answers = answers
    made = agent(look, model="claude-sonnet-5", limits=Limits(turns=5, wall_time=timedelta(seconds=3)))
    desk = await shop(made, anthropic_api_key="k", anthropic_base_url=api.url)
    run = await begun(desk)
    await told(run)
    await require_private(desk, run)


async def test_the_reason_of_a_failed_run_is_for_people_and_not_for_temporal(shop: OpenShop, api: Api) -> None:
    api.reply = refused(400)
    desk = await shop(agent(model="claude-sonnet-5"), anthropic_api_key="k", anthropic_base_url=api.url)
    run = await begun(desk)
    assert mark("provider") in await told(run)
    with pytest.raises(Exception, match="failed") as failure:
        await run.handle.result()
    assert "model_request_invalid: see entry" in str(failure.value.__cause__)
    await require_private(desk, run)


async def test_what_a_model_that_breaks_says_stays_out_of_temporal(shop: OpenShop) -> None:
    class Broken(Script):
        async def respond(self, request: Any) -> Any:
            raise Odd

    desk = await shop(agent(model=Broken([])))
    run = await begun(desk)
    assert mark("odd") in await told(run)
    await require_private(desk, run)


async def test_a_typed_answer_that_does_not_fit_stays_out_of_temporal(shop: OpenShop) -> None:
    desk = await shop(agent(model=Script([f'{{"iban": "{mark("iban")}"}}', mark("words")]), output=Iban))
    run = await begun(desk)
    await told(run)
    await require_private(desk, run)


LOOKS: dict[str, Any] = {"tool": "look", "with": {"what": {}}}
PLANS: list[tuple[dict[str, Any], str]] = [
    ({**LOOKS, "with": {"what": {"deep": mark("literal")}}}, mark("output")),
    ({"tool": "fails", "with": {"what": "${request.text}"}}, "ended as FAILED"),
    ({**LOOKS, "when": f"request.numbers[3] == '{mark('condition')}'"}, mark("condition")),
    ({**LOOKS, "with": {"what": {"deep": "${request.object.there}"}}}, "stands for nothing"),
    ({"tool": mark("tool"), "with": {"what": mark("argument")}}, mark("tool")),
    ({**LOOKS, "for_each": "${request.object.text}"}, "stands for nothing"),
]


@pytest.mark.parametrize(("step", "expected"), PLANS)
async def test_what_plans_are_given_and_why_they_fail_stays_out_of_temporal(
    shop: OpenShop, step: dict[str, Any], expected: str
) -> None:
    @tool(**READ)
    async def look(what: dict[str, str]) -> dict[str, str]:
        """Look."""
        return what

    @tool(**READ)
    async def fails(what: str) -> str:
        """Fail."""
        raise ValueError(what)

    request = {"text": "string", "numbers": "array", "object": {"type": "object"}}
    fields = {"request": request, "output": {"said": mark("output")}}
    plan = Plan.model_validate({"name": "p", "agent": "a", "steps": {"s": step}, **fields})
    desk = await shop(Agent(name="a", tools=[look, fails]))
    given = {"text": mark("request"), "numbers": [1], "object": {mark("key"): mark("value")}}
    run = await desk.client.start_plan(plan, given, id=f"private-{uuid.uuid4()}")
    assert expected in await told(run)
    await require_private(desk, run)


async def test_what_children_are_asked_and_why_they_fail_stays_out_of_temporal(shop: OpenShop) -> None:
    @tool(**READ)
    async def look(what: str) -> str:
        """Look."""
        raise ValueError(what)

    child = member("child", [ask("look", what=mark("argument"))], [look])
    boss = member("boss", [ask("child", request=mark("question")), mark("answer")], [sub(child)])
    desk = await shop(boss)
    run = await begun(desk, name="boss")
    assert mark("answer") in await told(run)
    await require_private(desk, run)


async def test_secrets_in_errors_stay_out_of_temporal_and_of_the_ledger(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDFAST_SECRET_S", mark("secret"))

    @tool(**READ, secrets=("s",))
    async def look(ctx: ToolContext) -> str:
        """Look."""
        raise ValueError(ctx.secret("s"))

    desk = await shop(agent(look, model=Script([ask("look"), "done"])))
    run = await begun(desk, "Go")
    await told(run)
    await require_private(desk, run)
    assert mark("secret") not in str([event.content for event in await desk.ledger.read_events(run.id)])


async def test_a_bug_in_the_workflow_tells_temporal_its_type_alone(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: Any) -> None:
        raise ZeroDivisionError(mark("bug"))

    monkeypatch.setattr(AgentRun, "_must_continue_as_new", bug)
    desk = await shop(agent(member_tool(), model=Script([ask("double", n=1), "done"])), sandboxed=False)
    run = await begun(desk)
    assert mark("bug") in await told(run)
    await require_private(desk, run)


def member_tool() -> Any:
    @tool(**READ)
    async def double(n: int) -> int:
        """Double."""
        return 2 * n

    return double


async def test_a_word_that_is_no_decision_is_refused_without_being_repeated(shop: OpenShop) -> None:
    @tool(**IRREVERSIBLE)
    async def send(to: str) -> str:
        """Send."""
        return to

    desk = await shop(agent(send, model=Script([ask("send", to=mark("to")), "done"])))
    run = await begun(desk)
    [waiting] = await until(lambda: waits(run))
    with pytest.raises(WorkflowUpdateFailedError) as refusal:
        await run.handle.execute_update("decide", {"operation": {"iban": mark("garbage")}})
    assert PRIVATE not in str(refusal.value.cause)
    await run.decide(waiting.operation, approve=False, reason="no")
    assert [one.outcome for one in await run.operations()] == [Outcome.DENIED]
    await told(run)
    await require_private(desk, run)
