"""Situations that people have reported about other software of this kind, each tried through the whole loop."""

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Annotated, Any, cast

import pytest
from pydantic import AfterValidator, BaseModel

from handfast import Agent, ContractError, Effect, Outcome, RunFailed, RunResult, RunStatus, Script, Tier, ask, tool
from handfast.contracts.messages import ModelRequest, ModelResponse
from tests.conftest import OpenShop, Shop, outcomes, until
from tests.effects.agents import agent
from tests.messages_api import Api, answer, block, call, say, start, stream, words

READ: dict[str, Any] = {"version": "1.0.0", "effect": Effect.READ, "tier": Tier.READ_ONLY, "scope": "x:r"}
ONCE: dict[str, Any] = {"version": "1.0.0", "effect": Effect.ONCE, "tier": Tier.REVERSIBLE, "scope": "x:w"}


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    made.reply = words("Done.")
    yield made
    made.stop()


async def claude(shop: OpenShop, api: Api, *tools: Any) -> Shop:
    made = Agent(name="tester", instructions="Test.", model="claude-sonnet-5", tools=tools)
    return await shop(made, anthropic_api_key="k", anthropic_base_url=api.url)


async def ends(desk: Shop) -> RunResult:
    return await desk.client.execute("tester", "Go", id=f"r-{uuid.uuid4()}")


def told(request: dict[str, Any]) -> list[str]:
    """What a request tells the model of its calls."""
    return [part["content"] for part in request["messages"][-1]["content"] if part["type"] == "tool_result"]


async def test_a_plain_function_that_raises_stop_iteration_has_failed(shop: OpenShop) -> None:
    """It leaves the future of its thread pending for ever (langchain-ai/langchain#22997, python/cpython#112182)."""

    @tool(**READ, attempts=1, timeout=timedelta(minutes=10))
    def first() -> int:
        """Give the first of none."""
        return next(number for number in cast("list[int]", []))

    result = await ends(await shop(agent(ask("first"), "went on", tools=[first])))
    [operation] = result.operations
    assert (operation.outcome, operation.result["code"]) == (Outcome.FAILED, "tool_failed")
    assert "StopIteration" in operation.result["message"]


class Unprintable(Exception):
    """An error whose author took paths for texts (coveooss/coveo-python-oss#132)."""

    def __str__(self) -> str:
        return " ".join(cast("list[str]", [1, 2]))


def breaks(_: Any) -> Any:
    raise Unprintable


async def test_an_error_that_can_not_be_printed_is_told_as_any_other(shop: OpenShop) -> None:
    tried: list[int] = []

    @tool(**READ, attempts=2)
    async def look() -> int:
        """Look."""
        tried.append(1)
        raise Unprintable

    result = await ends(await shop(agent(ask("look"), "went on", tools=[look])))
    [operation] = result.operations
    assert (operation.outcome, operation.result["code"], len(tried)) == (Outcome.FAILED, "tool_failed", 2)
    assert operation.result["message"] == "look failed: Unprintable: (its message can't be read)"


async def test_a_call_that_acts_and_raises_what_can_not_be_printed_waits_for_a_person(shop: OpenShop) -> None:
    @tool(**ONCE)
    async def pay() -> int:
        """Pay."""
        raise Unprintable

    desk = await shop(agent(ask("pay"), "done", tools=[pay]))
    run = await desk.client.start("tester", "Go", id="unprintable")

    async def known() -> Any:
        return [one for one in await run.operations() if one.outcome is not None]

    [operation] = await until(known)
    assert (operation.outcome, operation.result["code"]) == (Outcome.UNKNOWN, "tool_failed")
    await run.resolve(operation.operation_id, happened=True, by="ada")
    assert (await run.result()).text == "done"


class Country(BaseModel):
    country: str


def known(country: str) -> str:
    return breaks(country) if country == "XX" else country


class Known(BaseModel):
    country: Annotated[str, AfterValidator(known)]


async def test_a_check_that_raises_what_can_not_be_printed_refuses_what_it_checks(shop: OpenShop) -> None:
    @tool(**READ)
    async def look(where: Known) -> str:
        """Look."""
        return where.country

    steps = ask("look", country="XX"), '{"country": "XX"}', '{"country": "DE"}'
    result = await ends(await shop(agent(*steps, tools=[look], output=Known)))
    assert (outcomes(result.operations), result.output) == ([("look", Outcome.DENIED)], {"country": "DE"})


async def test_a_hook_that_raises_what_can_not_be_printed_has_a_person_asked(shop: OpenShop) -> None:
    @tool(**READ)
    async def look() -> str:
        """Look."""
        return "seen"

    desk = await shop(agent(ask("look"), "done", tools=[look], hooks=(breaks,)))
    run = await desk.client.start("tester", "Go", id="hook")

    async def waiting() -> Any:
        return (await run.state()).waiting

    [held] = await until(waiting)
    await run.decide(held.operation, approve=True, by="ada")
    assert outcomes((await run.result()).operations) == [("look", Outcome.SUCCEEDED)]


async def test_a_model_that_raises_what_can_not_be_printed_ends_the_run(shop: OpenShop) -> None:
    asked: list[int] = []

    class Broken(Script):
        async def respond(self, request: ModelRequest) -> ModelResponse:
            asked.append(1)
            raise Unprintable

    desk = await shop(Agent(name="tester", instructions="Test.", model=Broken([])))
    with pytest.raises(RunFailed, match="Unprintable"):
        await ends(desk)
    assert len(asked) == 3


async def test_counts_that_are_zero_at_the_end_of_a_stream_take_nothing_back(shop: OpenShop, api: Api) -> None:
    """Proxies state them anew with the end, as 0 (envoyproxy/ai-gateway#1631); a budget would not see what was read."""
    zero = dict.fromkeys(("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"), 0)
    end: list[dict[str, Any]] = [
        {"type": "message_delta", "delta": {}, "usage": {**zero, "output_tokens": 5}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {**zero, "output_tokens": 7}},
        {"type": "message_stop"},
    ]
    begin = start(input_tokens=1000, cache_read_input_tokens=500, cache_creation_input_tokens=50)
    api.answers = [stream(begin, *block(0, *say("Done.")), *end)]
    usage = (await ends(await claude(shop, api))).usage
    assert (usage.input_tokens, usage.output_tokens) == (1000, 7)
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (500, 50)


async def test_counts_that_grow_while_a_stream_goes_on_count_once(shop: OpenShop, api: Api) -> None:
    """They are cumulative: neither added up, nor ignored at the end (cline/cline#4346, LibreChat-AI/agents#150)."""
    counts = {"input_tokens": 1200, "output_tokens": 7}
    end: list[dict[str, Any]] = [
        {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 1100, "output_tokens": 5}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": counts},
        {"type": "message_stop"},
    ]
    api.answers = [stream(start(input_tokens=0), *block(0, *say("Done.")), *end)]
    usage = (await ends(await claude(shop, api))).usage
    assert (usage.input_tokens, usage.output_tokens) == (1200, 7)


@pytest.mark.parametrize(
    "text",
    ["```json\n{}\n```", "\n```\n{}\n```\n", "```JSON  \r\n{}\n  ```", "```json\n\n{}\n\n```"],
    ids=["json", "no name", "capitals", "blank lines"],
)
async def test_a_typed_answer_in_the_fence_of_a_code_block_is_read(shop: OpenShop, text: str) -> None:
    """Models write it so, wherever nothing else gives the form (crewAIInc/crewAI#4641, google/adk-python#2088)."""
    desk = await shop(agent(text.replace("{}", '{"country": "DE"}'), tools=[], output=Country))
    result = await ends(desk)
    assert (result.output, result.turns) == ({"country": "DE"}, 1)


@pytest.mark.parametrize("fence", ["{}", "```json\n{}\n```"], ids=["bare", "fenced"])
async def test_a_fence_within_a_typed_answer_stays(shop: OpenShop, fence: str) -> None:
    """A text of the answer may hold code itself (agno-agi/agno#5901)."""
    country = "```python\nprint()\n```"
    desk = await shop(agent(fence.replace("{}", json.dumps({"country": country})), tools=[], output=Country))
    assert (await ends(desk)).output == {"country": country}


@pytest.mark.parametrize(
    "text", ['Here: ```json\n{"country": "FR"}\n```', '```json\n{"country": "FR"}', '```{"country"']
)
async def test_what_is_more_or_less_than_one_fence_is_no_typed_answer(shop: OpenShop, text: str) -> None:
    desk = await shop(agent(text, '{"country": "DE"}', tools=[], output=Country))
    assert (await ends(desk)).output == {"country": "DE"}


async def test_arguments_may_have_the_names_of_keywords_and_of_old_methods(shop: OpenShop, api: Api) -> None:
    """They are lost where schemas are rewritten by name (langchain-ai/langchain#32224), or refused for pydantic's sake
    (Tracer-Cloud/opensre#697).
    """
    seen: list[Any] = []
    given = {"title": "a", "type": "b", "properties": {"c": "d"}, "default": 3, "schema": "e", "json": "f", "copy": "g"}

    @tool(**READ)
    async def note(
        title: str, type: str, properties: dict[str, str], default: int, schema: str, json: str = "", copy: str = ""
    ) -> str:
        """Note."""
        seen.append([title, type, properties, default, schema, json, copy])
        return "ok"

    api.answers = [answer(call("t1", "note", json.dumps(given)))]
    result = await ends(await claude(shop, api, note))
    assert (seen, outcomes(result.operations)) == ([list(given.values())], [("note", Outcome.SUCCEEDED)])
    assert set(api.seen[0]["tools"][0]["input_schema"]["properties"]) == set(given)


def _config(model_config: str) -> str:
    return model_config


def _extra(model_extra: str) -> str:
    return model_extra


def _dump(model_dump: str) -> str:
    return model_dump


def _fields_set(model_fields_set: str) -> str:
    return model_fields_set


@pytest.mark.parametrize("function", [_config, _extra, _dump, _fields_set])
def test_a_name_under_which_a_tool_would_get_another_value_is_refused(function: Callable[..., Any]) -> None:
    name = function.__code__.co_varnames[0]
    with pytest.raises(ContractError, match=f"parameter '{name}': .*choose another"):
        tool(**READ, description="Look.")(function)


@pytest.mark.parametrize("said", [(say("I look."),), ()], ids=["words", "nothing"])
async def test_an_answer_that_stops_for_a_call_without_one_ends_in_bounded_time(
    shop: OpenShop, api: Api, said: Any
) -> None:
    """Nothing is there to carry out, and asking again for ever is paid for (mastra-ai/mastra#14187, Kilo-Org/kilocode#7773)."""
    api.answers = [answer(*said, stop="tool_use")]
    desk = await claude(shop, api)
    result = await ends(desk)
    assert (result.status, result.text, len(api.seen)) == (RunStatus.COMPLETED, "Done.", 2)
    api.reply = answer(*said, stop="tool_use")
    with pytest.raises(RunFailed, match="called none"):
        await ends(desk)
    assert len(api.seen) == 4


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-inf", "1e999"])
async def test_a_text_that_names_no_finite_number_pays_nothing(shop: OpenShop, amount: str) -> None:
    """Pydantic takes it for a float (fastapi/fastapi#4589), and every comparison with NaN is false."""
    paid: list[float] = []

    @tool(**ONCE)
    async def pay(amount: float) -> str:
        """Pay."""
        paid.append(amount)
        return "paid"

    result = await ends(await shop(agent(ask("pay", amount=amount), "done", tools=[pay])))
    assert (paid, outcomes(result.operations)) == ([], [("pay", Outcome.DENIED)])
    assert result.operations[0].result["code"] == "invalid_arguments"


@pytest.mark.parametrize("written", ["1234567890123456789", '"1234567890123456789"'], ids=["number", "text"])
async def test_a_number_of_64_bits_is_the_same_everywhere(shop: OpenShop, api: Api, written: str) -> None:
    """Through a float it names somebody else (NousResearch/hermes-agent#55314, google/adk-python#3592)."""
    seen: list[int] = []

    @tool(**ONCE)
    async def order(number: int) -> dict[str, int]:
        """Order."""
        seen.append(number)
        return {"next": number + 1}

    api.answers = [answer(call("t1", "order", f'{{"number": {written}}}'))]
    result = await ends(await claude(shop, api, order))
    [operation] = result.operations
    assert (seen, operation.arguments) == ([1234567890123456789], {"number": 1234567890123456789})
    assert operation.result == {"next": 1234567890123456790}
    assert [json.loads(one) for one in told(api.seen[1])] == [{"next": 1234567890123456790}]


@pytest.mark.parametrize(
    ("returned", "content"), [("", "(empty)"), (" \n", "(empty)"), (None, "null"), ([], "[]")], ids=repr
)
async def test_a_result_without_content_makes_a_valid_request(
    shop: OpenShop, api: Api, returned: Any, content: str
) -> None:
    """An empty one is refused for the rest of the conversation, after the effect (anomalyco/opencode#15371)."""

    @tool(**ONCE)
    async def run() -> Any:
        """Run."""
        return returned

    api.answers = [answer(call("t1", "run", ""))]
    result = await ends(await claude(shop, api, run))
    assert (result.status, told(api.seen[1])) == (RunStatus.COMPLETED, [content])


async def test_a_call_that_breaks_takes_none_of_its_neighbours_along(shop: OpenShop, api: Api) -> None:
    """Not even with a cancellation (langchain-ai/langgraph#7412, openai/openai-agents-python#2584)."""
    sent: list[str] = []
    broken = asyncio.Event()

    @tool(**ONCE)
    async def send(to: str) -> str:
        """Send."""
        await broken.wait()
        sent.append(to)
        return f"sent to {to}"

    @tool(**READ, attempts=1)
    async def look() -> str:
        """Look."""
        broken.set()
        raise asyncio.CancelledError

    calls = call("t1", "send", '{"to": "ada"}'), call("t2", "look", "{}"), call("t3", "send", '{"to": "bob"}')
    api.answers = [answer(*calls)]
    result = await ends(await claude(shop, api, send, look))
    assert sorted(sent) == ["ada", "bob"]
    assert [one.outcome for one in result.operations] == [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.SUCCEEDED]
    first, failed, last = told(api.seen[1])
    assert (first, json.loads(failed)["code"], last) == ("sent to ada", "tool_failed", "sent to bob")


async def test_a_plain_function_may_run_a_coroutine_or_return_one(shop: OpenShop) -> None:
    """Neither meets the event loop of the worker (crewAIInc/crewAI#6978)."""

    async def seen() -> str:
        await asyncio.sleep(0)
        return "seen"

    @tool(**READ)
    def look() -> str:
        """Look."""
        return asyncio.run(seen())

    @tool(**READ)
    def look_later() -> Any:
        """Look later."""
        return seen()

    result = await ends(await shop(agent([ask("look"), ask("look_later")], "done", tools=[look, look_later])))
    assert [one.result for one in result.operations] == ["seen", "seen"]
