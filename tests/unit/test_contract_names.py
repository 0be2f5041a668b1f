"""Every name in a contract is checked when it is built, all faults at once."""

import dataclasses
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, RootModel
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from handfast import (
    Agent,
    Cache,
    Compensation,
    ContractError,
    Deprecation,
    Effect,
    Endpoint,
    Plan,
    Script,
    Tier,
    Tool,
    ToolContext,
    compensation,
    tool,
)
from handfast.contracts.arguments import parse_arguments
from handfast.contracts.effects import Verdict
from handfast.contracts.lint import check_agents
from handfast.contracts.policy import Condition, Limit, Policy, Rule
from handfast.contracts.policy.check import policy_faults
from handfast.contracts.registry import Registry
from handfast.contracts.signing import StandardWebhooks
from handfast.contracts.upstream import ApiKey, Upstream
from tests.parsed import fitting

READ: dict[str, Any] = {"version": "1.0.0", "effect": Effect.READ, "tier": Tier.READ_ONLY, "scope": "orders:read"}
ACTS: dict[str, Any] = {**READ, "effect": Effect.KEYED, "tier": Tier.REVERSIBLE, "scope": "orders:write"}


NO_FUNCTION: Any = 5


def validate(tool: Tool, given: dict[str, Any]) -> BaseModel | dict[str, str]:
    """The value of arguments, or what is wrong with them."""
    read = parse_arguments(tool, given)
    return read if isinstance(read, dict) else read.value


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class Money(Camel):
    in_cents: int


class Payment(Camel):
    invoice_id: str
    total_sum: Money
    loose_ends: dict[str, Any] = {}
    remark: str | None = None


class Mail(Camel):
    message_id: str
    body_text: str


def made(arguments: Any = Payment, result: Any = Mail, name: str = "pay", **clauses: Any) -> Tool:
    async def work(args: Any) -> Any:
        """Do it."""

    work.__annotations__ = {"args": arguments, "return": result}
    said: dict[str, Any] = {**ACTS, "name": name, **clauses}
    return tool(**said)(work)


def agent(*tools: Tool, **options: Any) -> Agent:
    said: dict[str, Any] = {"name": "desk", "model": Script(["done"]), "instructions": "Go.", "tools": tools, **options}
    return Agent(**said)


def faults(build: Any) -> str:
    with pytest.raises(ContractError) as caught:
        build()
    return str(caught.value)


def test_every_clause_finds_its_fields_by_name_and_by_alias() -> None:
    names = ("invoice_id", "total_sum.in_cents")
    by_name = made(key=names, conflict=names, same_intent=names, show=names, targets=names, untrusted=("body_text",))
    aliases = ("invoiceId", "totalSum.inCents")
    by_alias = made(
        key=aliases, conflict=aliases, same_intent=aliases, show=aliases, targets=aliases, untrusted=("bodyText",)
    )
    for one in (by_name, by_alias):
        fields = one.fields
        assert fields.key == fields.conflict == fields.same_intent == fields.show == fields.targets == aliases
        assert fields.untrusted == ("bodyText",)
        assert one.preview({"invoiceId": "i1", "totalSum": {"inCents": 5}}) == "i1 5"


def test_all_misspelt_names_are_told_at_once_each_with_what_may_be_meant() -> None:
    told = faults(
        lambda: made(
            key=("invoiceid",),
            conflict=("total_sum.in_cent",),
            same_intent=("invoise_id",),
            show=("nothing",),
            targets=("invoice_id", "totalsum"),
            untrusted=("bodytext", "message_id"),
            secrets=("pay key", "a__TENANT_b"),
            callback=StandardWebhooks(secret=""),
            upstreams={"pay": Upstream(base_url="https://x", auth=ApiKey(secret="no/no"))},
            endpoints=(Endpoint(upstream="pays", method="GET", path="/x"),),
            scope="orders: write",
            queue=" ",
        )
    )
    for fault in (
        "key names 'invoiceid', which is no argument; arguments are invoice_id, total_sum, loose_ends, remark; did you mean 'inv",
        "conflict names 'total_sum.in_cent', which is no argument: totalSum has no 'in_cent'; there is in_cents; did you mean",
        "same_intent names 'invoise_id'",
        "show names 'nothing', which is no argument; arguments are",
        "targets names 'totalsum'",
        "untrusted names 'bodytext', which is no field of the result: there is no 'bodytext'",
        "secrets names secret 'pay key'",
        "secrets names secret 'a__TENANT_b'",
        "callback names secret ''",
        "upstreams['pay'].auth names secret 'no/no'",
        "there is no upstream 'pays'; did you mean 'pay'?",
        "scope 'orders: write'",
        "queue ' '",
    ):
        assert fault in told


@pytest.mark.parametrize("scope", [":read", "orders:", "a::b", "a b", "a\nb", "orders\n"])
def test_a_scope_is_words_with_colons_between_them(scope: str) -> None:
    assert f"scope {scope!r}" in faults(lambda: made(scope=scope))


@pytest.mark.parametrize(
    "clause", ["key", "conflict", "same_intent", "show", "targets", "untrusted", "hides", "secrets", "invalidates"]
)
def test_one_text_is_no_list_of_names(clause: str) -> None:
    assert f"{clause} is the text 'remark': it must be a tuple of names" in faults(lambda: made(**{clause: "remark"}))


@pytest.mark.parametrize(
    ("clauses", "fault"),
    [
        ({"key": ("loose_ends.id",)}, "nothing is known of what looseEnds holds"),
        ({"show": ("loose_ends.*",)}, "* stands for any name of a mapping"),
        ({"compensate": "undo"}, "compensate is 'undo': give the function"),
        ({"fallback": "other"}, "fallback is 'other': give the tool itself"),
        ({"compensate": Compensation(function=NO_FUNCTION)}, "compensate= is 5: it must be an async function"),
    ],
)
def test_what_can_not_be_checked_is_refused(clauses: dict[str, Any], fault: str) -> None:
    assert fault in faults(lambda: made(**clauses))


def test_targets_that_can_not_be_told_apart_are_all_targets() -> None:
    assert made(targets=("loose_ends.to",)).fields.targets == ("looseEnds",)


@pytest.mark.parametrize(
    ("result", "untrusted"),
    [
        (Mail, ("bodyText",)),
        (list[Mail], ("bodyText",)),
        (Mail | None, ("bodyText",)),
        (RootModel[list[Mail]], ("bodyText",)),
        (Any, True),
        (dict[str, Any], True),
        (dict[str, str], True),
        (list[Any], True),
        (Mail | dict[str, Any], True),
        (Mail | str, True),
    ],
)
def test_a_result_whose_fields_are_not_known_is_untrusted_as_a_whole(result: Any, untrusted: Any) -> None:
    assert made(result=result, untrusted=("body_text",)).fields.untrusted == untrusted


class OnlyRead(BaseModel):
    booking_id: str = Field(validation_alias="bookingId")


class FromInside(BaseModel):
    booking_id: str = Field(validation_alias=AliasPath("booking", "id"))


class Otherwise(BaseModel):
    booking_id: str = Field(validation_alias=AliasChoices("id", "bookingId"), serialization_alias="booking")


class Twice(BaseModel):
    one: str = Field(serialization_alias="id", validation_alias=AliasChoices("one", "id"))
    two: str = Field(serialization_alias="id", validation_alias=AliasChoices("two", "id"))


class Excluded(BaseModel):
    booking_id: str = Field(exclude=True)


class Deep(BaseModel):
    inside: list[OnlyRead] = []


@dataclasses.dataclass
class Data:
    booking_id: Annotated[str, Field(validation_alias="bookingId")]


class Typed(TypedDict):
    booking_id: Annotated[str, Field(serialization_alias="bookingId")]


@pytest.mark.parametrize("model", [OnlyRead, FromInside, Otherwise, Twice, Excluded, Deep])
def test_what_could_not_be_read_back_is_refused(model: type[BaseModel]) -> None:
    for build in (lambda: made(model), lambda: made(result=model)):
        assert "id" in faults(build)


@pytest.mark.parametrize("model", [Data, Typed])
def test_that_goes_for_dataclasses_and_typed_dicts_too(model: Any) -> None:
    assert "can't be read back" in faults(lambda: made(result=model))


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True)
    booking_id: str = Field(validation_alias=AliasPath("booking", "id"))


class Choice(BaseModel):
    booking_id: str = Field(validation_alias=AliasChoices("bookingId", "booking_id"))


@pytest.mark.parametrize("model", [ByName, Choice])
def test_what_is_stored_by_name_and_read_by_name_is_accepted(model: type[BaseModel]) -> None:
    one = made(model, model, key=("booking_id",))
    assert validate(one, {"booking_id": "b"}) == model.model_validate({"booking_id": "b"})


def test_an_argument_that_the_schema_calls_otherwise_is_known_by_every_name_it_is_read_from() -> None:
    one = made(Choice)
    assert validate(one, {"bookingId": "b"}) == validate(one, {"booking_id": "b"})
    assert validate(one, {"booking": "b"}) == {"booking": "unknown argument; arguments are bookingId"}


def test_examples_of_a_model_with_aliases_are_taken() -> None:
    assert made(Money, examples=(Money.model_validate({"inCents": 5}), {"inCents": 6})).examples == (
        {"inCents": 5},
        {"inCents": 6},
    )
    told = faults(lambda: made(Money, examples=({"in_cents": 5}, {"inCents": object()})))
    assert "has 'in_cents', which is no argument" in told
    assert "does not fit its own schema" in told


class Node(BaseModel):
    value: int
    children: list["Node"] = []


class AnyOf(RootModel[Money | Mail]):
    pass


class Numbers(RootModel[list[int]]):
    pass


class Wrapped(RootModel[Payment]):
    pass


class Counts(RootModel[dict[str, int]]):
    pass


def test_a_model_that_holds_itself_can_be_the_arguments() -> None:
    one = made(Node, key=("children.value",))
    assert one.schema.parameters["type"] == "object"
    assert set(one.schema.parameters["properties"]) == {"value", "children"}
    assert validate(one, {"value": 1, "children": [{"value": 2}]}) == Node(value=1, children=[Node(value=2)])
    assert validate(one, {"value": 1, "child": []}) == {"child": "unknown argument; arguments are value, children"}


@pytest.mark.parametrize("model", [AnyOf, Numbers, RootModel[int], RootModel[Any], RootModel[Money | None]])
def test_arguments_that_are_no_object_are_refused(model: type[BaseModel]) -> None:
    assert "they must be one object" in faults(lambda: made(model))


@pytest.mark.parametrize("model", [Wrapped, Counts])
def test_a_root_model_of_an_object_can_be_the_arguments(model: type[BaseModel]) -> None:
    assert made(model).schema.parameters["type"] == "object"


def test_an_argument_is_named_as_models_take_it() -> None:
    class Odata(BaseModel):
        top: int = Field(alias="$top")

    assert "argument '$top': models take names of" in faults(lambda: made(Odata))


def undone(after: Any) -> Compensation:
    @compensation(after=after)
    async def undo(args: Any, result: Any, ctx: ToolContext) -> None: ...

    return undo


def test_tools_that_tools_name_are_the_agents() -> None:
    look = made(name="look_up", **{**READ, "cache": Cache()})
    spare = made(name="spare")
    pay = made(
        invalidates=("look_upp",),
        compensate=undone(("lookup",)),
        deprecated=Deprecation(since="1.0.0", replaced_by="lok_up"),
        fallback=spare,
    )
    told = faults(lambda: agent(look, pay))
    assert (
        "pay: invalidates names 'look_upp', which is no tool of the agent; there are look_up, pay; did you mean 'look_up'?"
        in told
    )
    assert "pay: compensate=: after names 'lookup', which is no tool of the agent" in told
    assert "pay: replaced_by names 'lok_up', which is no tool of the agent; did you mean 'look_up'?" in told
    assert "its fallback 'spare' instead, which the agent does not have" in told
    named = made(invalidates=("look_up",), compensate=undone(("look_up",)), fallback=spare)
    assert agent(look, spare, named).tools[2].invalidated == ("look_up",)
    assert "after is the text 'look_up'" in faults(lambda: made(compensate=undone("look_up")))


def test_the_kept_results_of_another_agents_tool_are_named_by_the_tool() -> None:
    look = made(name="look_up", **{**READ, "cache": Cache()})
    [pay] = agent(made(invalidates=(look,))).tools
    assert pay.invalidated == ("look_up",)


def test_peers_are_agents() -> None:
    assert "peers is the text 'seller'" in faults(lambda: agent(made(), peers="seller"))
    seller = agent(made(name="sell"), name="seller")
    buyer = agent(made(), name="buyer", peers=("selller",))
    assert "agent 'buyer': peers holds 'selller', and there is no such agent; did you mean 'seller'?" in faults(
        lambda: Registry([seller, buyer])
    )
    Registry([seller, agent(made(), name="buyer", peers=("seller", "somebody_elsewhere", "seller2"))])


def test_an_agents_policy_names_its_tools_scopes_and_arguments() -> None:
    policy = Policy(
        deny=("paay", "orders:writ"),
        rules=(
            Rule(name="big", verdict=Verdict.DENY, tools=("pay",), arguments={"total_sum.in_cent": Condition(most=5)}),
            Rule(name="scoped", verdict=Verdict.ASK, scopes=("order:write",)),
        ),
        limits=(Limit(name="few", count=1, per=timedelta(minutes=1), tools=("payy",), agents=("dask",)),),
    )
    told = faults(lambda: agent(made(), policy=policy))
    for fault in (
        "policy: deny names 'paay', which is not there; did you mean 'pay'?",
        "policy: deny names 'orders:writ', which is not there; did you mean 'orders:write'?",
        "policy: rule 'big': arguments: none of pay has 'total_sum.in_cent'",
        "policy: rule 'scoped': scopes names 'order:write'",
        "policy: limit 'few': tools names 'payy'",
    ):
        assert fault in told
    shared = Policy(
        deny=("wire_money", "orders:*", "mail:send"),
        limits=(Limit(name="few", count=1, per=timedelta(minutes=1), agents=("dask",)),),
    )
    assert "limit 'few': agents names 'dask', which is not there; did you mean 'desk'?" in faults(
        lambda: Registry([agent(made(), policy=shared)])
    )


@pytest.mark.parametrize("path", ["total_sum.in_cents", "totalSum.inCents", "total_sum.inCents"])
def test_rules_name_arguments_as_contracts_do(path: str) -> None:
    from handfast.contracts.policy import Caller, judge_all, proposed

    deny = Policy(rules=(Rule(name="big", verdict=Verdict.DENY, arguments={path: Condition(above=5)}),))
    one = made()
    assert policy_faults(deny, [agent(one, policy=deny)]) == []
    for cents, verdict in ((5, "run"), (6, "deny")):
        call = proposed(one, fitting(one, {"invoiceId": "i", "totalSum": {"inCents": cents}}), Caller())
        assert judge_all([deny], call).verdict == verdict


def test_a_plan_that_an_agent_carries_names_its_tools_and_their_arguments() -> None:
    steps = {"a": {"tool": "payy"}, "b": {"tool": "pay", "with": {"invoice": "i"}}}
    plan = Plan.model_validate({"name": "p", "description": "Pay.", "steps": steps})
    told = faults(lambda: agent(made()).as_tool(plan=plan))
    assert "names tool 'payy', which the agent does not have; it has pay; did you mean 'pay'?" in told
    assert "pay takes no argument 'invoice'" in told


def test_an_agent_as_a_tool_is_checked_the_same() -> None:
    told = faults(
        lambda: agent(made(), output=Mail).as_tool(description="Ask it.", show=("reqest",), untrusted=("bodytext",))
    )
    assert "show names 'reqest', which is no argument; arguments are request; did you mean 'request'?" in told
    assert "untrusted names 'bodytext', which is no field of the result" in told


def test_an_endpoint_tells_all_its_faults() -> None:
    with pytest.raises(
        ValueError, match=r"upstream 'a b'.*method 'GETT': allowed are .*did you mean 'GET'.*path 'x/\{'"
    ):
        Endpoint(upstream="a b", method="GETT", path="x/{")


@pytest.mark.parametrize(
    ("key", "warns"),
    [
        (("remark",), True),
        (("remark", "invoice_id"), False),
        (("invoice_id",), False),
        (("total_sum.in_cents",), False),
    ],
)
def test_check_warns_where_a_call_may_leave_out_its_whole_key(key: tuple[str, ...], warns: bool) -> None:
    told = [finding.message for finding in check_agents([agent(made(key=key))])]
    assert any("every field of its key is optional" in message for message in told) is warns
