"""Contracts: what they read from a function, and every fault they refuse, all at once."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

import handfast
from handfast import Agent, Cache, ContractError, Effect, Lane, Limits, Rate, Script, Tier, Tool, ToolContext, tool
from handfast.contracts.identity import digest, operation_id
from handfast.contracts.limits import Used, limit_near, limit_reached
from handfast.contracts.lint import check_agents
from handfast.contracts.registry import Registry
from handfast.contracts.wire import Head, RunRequest, TurnResult


class Args(BaseModel):
    n: int = Field(ge=0, description="How many. Example: 3")


async def count(args: Args, ctx: ToolContext) -> int:
    """Count to n, and use it for nothing else than counting, please."""
    return args.n


def declare(function: Any = count, **clauses: Any) -> Tool:
    usual: dict[str, Any] = {"version": "1.2.3", "effect": Effect.READ, "tier": Tier.READ_ONLY, "scope": "numbers:read"}
    return tool(**{**usual, **clauses})(function)


def test_a_contract_reads_name_description_schema_and_context_from_the_function() -> None:
    made = declare()
    assert (made.name, made.major, made.signature.context, made.signature.threaded) == ("count", 1, "ctx", False)
    assert made.schema.description == "Count to n, and use it for nothing else than counting, please."
    assert made.schema.parameters == {
        "properties": {"n": {"description": "How many. Example: 3", "minimum": 0, "title": "N", "type": "integer"}},
        "required": ["n"],
        "type": "object",
        "additionalProperties": False,
    }


def test_plain_parameters_become_the_argument_model() -> None:
    def add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    made = declare(add)
    assert made.signature.threaded
    assert made.schema.parameters["required"] == ["a"]
    arguments = made.signature.arguments.model_validate({"a": 1})
    assert made.function(**made.signature.bind(arguments, None)) == 3  # type: ignore[arg-type]


def test_all_faults_of_a_contract_are_reported_together() -> None:
    async def reconcile(args: Args) -> None: ...

    with pytest.raises(ContractError) as error:
        declare(
            name="model_turn",
            version="1",
            description=" ",
            scope="",
            timeout=timedelta(0),
            attempts=0,
            result_limit=1,
            show=("m",),
            reconcile=reconcile,
            examples=({"n": -1},),
        )
    assert len(error.value.faults) == 11
    assert "m'" in str(error.value)
    assert "MAJOR.MINOR.PATCH" in str(error.value)


ACTS: dict[str, Any] = {"effect": Effect.KEYED, "tier": Tier.REVERSIBLE}


@pytest.mark.parametrize(
    ("clauses", "fault"),
    [
        ({"effect": Effect.KEYED}, "at least REVERSIBLE"),
        ({"tier": Tier.IRREVERSIBLE}, "is READ_ONLY"),
        ({"lane": Lane.FAST}, "within 2 s"),
        ({"lane": "fast", "timeout": timedelta(seconds=1), "queue": "q"}, "runs where its workflow runs"),
        ({"effect": Effect.RECONCILED, "tier": Tier.REVERSIBLE}, "without reconcile="),
        ({"name": "1st"}, "a letter"),
        ({"key": ("n",)}, "only KEYED calls have an idempotency key"),
        ({**ACTS, "key": ("m",)}, "key names 'm', which is no argument"),
        ({**ACTS, "key_lifetime": timedelta(0)}, "key_lifetime 0:00:00: must be above zero"),
        ({"concurrency": 0}, "concurrency 0: must be at least 1"),
        ({**ACTS, "cache": Cache()}, "only results of READ can be given again"),
        ({"cache": Cache(), "untrusted": True}, "not kept for other runs"),
        ({"invalidates": ("look",)}, "it changes nothing"),
    ],
)
def test_clauses_that_contradict_each_other_are_refused(clauses: dict[str, Any], fault: str) -> None:
    with pytest.raises(ContractError, match=fault):
        declare(**clauses)


def test_a_read_falls_back_on_nothing_that_acts() -> None:
    with pytest.raises(ContractError, match="a READ can only fall back on a READ"):
        declare(fallback=declare(**ACTS))


@pytest.mark.parametrize(
    ("clause", "values"),
    [
        (Rate, {"count": 0}),
        (Rate, {"count": 1001}),
        (Rate, {"count": 1, "per": timedelta(0)}),
        (Cache, {"ttl": timedelta(0)}),
    ],
)
def test_rates_and_caches_that_make_no_sense_are_refused(
    clause: type[Rate] | type[Cache], values: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        clause(**values)


def test_the_lint_asks_for_what_a_safe_tool_has() -> None:
    joined = declare(name="pay_and_mail", scope="pay:*", effect=Effect.ONCE, tier=Tier.IRREVERSIBLE)
    [found] = [[f.message for f in check_agents([Agent(name="a", model="m", instructions="x", tools=[joined])])]]
    for sign in ("joins two things", "is a pattern", "protects a repeat", "no rates=", "no show="):
        assert any(sign in message for message in found), sign


def test_effect_and_tier_have_no_default() -> None:
    with pytest.raises(TypeError, match="effect"):
        tool(version="1.0.0", tier=Tier.READ_ONLY, scope="x")  # type: ignore[call-arg]


def test_functions_that_can_be_no_contract_are_refused() -> None:
    async def stars(*numbers: int) -> int:
        """Stars."""
        return sum(numbers)

    async def bare(n) -> int:  # type: ignore[no-untyped-def]
        """Bare."""
        return int(n)  # pyright: ignore[reportUnknownArgumentType]

    with pytest.raises(ContractError, match="only named parameters"):
        declare(stars)
    with pytest.raises(ContractError, match="has no type"):
        declare(bare)


def test_an_agent_reports_its_faults_together() -> None:
    with pytest.raises(ContractError) as error:
        Agent(name="!", model=" ", instructions="", tools=[declare(), declare()])
    assert len(error.value.faults) == 4


def test_a_registry_refuses_two_meanings_of_one_name() -> None:
    agents = [Agent(name=n, model=Script(["x"]), instructions="x", tools=[declare()]) for n in ("a", "b", "b")]
    with pytest.raises(ContractError) as error:
        Registry(agents)
    assert len(error.value.faults) == 3
    with pytest.raises(ContractError, match="no agent"):
        Registry([])


def test_operation_ids_come_from_the_chain_and_the_counter_alone() -> None:
    assert operation_id("c", 1) == operation_id("c", 1)
    assert len({operation_id(chain, n) for chain in "ab" for n in range(100)}) == 200


def test_digests_bind_tool_major_and_arguments_whatever_their_order() -> None:
    assert digest("t", 1, {"a": 1, "b": 2}) == digest("t", 1, {"b": 2, "a": 1})
    assert (
        len({digest("t", 1, {"a": 1}), digest("u", 1, {"a": 1}), digest("t", 2, {"a": 1}), digest("t", 1, {"a": 2})})
        == 4
    )


def test_limits_are_near_at_ninety_percent_and_reached_at_all_of_it() -> None:
    limits = Limits(turns=10, calls=10, tokens=100, cost_usd=1, wall_time=timedelta(seconds=10))
    assert limit_near(limits, Used()) is None
    assert limit_near(limits, Used(turns=8)) is None
    assert limit_near(limits, Used(turns=9)) == "turns"
    assert limit_near(limits, Used(turns=1, tokens=90)) == "tokens"
    assert limit_near(limits, Used(turns=1, cost_usd=0.95)) == "cost_usd"
    assert limit_near(limits, Used(turns=1, work_seconds=9)) == "wall_time"
    assert limit_reached(limits, Used(tokens=99)) is None
    assert limit_reached(limits, Used(tokens=100)) == "tokens"
    assert limit_reached(limits, Used(calls=10)) is None
    assert limit_reached(Limits(cost_usd=0), Used(cost_usd=0.0)) is None
    assert limit_reached(Limits(cost_usd=0), Used(cost_usd=0.1)) == "cost_usd"


def test_what_travels_over_temporal_leaves_out_defaults_and_reads_them_back() -> None:
    result = TurnResult(heads=(Head(id="i", tool="t", digest="d"),), tokens=3)
    assert result.model_dump_json() == '{"heads":[{"id":"i","tool":"t","digest":"d"}],"tokens":3}'
    assert TurnResult.model_validate_json(result.model_dump_json()) == result
    assert RunRequest.model_validate_json('{"agent":"a","of a newer version":1}') == RunRequest(agent="a")


def test_the_lint_names_what_would_help_a_model() -> None:
    async def vague(text: str) -> str:
        """Do it."""
        return text

    agent = Agent(name="a", model=Script(["x"]), instructions="x", tools=[declare(vague)])
    assert [finding.message.split(":")[0] for finding in check_agents([agent])] == [
        "its description has 6 characters",
        "argument 'text' has no description",
        "argument 'text' has no constraint",
        "it has no example",
        "its timeout is the default of 30 s",
    ]
    fine = declare(timeout=timedelta(seconds=5))
    assert check_agents([Agent(name="a", model=Script(["x"]), instructions="x", tools=[fine])]) == []
    many = [declare(name=f"count_{n}", timeout=timedelta(seconds=5)) for n in range(20)]
    [finding] = check_agents([Agent(name="a", model=Script(["x"]), instructions="x", tools=many)])
    assert finding.message.startswith("20 tools")


def test_the_public_names_are_these() -> None:
    assert handfast.__all__ == [
        "Agent", "Backoff", "BackoffKind", "Cache", "CalledFrom", "Client", "Compensation", "Condition", "ContractError",
        "DecisionRefused", "Deprecation", "Effect", "Endpoint", "EngineUnavailable", "Event",
        "HandfastError", "HookWord", "Lane", "LedgerUnavailable", "Limits", "Model", "ModelError",
        "Operation", "Outcome", "Pending", "Plan", "Policy", "Price", "ProposedCall", "Rate", "Rule",
        "Run", "RunFailed", "RunIdTaken", "RunNotFound",
        "RunResult", "RunStatus", "RunSummary", "Script", "SettingsError", "SigningKey", "Tier", "Tool", "ToolContext", "ToolError",
        "Undo", "Verdict", "ask", "compensation", "read_plan", "read_policy", "tool",
    ]  # fmt: skip
    assert all(getattr(handfast, name) for name in handfast.__all__)
