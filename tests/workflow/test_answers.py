"""From a provider's bytes to a settled turn: what is not whole is not executed, what was paid is kept, what can't be used ends."""

import contextlib
import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema, create_model, field_validator

from handfast import (
    Agent,
    ContractError,
    Effect,
    Limits,
    ModelError,
    Outcome,
    Plan,
    RunFailed,
    RunStatus,
    Script,
    Tier,
    ask,
    tool,
)
from handfast.contracts.errors import ErrorCode
from handfast.contracts.messages import Message, ModelRequest, ModelResponse, Text, ToolCall, Usage
from handfast.contracts.price import FREE, Price
from handfast.contracts.stop_reasons import stop_rule
from tests.conftest import OpenShop, Shop
from tests.loopback import Answer, answer_json
from tests.messages_api import Api, answer, block, call, failure, finish, say, start, stream, tool_use, words

READ: dict[str, Any] = {"version": "1.0.0", "effect": Effect.READ, "tier": Tier.READ_ONLY, "scope": "x:r"}
ONCE: dict[str, Any] = {"version": "1.0.0", "effect": Effect.ONCE, "tier": Tier.REVERSIBLE, "scope": "x:w"}


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    made.reply = words("Done.")
    yield made
    made.stop()


class Bank:
    """A tool that pays, and what it has paid."""

    def __init__(self) -> None:
        self.paid: list[tuple[int, str]] = []

        @tool(**ONCE)
        async def pay(amount: int, to: str = "default") -> str:
            """Pay."""
            self.paid.append((amount, to))
            return "paid"

        self.tool = pay


@pytest.fixture
def bank() -> Bank:
    return Bank()


@tool(**READ)
async def look() -> str:
    """Look."""
    return "seen"


async def claude(shop: OpenShop, api: Api, *tools: Any, **options: Any) -> Shop:
    made = Agent(name="a", instructions="Test.", model="claude-sonnet-5", tools=tools, **options)
    return await shop(made, anthropic_api_key="k", anthropic_base_url=api.url)


async def ends(desk: Shop, name: str = "a") -> Any:
    return await desk.client.execute(name, "Go", id=f"r-{uuid.uuid4()}")


async def fails(desk: Shop, match: str, name: str = "a") -> str:
    """That a run fails with this reason; its id."""
    run = await desk.client.start(name, "Go", id=f"r-{uuid.uuid4()}")
    with pytest.raises(RunFailed, match=match):
        await run.result()
    return run.id


def told(request: dict[str, Any]) -> list[Any]:
    """What a request tells the model last: the results of its calls, as data."""
    last = request["messages"][-1]["content"]
    return [json.loads(part["content"]) for part in last if part["type"] == "tool_result"]


CUT = ["max_tokens", "model_context_window_exceeded", "refusal", "pause_turn", "content_filter", "", None]


@pytest.mark.parametrize("stop", CUT)
async def test_no_call_of_an_answer_that_is_not_complete_is_executed(
    shop: OpenShop, api: Api, bank: Bank, stop: Any
) -> None:
    whole = call("t0", "look", "{}")
    api.answers = [answer(whole, call("t1", "pay", '{"amount": 10'), stop=stop)]
    result = await ends(await claude(shop, api, bank.tool, look))
    assert bank.paid == []
    assert [one.outcome for one in result.operations] == [Outcome.DENIED] * 2
    goes_on = not (stop_rule(stop).full or stop_rule(stop).refused)
    assert len(api.seen) == (2 if goes_on else 1)
    if goes_on:
        assert all("none" in one["message"] and "executed" in one["message"] for one in told(api.seen[1]))


async def test_a_call_whose_answer_ends_the_turn_is_executed(shop: OpenShop, api: Api, bank: Bank) -> None:
    api.answers = [answer(call("t1", "pay", '{"amount": 1}'), stop="end_turn")]
    api.answers += [answer(call("t2", "pay", '{"amount"', ": 2}"), stop="stop_sequence")]
    await ends(await claude(shop, api, bank.tool))
    assert bank.paid == [(1, "default"), (2, "default")]


NOT_WHOLE = [
    '{"amount": 10, "to": "acct_1',
    '{"amount": 1',
    '{"amount": 1}{"to": "acct_1"}',
    '{"amount": 1 0}',
    '{"amount": 1} x',
    '{"amount": 1, "amount": 2}',
    '{"amount": 1, "\\u0061mount": 2}',
    '{"amount": 1,}',
    "{'amount': 1}",
    '[{"amount": 1}]',
    '"amount"',
    "1",
    "null",
    '{"amount": NaN}',
    '{"amount": -Infinity}',
    '{"amount": 1e999}',
    '{"amount": ' + "1" * 5000 + "}",
    '{"amount": 1, "to": ' + "[" * 5000 + "]" * 5000 + "}",
    '{"amount": 1, "to": ' + "[" * 100 + "]" * 100 + "}",
    '{"amount": 1, "to": "a\nb"}',
    " ",
]


@pytest.mark.parametrize("raw", NOT_WHOLE, ids=range(len(NOT_WHOLE)))
async def test_a_call_whose_arguments_are_no_json_object_is_denied_and_the_answer_paid_once(
    shop: OpenShop, api: Api, bank: Bank, raw: str
) -> None:
    api.answers = [answer(say("I pay."), call("t1", "pay", raw[:7], raw[7:]), call("t2", "look", "{}"))]
    desk = await claude(shop, api, bank.tool, look)
    result = await ends(desk)
    assert bank.paid == []
    assert [one.outcome for one in result.operations] == [Outcome.DENIED, Outcome.SUCCEEDED]
    denied = result.operations[0].result
    assert (denied["code"], len(api.seen)) == (ErrorCode.INVALID_ARGUMENTS, 2)
    assert "it was not executed" in denied["message"]
    turn = next(event for event in await desk.ledger.read_events(result.run_id) if event.kind == "turn")
    kept = turn.content["message"]["parts"][1]
    assert (kept["raw"], kept["arguments"]) == (raw[:4000], {})


async def test_a_call_that_needs_no_arguments_is_denied_too_if_those_it_has_are_not_whole(
    shop: OpenShop, api: Api
) -> None:
    acted: list[int] = []

    @tool(**ONCE)
    async def act(amount: int = 1) -> str:
        """Act."""
        acted.append(amount)
        return "acted"

    api.answers = [answer(call("t1", "act", '{"amount": 10'))]
    result = await ends(await claude(shop, api, act))
    assert (acted, result.operations[0].result["code"]) == ([], ErrorCode.INVALID_ARGUMENTS)


async def test_arguments_that_come_with_the_beginning_of_a_call_count(shop: OpenShop, api: Api, bank: Bank) -> None:
    given = {"type": "tool_use", "id": "t1", "name": "pay", "input": {"amount": 3}}
    twice = {"type": "input_json_delta", "partial_json": '{"amount": 4}'}
    same = {"type": "input_json_delta", "partial_json": '{"amount": 3}'}
    api.answers = [answer((given,), ({**given, "id": "t2"}, same), ({**given, "id": "t3"}, twice))]
    result = await ends(await claude(shop, api, bank.tool))
    assert bank.paid == [(3, "default")] * 2
    assert [one.outcome for one in result.operations][2] is Outcome.DENIED


PAY: dict[str, Any] = {"type": "tool_use", "id": "t1", "name": "pay", "input": {}}
WHOLE = {"type": "input_json_delta", "partial_json": '{"amount": 1}'}
BEGIN, DELTA, STOP = block(0, PAY, WHOLE)
DISORDER: dict[str, list[dict[str, Any]]] = {
    "a delta before the beginning": [start(), DELTA, BEGIN, STOP, *finish("tool_use")],
    "a delta behind the end": [start(), BEGIN, STOP, DELTA, *finish("tool_use")],
    "no end": [start(), BEGIN, DELTA, *finish("tool_use")],
    "an end without a beginning": [start(), STOP, BEGIN, DELTA, *finish("tool_use")],
    "two beginnings": [start(), BEGIN, BEGIN, DELTA, STOP, *finish("tool_use")],
    "the block twice": [start(), BEGIN, DELTA, STOP, BEGIN, DELTA, STOP, *finish("tool_use")],
    "deltas twice": [start(), BEGIN, DELTA, DELTA, STOP, *finish("tool_use")],
    "two messages": [start(), BEGIN, DELTA, STOP, start(), *finish("tool_use")],
    "behind the stop reason": [start(), finish("tool_use")[0], BEGIN, DELTA, STOP, finish("tool_use")[1]],
    "two stop reasons": [start(), BEGIN, DELTA, STOP, finish("tool_use")[0], *finish("max_tokens")],
    "no index": [start(), {"type": "content_block_start", "content_block": PAY}, DELTA, STOP, *finish("tool_use")],
    "a delta of text": [
        start(), BEGIN, {**DELTA, "delta": {"type": "text_delta", "text": "x"}}, DELTA, STOP, *finish("tool_use"),
    ],
    "a delta of an unknown kind": [
        start(), BEGIN, {**DELTA, "delta": {"type": "input_cbor_delta"}}, STOP, *finish("tool_use"),
    ],
    "a delta without text": [
        start(), BEGIN, {**DELTA, "delta": {"type": "input_json_delta", "partial_json": None}}, STOP, *finish("tool_use"),
    ],
    "no beginning of a block": [start(), DELTA, STOP, *finish("tool_use")],
    "no call": [start(), *finish("tool_use")],
}  # fmt: skip


@pytest.mark.parametrize("what", DISORDER)
async def test_nothing_of_an_answer_in_disorder_is_executed_and_the_model_is_told(
    shop: OpenShop, api: Api, bank: Bank, what: str
) -> None:
    api.answers = [stream(*DISORDER[what])]
    result = await ends(await claude(shop, api, bank.tool))
    assert (bank.paid, result.text, len(api.seen)) == ([], "Done.", 2)
    assert len(api.seen[1]["messages"]) == 3


HARMLESS: dict[str, list[dict[str, Any]]] = {
    "events behind the end": [start(), BEGIN, DELTA, STOP, *finish("tool_use"), start(), BEGIN],
    "an unknown event": [start(), {"type": "new_event", "x": 1}, BEGIN, DELTA, STOP, *finish("tool_use")],
    "a ping in the arguments": [start(), BEGIN, {"type": "ping"}, DELTA, {"type": "ping"}, STOP, *finish("tool_use")],
    "an unknown block": [start(), *block(1, {"type": "new_block"}), BEGIN, DELTA, STOP, *finish("tool_use")],
    "a block that ends twice": [start(), BEGIN, DELTA, STOP, STOP, *finish("tool_use")],
    "blocks in another order": [start(), *block(1, *say("So.")), BEGIN, DELTA, STOP, *finish("tool_use")],
    "blocks between each other": [
        start(), BEGIN, *block(1, *say("So.")), DELTA, STOP, *finish("tool_use"),
    ],
    "no beginning of the message": [BEGIN, DELTA, STOP, *finish("tool_use")],
    "an unknown delta of text": [
        start(), *block(1, {"type": "text", "text": "So."}, {"type": "citations_delta"}), BEGIN, DELTA, STOP, *finish("tool_use"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", HARMLESS)
async def test_a_whole_call_is_executed_whatever_else_is_in_the_stream(
    shop: OpenShop, api: Api, bank: Bank, what: str
) -> None:
    api.answers = [stream(*HARMLESS[what])]
    await ends(await claude(shop, api, bank.tool))
    assert bank.paid == [(1, "default")]


@pytest.mark.parametrize("stop", ["new_reason", None])
async def test_a_model_that_always_stops_for_an_unknown_reason_is_told_once_then_the_run_fails(
    shop: OpenShop, api: Api, stop: Any
) -> None:
    api.reply = answer(say("Here."), stop=stop)
    desk = await claude(shop, api)
    run_id = await fails(desk, "unknown reason twice in a row")
    assert len(api.seen) == 2
    assert (await desk.client.run(run_id).summary()).turns == 2


async def test_a_model_whose_calls_can_never_be_read_is_told_once_then_the_run_fails(
    shop: OpenShop, api: Api, bank: Bank
) -> None:
    api.reply = answer(call("t1", "pay", '{"amount": 1, "to": "PRIVATE-4711",, }'))
    desk = await claude(shop, api, bank.tool)
    run_id = await fails(desk, "no JSON object, twice in a row")
    assert (len(api.seen), bank.paid) == (2, [])
    history = await desk.client.temporal.get_workflow_handle(run_id).fetch_history()
    assert "PRIVATE-4711" not in history.to_json()


async def test_a_typed_answer_is_taken_only_from_a_complete_answer(shop: OpenShop, api: Api) -> None:
    class Verdict(BaseModel):
        amount: int = Field(ge=0)

    api.answers = [answer(say('{"amount": 1}'), stop="new_reason"), answer(say('{"amount": -2}'), stop="end_turn")]
    api.reply = words('{"amount": 3}')
    result = await ends(await claude(shop, api, output=Verdict))
    assert (result.output, result.turns) == ({"amount": 3}, 3)
    schema = api.seen[0]["output_config"]["format"]["schema"]
    assert "minimum" not in schema["properties"]["amount"]


class Tree(BaseModel):
    name: str
    children: "list[Tree]" = []


@pytest.mark.parametrize("kind", [Tree, dict[str, int], Any])
async def test_a_type_that_structured_outputs_can_not_express_is_asked_for_in_words(
    shop: OpenShop, api: Api, kind: Any
) -> None:
    typed = create_model("Answer", value=(kind, ...))
    value: dict[str, Any] = {"name": "a", "children": []} if kind is Tree else {"a": 1}
    api.reply = words(json.dumps({"value": value}))
    result = await ends(await claude(shop, api, output=typed))
    assert result.output == {"value": value}
    assert "output_config" not in api.seen[0]
    assert '"value"' in api.seen[0]["system"][0]["text"]


async def test_arguments_that_hold_themselves_reach_the_tool(shop: OpenShop, api: Api) -> None:
    seen: list[str] = []

    @tool(**READ)
    async def count(tree: Tree) -> int:
        """Count."""
        seen.append(tree.children[0].name)
        return 1

    api.answers = [tool_use("t1", "count", name="a", children=[{"name": "b"}])]
    await ends(await claude(shop, api, count))
    assert seen == ["b"]


def test_an_argument_whose_name_no_provider_takes_is_a_fault_of_the_contract() -> None:
    class Query(BaseModel):
        top: int = Field(alias="$top")

    with pytest.raises(ContractError, match=r"argument '\$top'"):

        @tool(**READ)
        async def query(args: Query) -> str:
            """Query."""
            return str(args.top)


SAID: dict[str, list[Answer]] = {
    "a name with other signs": [answer(call("t1", "$look.now", "{}"))],
    "an empty name": [answer(call("t1", "", "{}"))],
    "a long name": [answer(call("t1", "l" * 200, "{}"))],
    "a name with half a character": [answer(call("t1", "look\ud83d", "{}"))],
    "a name with a NUL": [answer(call("t1", "look\x00", "{}"))],
    "blank text": [answer(say("\n\n"), call("t1", "look", "{}"))],
    "empty text": [answer(say(""), call("t1", "look", "{}"))],
    "text behind a call": [answer(call("t1", "look", "{}"), say("So."))],
    "one id for two calls": [answer(call("t1", "look", "{}"), call("t1", "look", "{}"))],
    "an id of an earlier turn": [answer(call("t1", "look", "{}")), answer(call("t1", "look", "{}"))],
    "an id that looks like a made one": [
        answer(call("t1", "look", "{}"), call("t1", "look", "{}"), call("t1_2", "look", "{}"))
    ],
    "an id with a colon": [answer(call("functions.look:0", "look", "{}"))],
    "no id": [answer(call("", "look", "{}"), call("", "look", "{}"))],
    "a long id": [answer(call("t" * 500, "look", "{}"), call("t" * 500, "look", "{}"))],
    "an id with half a character": [answer(call("\ud83d", "look", "{}"), call("\ude00", "look", "{}"))],
    "nothing, cut off": [answer(stop="max_tokens")],
    "nothing, paused": [answer(stop="pause_turn")],
    "nothing, unknown": [answer(stop="new")],
    "nothing but white space, cut off": [answer(say(" \n "), stop="max_tokens")],
    "half an answer": [answer(say("Well, "), stop="pause_turn")],
    "reasoning without a signature": [
        answer(({"type": "thinking", "thinking": "hm"},), call("t1", "look", "{}"))
    ],
    "reasoning behind text": [
        answer(say("So."), ({"type": "thinking", "thinking": "hm", "signature": "s"},), call("t1", "look", "{}"))
    ],
    "reasoning with half a character": [
        answer(({"type": "thinking", "thinking": "hm \ud83d", "signature": "s"},), call("t1", "look", "{}"))
    ],
    "reasoning with fields of its own": [
        answer(({"type": "thinking", "thinking": "hm", "signature": "s", "new": 1},), call("t1", "look", "{}"))
    ],
    "redacted reasoning": [answer(({"type": "redacted_thinking", "data": "abc"},), call("t1", "look", "{}"))],
    "reasoning alone": [answer(({"type": "thinking", "thinking": "hm", "signature": "s"},), stop="max_tokens")],
    "half a character in text": [answer(say("hi \ud83d"), call("t1", "look", "{}"))],
    "half a character in arguments": [answer(call("t1", "look", '{"a": "\\ud83d", "\\ude00": 1}'))],
    "an unknown block alone": [answer(({"type": "new_block"},), stop="max_tokens")],
    "a call of a tool that is not there": [answer(call("t1", "gone", "{}"))],
}  # fmt: skip


@pytest.mark.parametrize("what", SAID)
async def test_whatever_a_model_says_the_next_request_is_valid_and_the_run_goes_on(
    shop: OpenShop, api: Api, what: str
) -> None:
    api.answers = list(SAID[what])
    result = await ends(await claude(shop, api, look))
    assert (result.status, result.text) == (RunStatus.COMPLETED, "Done.")
    assert len(api.seen) == len(SAID[what]) + 1


async def test_a_call_without_any_tools_goes_back_as_words(shop: OpenShop, api: Api) -> None:
    api.answers = [answer(call("t1", "look", '{"where": "here"}'))]
    assert (await ends(await claude(shop, api))).text == "Done."
    assert "look" in api.seen[1]["messages"][1]["content"][0]["text"]


async def test_a_character_that_two_deltas_hold_halves_of_is_whole(shop: OpenShop, api: Api) -> None:
    @tool(**READ)
    async def echo(text: str) -> str:
        """Say it again."""
        return text

    thinking = {"type": "thinking", "thinking": "", "signature": "s"}
    halves = [{"type": "thinking_delta", "thinking": half} for half in ("\ud83d", "\ude00")]
    arguments = call("t1", "echo", '{"text": "\\ud83d', '\\ude00"}')
    api.answers = [answer((thinking, *halves), say("hi \ud83d", "\ude00"), arguments)]
    await ends(await claude(shop, api, echo))
    back = api.seen[1]["messages"][1]["content"]
    assert back[0] == {"type": "thinking", "thinking": "😀", "signature": "s"}
    assert back[1] == {"type": "text", "text": "hi 😀"}
    assert back[2]["input"] == {"text": "😀"}
    assert api.seen[1]["messages"][2]["content"][0]["content"] == "😀"


def page(code: int) -> Answer:
    def big(handler: Any) -> None:
        message = "x" * 5_000_000
        answer_json(handler, code, {"type": "error", "error": {"type": "invalid_request_error", "message": message}})

    return big


async def test_an_error_of_five_megabytes_ends_the_run_with_a_short_reason(shop: OpenShop, api: Api) -> None:
    api.answers = [page(502)]
    api.reply = page(400)
    desk = await claude(shop, api)
    run_id = await fails(desk, "answered 400")
    [closed] = [event for event in await desk.ledger.read_events(run_id) if event.kind == "closed"]
    assert len(json.dumps(closed.content)) < 1000
    assert len(api.seen) == 2


def error_event(kind: str, message: str = "so it is") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


FINAL = ["invalid_request_error", "authentication_error", "billing_error", "permission_error", "not_found_error"]


@pytest.mark.parametrize("kind", FINAL)
async def test_an_error_in_the_stream_that_nothing_heals_ends_the_run(shop: OpenShop, api: Api, kind: str) -> None:
    api.reply = stream(start(), error_event(kind, "y" * 100_000))
    await fails(await claude(shop, api), f"broke off with {kind}")
    assert len(api.seen) == 1


@pytest.mark.parametrize("kind", ["overloaded_error", "api_error", "rate_limit_error", "timeout_error", "new_error"])
async def test_an_error_in_the_stream_that_may_heal_is_tried_again(
    shop: OpenShop, api: Api, bank: Bank, kind: str
) -> None:
    api.answers = [stream(start(), BEGIN, DELTA, STOP, error_event(kind))]
    assert (await ends(await claude(shop, api, bank.tool))).text == "Done."
    assert (bank.paid, len(api.seen)) == ([], 2)


async def test_a_status_that_says_the_request_is_wrong_is_not_tried_again(shop: OpenShop, api: Api) -> None:
    api.reply = failure(405, "x", "no such method")
    await fails(await claude(shop, api), "answered 405.*no such method")
    assert len(api.seen) == 1


async def test_json_in_the_place_of_a_stream_ends_the_run(shop: OpenShop, api: Api) -> None:
    api.reply = lambda handler: answer_json(handler, 200, {"type": "message", "content": []})
    await fails(await claude(shop, api), "allowed is 'text/event-stream'")
    assert len(api.seen) == 1


USAGES: list[Any] = [None, {}, {"output_tokens": None}, {"output_tokens": -5}, {"output_tokens": "7"}, "many", 10**30]


@pytest.mark.parametrize("usage", USAGES)
async def test_a_usage_that_is_missing_is_estimated(shop: OpenShop, api: Api, usage: Any) -> None:
    begin = start()
    begin["message"]["usage"] = usage if isinstance(usage, dict | None) else {"input_tokens": usage}
    end, over = finish("end_turn")
    end["usage"] = usage
    api.reply = stream(begin, *block(0, *say("Done, and more than a few words of it.")), end, over)
    result = await ends(await claude(shop, api))
    assert (result.text[:4], len(api.seen)) == ("Done", 1)
    assert result.usage.input_tokens > 0
    assert 5 < result.usage.output_tokens < 50
    assert result.cost_usd > 0


async def test_a_usage_in_fractions_is_rounded_up(shop: OpenShop, api: Api) -> None:
    begin, (end, over) = start(input_tokens=7), finish("end_turn")
    end["usage"] = {"output_tokens": 2.5, "cache_read_input_tokens": None}
    api.reply = stream(begin, *block(0, *say("Done.")), end, over)
    assert (await ends(await claude(shop, api))).usage == Usage(input_tokens=7, output_tokens=3)


async def test_an_answer_that_is_too_large_is_told_to_the_model_and_not_read_to_its_end(
    shop: OpenShop, api: Api, bank: Bank
) -> None:
    piece = {"type": "text_delta", "text": "x" * 1_000_000}
    big = [*block(0, {"type": "text", "text": ""}, *[piece] * 9), *block(1, PAY, WHOLE)]
    api.answers = [stream(start(), *big, *finish("tool_use"))]
    limits = Limits(tokens=10**9, cost_usd=10**6)
    result = await ends(await claude(shop, api, bank.tool, limits=limits))
    assert (bank.paid, result.text) == ([], "Done.")
    assert len(json.dumps(api.seen[1])) < 20_000
    assert "too large" in api.seen[1]["messages"][-1]["content"][-1]["text"]


async def test_arguments_that_are_too_large_are_denied(shop: OpenShop, api: Api, bank: Bank) -> None:
    api.answers = [answer(call("t1", "pay", '{"amount": 1, "to": "', *["x" * 1_000_000] * 5, '"}'))]
    result = await ends(await claude(shop, api, bank.tool))
    assert (bank.paid, result.operations[0].result["code"]) == ([], ErrorCode.INVALID_ARGUMENTS)


class Own:
    """A model of somebody's own that gives whatever it is told to, one after the other."""

    id = "own"

    def __init__(self, *answers: Any, price: Price = FREE) -> None:
        self.price = price
        self.answers = list(answers)
        self.seen: list[ModelRequest] = []

    async def respond(self, request: ModelRequest) -> ModelResponse:
        self.seen.append(request)
        return self.answers.pop(0) if self.answers else response("end_turn", Text(text="Done."))


def response(stop: Any, *parts: Any, usage: Usage | None = None) -> ModelResponse:
    return ModelResponse(message=Message(role="assistant", parts=parts), stop_reason=stop, usage=usage)


async def owned(shop: OpenShop, model: Any, *tools: Any, **options: Any) -> Shop:
    return await shop(Agent(name="a", instructions="Test.", model=model, tools=tools, **options))


@pytest.mark.parametrize("stop", CUT)
async def test_a_model_of_ones_own_is_held_to_the_same_stop_reasons(shop: OpenShop, bank: Bank, stop: Any) -> None:
    model = Own(response(stop, ToolCall(id="t1", tool="pay", arguments={"amount": 1})))
    result = await ends(await owned(shop, model, bank.tool))
    assert (bank.paid, [one.outcome for one in result.operations]) == ([], [Outcome.DENIED])


class Odd:
    """Something that is no JSON, and can't even be shown."""

    def __repr__(self) -> str:
        raise KeyError("no")


LOOP: list[Any] = []
LOOP.append(LOOP)
ODD = [
    {"amount": float("nan")}, {"amount": Odd()}, {"amount": {1, 2}}, {1: "amount"}, {"amount": LOOP}, {"amount": b"1"},
    {"amount": 10**5000},
]  # fmt: skip


@pytest.mark.parametrize("arguments", ODD, ids=range(len(ODD)))
async def test_arguments_of_ones_own_model_that_are_no_json_are_denied(
    shop: OpenShop, bank: Bank, arguments: Any
) -> None:
    odd = ToolCall.model_construct(id="t1", tool="pay", arguments=arguments)
    model = Own(response("tool_use", ToolCall(id="t0", tool="pay", arguments={})))
    model.answers[0] = ModelResponse.model_construct(
        message=Message.model_construct(role="assistant", parts=(odd,)), stop_reason="tool_use", usage=None, model=""
    )
    result = await ends(await owned(shop, model, bank.tool))
    assert (bank.paid, result.operations[0].result["code"]) == ([], ErrorCode.INVALID_ARGUMENTS)
    assert len(model.seen) == 2


NOTHING: Any = None
EMPTY = ModelResponse.model_construct(message=NOTHING, stop_reason="end_turn")


@pytest.mark.parametrize("given", [None, {"text": "Done."}, "Done.", EMPTY])
async def test_what_is_no_answer_fails_the_run_at_once(shop: OpenShop, given: Any) -> None:
    model = Own(given, given)
    await fails(await owned(shop, model), "model own returned")
    assert len(model.seen) == 1


class Failing(Own):
    """A model of one's own that fails with a whole page, with half a character in it."""

    async def respond(self, request: ModelRequest) -> ModelResponse:
        self.seen.append(request)
        raise ModelError("no \ud83d" + "x" * 5_000_000, ErrorCode.MODEL_REQUEST_INVALID)


async def test_a_page_of_an_error_of_ones_own_model_ends_the_run_with_its_beginning(shop: OpenShop) -> None:
    model = Failing()
    await fails(await owned(shop, model), "no \ufffdxxx")
    assert len(model.seen) == 1


COUNTRIES = {"DE": 19}


class Country(BaseModel):
    country: str

    @field_validator("country")
    @classmethod
    def known(cls, value: str) -> str:
        assert COUNTRIES[value]
        return value


async def test_an_answer_whose_check_raises_anything_is_a_misfit(shop: OpenShop) -> None:
    model = Script(lambda request: '{"country": "DE"}' if len(request.messages) > 1 else '{"country": "XX"}')
    assert (await ends(await owned(shop, model, output=Country))).output == {"country": "DE"}


class Money:
    def __init__(self, text: Any) -> None:
        self.cents = int(text)


class Amount(BaseModel):
    money: Annotated[Any, PlainValidator(Money), WithJsonSchema({"type": "string"})]


async def test_an_answer_that_is_no_json_is_a_misfit(shop: OpenShop) -> None:
    model = Script(lambda request: '{"money": "1"}')
    desk = await owned(shop, model, output=Amount, limits=Limits(turns=3))
    assert (await ends(desk)).limit == "turns"


class Broken(Price):
    """A price that raises once its tokens are real."""

    def of(self, usage: Usage) -> Any:
        if usage.output_tokens == 13:
            raise KeyError("no price for 13 tokens of PRIVATE-1")
        return super().of(usage)


USED = Usage(input_tokens=100, output_tokens=13)


async def test_an_answer_that_can_not_be_settled_is_asked_for_once_and_the_run_fails_with_the_reason(
    shop: OpenShop,
) -> None:
    model = Own(response("end_turn", Text(text="Done."), usage=USED), price=Broken(input=Decimal(1), output=Decimal(1)))
    desk = await owned(shop, model)
    run_id = await fails(desk, r"could not be settled: KeyError \(3 of 3 tries\)")
    events = await desk.ledger.read_events(run_id)
    kept = [event for event in events if event.kind == "unsettled"]
    assert (len(model.seen), len(kept)) == (1, 3)
    assert kept[0].content["answer"]["message"]["parts"][0]["text"] == "Done."
    assert "PRIVATE-1" not in (await desk.client.run(run_id).handle.fetch_history()).to_json()
    assert (await desk.client.run(run_id).summary()).tokens == USED.total
    assert not [event for event in events if event.kind == "repeated"]
    assert (await desk.ledger.verify(run_id)).faults == ()


class Healing(Price):
    """A price that raises in the first two tries, in which it is asked twice each."""

    tries: list[int]

    def of(self, usage: Usage) -> Any:
        if usage == USED:
            self.tries.append(1)
            if len(self.tries) <= 4:
                raise KeyError("not yet")
        return super().of(usage)


async def test_an_answer_that_a_later_try_can_settle_is_paid_and_counted_once(shop: OpenShop) -> None:
    model = Own(
        response("end_turn", Text(text="Done."), usage=USED),
        price=Healing(input=Decimal(1_000_000), output=Decimal(0), tries=[]),
    )
    desk = await owned(shop, model)
    result = await ends(desk)
    # The failed tries could not count the cost: they have counted the tokens.
    assert (result.text, len(model.seen), result.tokens) == ("Done.", 1, USED.total)


class Wrong(BaseModel):
    country: str

    @field_validator("country")
    @classmethod
    def known(cls, value: str) -> str:
        raise KeyError(value)


async def test_a_plan_whose_call_can_not_be_judged_ends(shop: OpenShop) -> None:
    @tool(**READ)
    async def take(args: Wrong) -> str:
        """Take."""
        return args.country

    desk = await shop(Agent(name="a", instructions="Test.", tools=[take]))
    written = {"name": "p", "agent": "a", "steps": {"t": {"tool": "take", "with": {"country": "XX"}}}}
    run = await desk.client.start_plan(Plan.model_validate(written), id=f"p-{uuid.uuid4()}")
    with pytest.raises(RunFailed):
        await run.result()


async def test_a_child_that_can_not_be_begun_ends_its_parent_or_is_denied(shop: OpenShop) -> None:
    inner = Agent(name="inner", instructions="Test.", model=Script(["done"]))
    outer = Agent(
        name="a",
        instructions="Test.",
        model=Script([ask("inner", country="XX"), "done"]),
        tools=[inner.as_tool(input=Wrong, description="Ask it.")],
    )
    desk = await shop(outer)
    run = await desk.client.start("a", "Go", id=f"r-{uuid.uuid4()}")
    with contextlib.suppress(RunFailed):
        assert (await run.result()).operations[0].outcome is Outcome.DENIED
    assert (await run.summary()).status in {RunStatus.COMPLETED, RunStatus.FAILED}
