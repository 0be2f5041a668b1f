"""What a model writes and what a tool gets: one value has one key and one meaning, in every attempt."""

import json
import uuid
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, field_validator
from pydantic.alias_generators import to_camel

from handfast import Effect, Outcome, Run, RunResult, RunStatus, Tier, ToolContext, ask, tool
from handfast.contracts.upstream import Upstream
from tests.conftest import OpenShop, until
from tests.effects.agents import agent
from tests.loopback import Loopback, answer_json, body_of


class PaymentService:
    """Makes one payment for a key, and refuses a key that comes with another payload; the first answers may get lost."""

    def __init__(self, *, lost_answers: int = 0) -> None:
        self.made: list[Any] = []
        self._by_key: dict[str, bytes] = {}
        self._lost = lost_answers
        self.loopback = Loopback(self._answer)

    def _answer(self, request: Any) -> None:
        body, key = body_of(request), request.headers["Idempotency-Key"]
        if self._by_key.setdefault(key, body) != body:
            answer_json(request, 400, {"message": "this key was used with other parameters"})
            return
        if len(self._by_key) > len(self.made):
            self.made.append(json.loads(body))
        if self._lost:
            self._lost -= 1
            request.connection.close()
            return
        answer_json(request, 200, {"paid": True})


async def start(shop: OpenShop, model: type[BaseModel], *steps: Any, service: PaymentService, **clauses: Any) -> Run:
    async def pay(args: Any, ctx: ToolContext) -> Any:
        """Pay."""
        return (await ctx.http("pay").post("/", json=args.model_dump(mode="json"))).json()

    pay.__annotations__ = {"args": model, "ctx": ToolContext, "return": Any}
    made = tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="pay:write", **clauses)(pay)
    desk = await shop(agent(*steps, "done", tools=[made]), upstreams={"pay": Upstream(base_url=service.loopback.url)})
    return await desk.client.start("tester", "Go", id=f"pay-{uuid.uuid4().hex[:8]}")


async def pays(shop: OpenShop, model: type[BaseModel], *steps: Any, **options: Any) -> tuple[list[Any], RunResult]:
    """What was paid, and how the run ended."""
    service = options.pop("service", None) or PaymentService()
    run = await start(shop, model, *steps, service=service, **options)
    return service.made, await run.result()


class Invoice(BaseModel):
    invoice: int
    currency: str = "EUR"


class Stripped(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    invoice: str


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    invoice_id: str


class Tagged(BaseModel):
    tags: frozenset[str]


class Due(BaseModel):
    amount: Decimal = Decimal(0)
    at: datetime | None = None


@pytest.mark.parametrize(
    ("model", "key", "first", "second"),
    [
        (Invoice, ("invoice", "currency"), {"invoice": 42}, {"invoice": "42"}),
        (Invoice, ("invoice", "currency"), {"invoice": 42}, {"invoice": 42.0, "currency": "EUR"}),
        (Stripped, ("invoice",), {"invoice": "i1"}, {"invoice": " i1 "}),
        (Tagged, ("tags",), {"tags": ["a", "b"]}, {"tags": ["b", "a"]}),
    ],
    ids=["text", "float and default", "stripped", "set"],
)
async def test_one_value_has_one_key_however_it_is_written(
    shop: OpenShop, model: type[BaseModel], key: tuple[str, ...], first: dict[str, Any], second: dict[str, Any]
) -> None:
    made, result = await pays(shop, model, ask("pay", **first), ask("pay", **second), key=key)
    assert ([one.outcome for one in result.operations], len(made)) == ([Outcome.SUCCEEDED, Outcome.SUCCEEDED], 1)


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        (("amount",), {"amount": 1.1}, {"amount": "1.10"}),
        (("amount", "at"), {"at": "2026-11-27T08:00:00Z"}, {"at": "2026-11-27T09:00:00+01:00"}),
    ],
    ids=["zeros", "time zone"],
)
async def test_equal_values_that_are_sent_in_two_forms_have_one_key(
    shop: OpenShop, key: tuple[str, ...], first: dict[str, Any], second: dict[str, Any]
) -> None:
    """The tool sends each as it was written, so the service refuses the second one: it knows the key with another payload."""
    made, result = await pays(shop, Due, ask("pay", **first), ask("pay", **second), key=key)
    assert ([one.outcome for one in result.operations], len(made)) == ([Outcome.SUCCEEDED, Outcome.FAILED], 1)


async def test_values_that_differ_have_keys_that_differ(shop: OpenShop) -> None:
    steps = ask("pay", invoiceId="A"), ask("pay", invoiceId="B")
    made, _ = await pays(shop, Camel, *steps, key=("invoice_id",))
    assert made == [{"invoice_id": "A"}, {"invoice_id": "B"}]


async def test_calls_that_leave_all_fields_of_the_key_out_are_two(shop: OpenShop) -> None:
    class Optional(BaseModel):
        amount: int
        invoice: str | None = None

    made, _ = await pays(shop, Optional, ask("pay", amount=1), ask("pay", amount=2), key=("invoice",))
    assert [one["amount"] for one in made] == [1, 2]


async def test_a_second_call_that_means_the_same_waits_however_it_is_written(shop: OpenShop) -> None:
    service = PaymentService()
    steps = ask("pay", invoice=42), ask("pay", invoice="42")
    run = await start(shop, Invoice, *steps, service=service, same_intent=("invoice",))

    async def waiting() -> Any:
        return (await run.state()).waiting

    [held] = await until(waiting)
    assert len(service.made) == 1
    await run.decide(held.operation, approve=False, by="ada")
    assert (await run.result()).status is RunStatus.COMPLETED


async def test_what_the_contract_fills_in_is_the_same_in_each_attempt(shop: OpenShop) -> None:
    class Stamped(BaseModel):
        invoice: str
        reference: str = Field(default_factory=lambda: uuid.uuid4().hex)

    made, result = await pays(shop, Stamped, ask("pay", invoice="A"), service=PaymentService(lost_answers=1))
    [operation] = result.operations
    assert operation.outcome is Outcome.SUCCEEDED
    assert made == [operation.arguments]


async def test_a_field_that_was_left_out_is_not_set_in_the_attempt(shop: OpenShop) -> None:
    seen: list[dict[str, Any]] = []

    class Patch(BaseModel):
        name: str | None = None
        city: str | None = None

    @tool(version="1.0.0", effect=Effect.IDEMPOTENT, tier=Tier.REVERSIBLE, scope="x:y")
    async def patch(args: Patch) -> None:
        """Change what is given."""
        seen.append(args.model_dump(exclude_unset=True))

    desk = await shop(agent(ask("patch", city="Berlin"), ask("patch", name=None), "done", tools=[patch]))
    await desk.client.execute("tester", "Go", id="patch")
    assert seen == [{"city": "Berlin"}, {"name": None}]


class Money:
    def __init__(self, cents: Any) -> None:
        self.cents = int(cents)


class Amount(BaseModel):
    money: Annotated[Any, PlainValidator(Money), WithJsonSchema({"type": "string"})]


class Country(BaseModel):
    country: str

    @field_validator("country")
    @classmethod
    def known(cls, value: str) -> str:
        return {"DE": value}[value]


@pytest.mark.parametrize(
    ("model", "arguments"), [(Country, {"country": "XX"}), (Amount, {"money": "5"})], ids=["validator", "no dump"]
)
async def test_arguments_that_the_contract_can_not_read_are_refused_and_the_run_goes_on(
    shop: OpenShop, model: type[BaseModel], arguments: dict[str, Any]
) -> None:
    made, result = await pays(shop, model, ask("pay", **arguments))
    assert (made, result.status, [one.outcome for one in result.operations]) == (
        [],
        RunStatus.COMPLETED,
        [Outcome.DENIED],
    )


async def test_an_answer_whose_validator_raises_is_asked_for_again(shop: OpenShop) -> None:
    tester = agent('{"country": "XX"}', '{"country": "DE"}', tools=[], output=Country)
    desk = await shop(tester)
    assert (await desk.client.execute("tester", "Go", id="country")).output == {"country": "DE"}
