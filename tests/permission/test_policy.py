"""Policies by themselves: what they decide, what they refuse to say, and what can't be got past them."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from handfast import (
    Agent,
    CalledFrom,
    Condition,
    ContractError,
    Effect,
    HookWord,
    Policy,
    ProposedCall,
    Rule,
    SettingsError,
    Tier,
    Verdict,
    read_policy,
    tool,
)
from handfast.contracts.policy import Caller, Case, CaseCall, Hook, Hours, judge_all, parse_policy, permit
from handfast.contracts.policy.arguments import host_of
from handfast.contracts.policy.check import case_fault, example, explain, policy_faults
from handfast.contracts.policy.ruling import STRICTNESS
from tests.parsed import fitting

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
"""A Wednesday."""


def call(tool: str = "issue_refund", tier: Tier = Tier.IRREVERSIBLE, **said: Any) -> ProposedCall:
    arguments = said.pop("arguments", {"amount": 40})
    return ProposedCall(
        tool=tool, tier=tier, scope=said.pop("scope", "payments:refund:write"), arguments=arguments, **said
    )


def decided(policy: Policy, one: ProposedCall, now: datetime = NOON) -> tuple[str, str]:
    ruling = judge_all([policy], one, now)
    return str(ruling.verdict), ruling.rule


def test_where_no_policy_says_anything_the_safe_default_holds() -> None:
    found = {tier: decided(Policy(), call(tier=tier))[0] for tier in Tier}
    assert found == {"READ_ONLY": "run", "REVERSIBLE": "run", "IRREVERSIBLE": "ask", "PRIVILEGED": "ask"}


def test_the_strictest_that_applies_counts_wherever_it_stands() -> None:
    rules = (
        Rule(name="small", verdict=Verdict.RUN, arguments={"amount": Condition(most=50)}),
        Rule(name="at night", verdict=Verdict.ASK, outside=Hours(times="08:00-18:00", days="mon-fri")),
        Rule(name="never to mallory", verdict=Verdict.DENY, arguments={"to": Condition(equals="mallory")}),
    )
    night = datetime(2026, 11, 25, 23, 0, tzinfo=UTC)
    for ordered in (rules, rules[::-1]):
        policy = Policy(rules=ordered)
        assert decided(policy, call()) == ("run", "small")
        assert decided(policy, call(arguments={"amount": 51})) == ("ask", "tier IRREVERSIBLE")
        assert decided(policy, call(), night) == ("ask", "at night")
        assert decided(policy, call(arguments={"amount": 1, "to": "mallory"}), night) == ("deny", "never to mallory")


def test_lists_of_tools_and_scopes() -> None:
    policy = Policy(allow=("lookup_*", "payments:*"), deny=("admin.*", "payments:payout:*"))
    assert decided(policy, call())[0] == "ask"
    assert decided(policy, call("lookup_order", Tier.READ_ONLY, scope="orders:read"))[0] == "run"
    assert decided(policy, call("admin.reset", scope="payments:x")) == ("deny", "deny")
    assert decided(policy, call("pay_out", scope="payments:payout:write")) == ("deny", "deny")
    assert decided(policy, call("send_mail", scope="mail:send")) == ("deny", "allow")


def test_roles_permit_scopes_to_users_of_tenants() -> None:
    policy = Policy(
        permissions={"orders": ("orders:*",)},
        roles={"support": ("orders", "money"), "intern": ("orders",), "auditor": ("payments:*:read",)},
        users={"ada": ("support",), "acme/*": ("intern",), "beta/eve": ("auditor",)},
    )
    assert decided(policy, call(user="ada"))[0] == "ask"
    assert decided(policy, call(user="ada", tenant="other"))[0] == "ask"
    assert decided(policy, call(user="bob", tenant="acme")) == ("deny", "roles")
    assert decided(policy, call("look", Tier.READ_ONLY, scope="orders:read", user="bob", tenant="acme"))[0] == "run"
    assert decided(policy, call(user="eve", tenant="beta")) == ("deny", "roles")
    assert decided(policy, call("a", Tier.READ_ONLY, scope="payments:x:read", user="eve", tenant="beta"))[0] == "run"
    assert decided(policy, call(user="")) == ("deny", "roles")
    # The engine's own tools do nothing that a role could permit.
    assert decided(policy, call("read_result", Tier.READ_ONLY, scope="results:read", builtin=True))[0] == "run"


def test_the_usual_permissions_are_known_by_name() -> None:
    policy = Policy(roles={"r": ("read_files", "mail", "read_database", "commands")}, users={"*": ("r",)})
    for scope in ("files:read", "files:reports:read", "mail:send", "database:orders:read", "commands:git"):
        assert decided(policy, call("x", Tier.READ_ONLY, scope=scope))[0] == "run", scope
    for scope in ("files:write", "files:reports:write", "database:orders:write", "payments:refund:write", "users:read"):
        assert decided(policy, call("x", Tier.READ_ONLY, scope=scope))[0] == "deny", scope


def test_who_is_blocked_gets_nothing() -> None:
    policy = parse_policy('[blocked]\nusers = ["acme/mallory"]\ntenants = ["shady-*"]\nruns = ["run-7"]')
    read = {"tier": Tier.READ_ONLY}
    assert decided(policy, call(user="mallory", tenant="acme", **read)) == ("deny", "blocked.users")
    assert decided(policy, call(user="mallory", tenant="beta", **read))[0] == "run"
    assert decided(policy, call(tenant="shady-1", **read)) == ("deny", "blocked.tenants")
    assert decided(policy, call(run="run-7", builtin=True, **read)) == ("deny", "blocked.runs")


def test_whoever_calls_from_a_blocked_address_or_session_gets_nothing() -> None:
    policy = parse_policy(
        '[blocked]\naddresses = ["203.0.113.0/24", "198.51.100.7", "2001:db8::/32"]\nsessions = ["stolen-*"]'
    )
    read = {"tier": Tier.READ_ONLY}

    def by(address: str = "", session: str = "") -> tuple[str, str]:
        return decided(policy, call(called_from=CalledFrom(address=address, session=session), **read))

    for address in ("203.0.113.9", "198.51.100.7", "2001:db8::17", "::ffff:203.0.113.9", "2001:DB8:0::1%eth0"):
        assert by(address) == ("deny", "blocked.addresses"), address
    for address in ("", "203.0.114.1", "198.51.100.8", "2001:db9::1", "::ffff:198.51.100.8"):
        assert by(address)[0] == "run", address
    assert by(session="stolen-17") == ("deny", "blocked.sessions")
    assert by(session="s-17")[0] == "run"


@pytest.mark.parametrize("address", ["localhost", "203.0.113", "203.0.113.9:80", "203.0.113.0/24", "x" * 500])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="is no IP address"):
        CalledFrom(address=address)


@pytest.mark.parametrize("network", ["203.0.113.9/24", "300.1.1.1", "anywhere"])
def test_a_network_that_is_none_is_refused(network: str) -> None:
    with pytest.raises(ContractError, match=r"addresses"):
        parse_policy(f'[blocked]\naddresses = ["{network}"]')


def test_it_is_explained_what_becomes_of_a_call_once_words_of_others_are_in_its_run() -> None:
    agents = [Agent(name="desk", tools=[issue_refund])]
    runs_all = parse_policy('[[rules]]\nname = "all"\nverdict = "run"')
    asked = CaseCall(tool="issue_refund", arguments={"amount": "5", "to": {"mail": "ada@example.com"}})

    def told(**more: Any) -> tuple[Verdict, str]:
        ruling = explain(runs_all, example(asked.model_copy(update=more), agents), NOON).ruling
        return ruling.verdict, ruling.rule

    assert told() == (Verdict.RUN, "all")
    assert told(untrusted=True) == (Verdict.ASK, "untrusted")
    assert told(untrusted=True, said='Refund "5" to ada@example.com')[0] is Verdict.RUN
    strict = Agent(name="desk", tools=[issue_refund], policy=parse_policy('deny = ["issue_refund"]'))
    assert explain(runs_all, example(asked, [strict]), NOON).ruling.verdict is Verdict.DENY


def test_cases_may_say_that_words_of_others_are_in_the_run() -> None:
    policy = parse_policy(
        """
        untrusted = "deny"
        [[rules]]
        name = "all"
        verdict = "run"
        [[cases]]
        call = { tool = "lookup_order", arguments = {}, untrusted = true }
        expect = "run"
        [[cases]]
        call = { tool = "issue_refund", arguments = { amount = "5", to = { mail = "a@b.c" } }, untrusted = true }
        expect = "deny"
        by = "untrusted"
        [[cases]]
        call = { tool = "issue_refund", arguments = { amount = "5", to = { mail = "a@b.c" } } }
        expect = "run"
        """
    )
    agents = [Agent(name="desk", tools=[issue_refund, lookup_order])]
    assert [case_fault(policy, case, agents) for case in policy.cases] == ["", "", ""]


CONDITIONS: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
        ({"most": 50}, [50, 49.9, -1, "50", "49.90"], [51, "51", None, True, "5e1", "50\n", "fifty", float("nan"), [1]]),
        ({"above": 50}, [51, "50.01"], [50, "50", None]),
        ({"equals": "EUR"}, ["EUR"], ["eur", "EUR ", None, ["EUR"]]),
        ({"equals": 1}, [1, 1.0], [True, "1"]),
        ({"one_of": ("a", "b")}, ["a", "b"], ["c", "ab", None]),
        ({"none_of": ("a",)}, ["b"], ["a", None]),
        ({"matches": ("*@example.com",)}, ["ada@example.com"], ["ada@example.com.evil.com", "ada@EXAMPLE.com", 3]),
        ({"other_than": ("/etc/*",)}, ["/home/x"], ["/etc/passwd", 1]),
        ({"longest": 3}, ["abc", [1, 2, 3]], ["abcd", [1, 2, 3, 4], 7]),
        ({"present": True}, [0, "", []], [None]),
        (
            {"domains": ("example.com", "*.example.com")},
            ["https://example.com/x", "HTTPS://A.EXAMPLE.COM.", "ada@example.com", "https://u:p@example.com:8443/"],
            [
                "https://example.com.evil.com", "https://evil.com/example.com", "https://example.com@evil.com/",
                "https://evil.com\\@example.com/", "https://evil.com#@example.com/", "https://evil.com?@example.com",
                "ada@example.com@evil.com", "ada@evil.com,ada@example.com", "ada@evil.com ada@example.com",
                "Ada <ada@example.com>", "https://exämple.com", "https://ex\u200bample.com", "example.com", "", "//example.com",
                "https://[::1", "javascript:alert(1)", "file:///example.com", "ada@example.com\n",
            ],
        ),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "fits", "does_not"), CONDITIONS)
def test_conditions_on_arguments(condition: dict[str, Any], fits: list[Any], does_not: list[Any]) -> None:
    """A rule that lets run needs what surely fits. One that holds back takes what can't be compared for fitting."""
    let = Policy(rules=(Rule(name="let", verdict=Verdict.RUN, arguments={"x": Condition(**condition)}),))
    for value in fits:
        assert decided(let, call(arguments={"x": value})) == ("run", "let"), value
    for value in does_not:
        assert decided(let, call(arguments={"x": value}))[0] == "ask", value
    assert decided(let, call(arguments={}))[0] == "ask"


@pytest.mark.parametrize("value", ["fifty", [1000], True, {"amount": 1}])
def test_what_can_not_be_compared_does_not_get_past_a_rule_that_holds_back(value: Any) -> None:
    hold = Policy(
        gates={Tier.IRREVERSIBLE: Verdict.RUN},
        rules=(Rule(name="hold", verdict=Verdict.ASK, arguments={"amount": Condition(above=50)}),),
    )
    assert decided(hold, call(arguments={"amount": value})) == ("ask", "hold")
    assert decided(hold, call(arguments={"amount": 50}))[0] == "run"


def test_paths_into_lists_mean_all_for_what_runs_and_any_for_what_is_held() -> None:
    run = Policy(rules=(Rule(name="r", verdict=Verdict.RUN, arguments={"items.*.price": Condition(most=50)}),))
    hold = Policy(
        gates={Tier.IRREVERSIBLE: Verdict.RUN},
        rules=(Rule(name="h", verdict=Verdict.DENY, arguments={"to.*": Condition(outside=("example.com",))}),),
    )

    def items(*prices: Any) -> ProposedCall:
        return call(arguments={"items": [{"price": price} for price in prices]})

    assert [decided(run, items(*prices))[0] for prices in ((1, 50), (1, 51), (), (1, "x"))] == [
        "run", "ask", "ask", "ask",
    ]  # fmt: skip
    assert decided(run, call(arguments={"items": [{}]}))[0] == "ask"
    assert decided(run, call(arguments={"items": "none"}))[0] == "ask"
    inside, mixed = ["a@example.com"], ["a@example.com", "b@evil.com"]
    assert [decided(hold, call(arguments={"to": to}))[0] for to in (inside, mixed, [*inside, 7], [])] == [
        "run", "deny", "deny", "run",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("hours", "within", "without"),
    [
        (Hours(times="09:00-17:30", days="mon-fri"), ["25T09:00", "25T17:29"], ["25T08:59", "25T17:30", "28T12:00"]),
        (Hours(times="22:00-06:00", days="fri"), ["27T22:00", "28T05:59"], ["27T05:00", "28T06:00", "28T22:00"]),
        (Hours(days="sat,sun"), ["28T00:00", "29T23:59"], ["27T23:59", "30T00:00"]),
        (Hours(days="sat-mon"), ["28T12:00", "30T12:00"], ["27T12:00", "24T12:00"]),
        (Hours(times="09:00-10:00", zone="Europe/Berlin"), ["25T08:30"], ["25T09:30"]),
    ],
)
def test_hours(hours: Hours, within: list[str], without: list[str]) -> None:
    def at(text: str) -> datetime:
        return datetime.fromisoformat(f"2026-11-{text}+00:00")

    assert [hours.contain(at(text)) for text in (*within, *without)] == [True] * len(within) + [False] * len(without)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gates = {PRIVILEGED = 'run'}", "PRIVILEGED calls always wait"),
        ("gates = {IRREVERSIBLE = 'maybe'}", "'run', 'ask'"),
        ("allowed = ['x']", "allowed: Extra inputs are not permitted"),
        ("[[rules]]\nname = 'a'\nverdict = 'run'\ntools = []", "tools is empty: the rule would never apply"),
        ("[[rules]]\nname = 'a'\nverdict = 'run'\narguments = {x = {}}", "it says nothing"),
        ("[[rules]]\nname = 'a'\nverdict = 'run'\ntiers = ['PRIVILEGED']", "no rule can run them"),
        ("[[rules]]\nname = 'a'\nverdict = 'run'\n[[rules]]\nname = 'a'\nverdict = 'ask'", "two rules are named 'a'"),
        ("[[rules]]\nname = 'a'\nverdict = 'ask'\nduring = {times = '9-5'}", "write them like 09:00-17:30"),
        ("[[rules]]\nname = 'a'\nverdict = 'ask'\nduring = {days = 'monday'}", "write them like mon-fri"),
        ("[[rules]]\nname = 'a'\nverdict = 'ask'\nduring = {zone = 'Mars/Base'}", "no time zone"),
        ("[roles]\nclerk = ['mony']", "'mony' is no permission and no scope; permissions are commands, mail, money"),
        ("[users]\nada = ['clerk']", "there is no role 'clerk'; roles are none"),
        ("[[rules]]\nname = ''\nverdict = 'ask'", "rules.0.name"),
    ],
)
def test_a_policy_that_says_what_it_can_not_mean_is_refused(text: str, told: str) -> None:
    with pytest.raises(ContractError, match="policy") as caught:
        parse_policy(text)
    assert told in str(caught.value)


def test_a_file_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        read_policy(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("= 3")
    with pytest.raises(SettingsError, match="no TOML"):
        read_policy(tmp_path / "bad.toml")
    (tmp_path / "large.toml").write_text("#" * 1_000_001)
    with pytest.raises(SettingsError, match="at most"):
        read_policy(tmp_path / "large.toml")


TOML = """
allow = ["issue_refund", "lookup_order", "drop_tables"]

[gates]
REVERSIBLE = "ask"

[[rules]]
name = "small refunds"
verdict = "run"
tools = ["issue_refund"]
arguments = { amount = { most = 50 }, "to.mail" = { domains = ["example.com"] } }

[[cases]]
call = { tool = "issue_refund", arguments = { amount = 40, to = { mail = "ada@example.com" } } }
expect = "run"
by = "small refunds"

[[cases]]
call = { tool = "issue_refund", arguments = { amount = 60, to = { mail = "ada@example.com" } } }
expect = "ask"
"""


class To(BaseModel):
    mail: str


@tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="payments:refund:write")
async def issue_refund(amount: Decimal, to: To) -> str:
    """Refund."""
    return "done"


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="orders:read")
async def lookup_order(number: str = "17") -> str:
    """Look up."""
    return "done"


@tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.PRIVILEGED, scope="admin:all")
async def drop_tables() -> str:
    """Drop."""
    return "done"


def test_the_same_policy_from_toml_and_from_python() -> None:
    small = Rule(
        name="small refunds",
        verdict=Verdict.RUN,
        tools=("issue_refund",),
        arguments={"amount": Condition(most=50), "to.mail": Condition(domains=("example.com",))},
    )
    told = parse_policy(TOML).model_dump(exclude={"cases"})
    made = Policy(
        allow=("issue_refund", "lookup_order", "drop_tables"), gates={Tier.REVERSIBLE: Verdict.ASK}, rules=(small,)
    )
    assert told == made.model_dump(exclude={"cases"})
    with pytest.raises(ValidationError):
        small.name = "other"  # type: ignore[misc]


def test_a_policy_is_held_against_its_cases_and_its_agents() -> None:
    agents = [Agent(name="desk", tools=[issue_refund, lookup_order, drop_tables])]
    policy = parse_policy(TOML)
    assert policy_faults(policy, agents) == []
    assert [case_fault(policy, case, agents) for case in policy.cases] == ["", ""]
    wrong = Case(
        call=CaseCall(tool="issue_refund", arguments={"amount": 1, "to": {"mail": "x@y.z"}}), expect=Verdict.RUN
    )
    assert "ask by tier IRREVERSIBLE, expected run" in case_fault(policy, wrong, agents)
    by = Case(call=policy.cases[0].call, expect=Verdict.RUN, by="other")
    assert "run by small refunds" in case_fault(policy, by, agents)
    for asked, told in (
        (CaseCall(tool="issue_refnd"), "no agent has 'issue_refnd'; tools are drop_tables"),
        (CaseCall(tool="issue_refund", arguments={"amount": 1}), "to: Field required"),
        (CaseCall(tool="lookup_order", agent="other"), "no agent named 'other'"),
    ):
        with pytest.raises(SettingsError, match=told):
            example(asked, agents)


def test_what_a_policy_says_about_nothing_is_found() -> None:
    agents = [Agent(name="desk", tools=[issue_refund, lookup_order, drop_tables])]
    policy = parse_policy("""
        deny = ["admin.*"]
        rules = [
            {name = "a", verdict = "run", tools = ["issue_refnd"]},
            {name = "b", verdict = "run", arguments = {amont = {most = 1}}},
            {name = "c", verdict = "run", arguments = {"to.mail" = {most = 1}, to = {most = 1}}, tools = ["issue_refund"]},
            {name = "d", verdict = "run", tools = ["drop_tables"]},
            {name = "e", verdict = "ask", agents = ["dsk"]},
        ]
    """)
    found = policy_faults(policy, agents)
    assert found == [
        "deny: 'admin.*' fits no tool and no scope",
        "rule 'a': tools: 'issue_refnd' fits none; there are drop_tables, issue_refund, lookup_order",
        "rule 'a': it fits no tool",
        (
            "rule 'b': arguments: none of issue_refund, lookup_order, drop_tables has 'amont'; they have amount, to, number; "
            "did you mean 'amount'?"
        ),
        "rule 'c': arguments: to is object, which has no 'most'",
        "rule 'd': all its tools are PRIVILEGED, and such calls always wait for a person",
        "rule 'e': agents: 'dsk' fits none; there are desk",
    ]


def test_it_is_explained_what_every_rule_makes_of_a_call() -> None:
    agents = [Agent(name="desk", tools=[issue_refund])]
    asked = CaseCall(tool="issue_refund", arguments={"amount": "50.01", "to": {"mail": "ada@example.com"}}, user="ada")
    explained = explain(parse_policy(TOML), example(asked, agents), NOON)
    assert (explained.ruling.verdict, [why for _, why in explained.rules]) == (Verdict.ASK, ["amount is above 50"])


def test_what_the_model_leaves_out_is_judged_with_its_default() -> None:
    policy = Policy(rules=(Rule(name="17", verdict=Verdict.DENY, arguments={"number": Condition(equals="17")}),))
    checked = fitting(lookup_order, {})
    assert permit([policy], [], lookup_order, checked, Caller()).verdict is Verdict.DENY


def ruled(*hooks: Hook, policy: Policy | None = None, amount: int = 5) -> Any:
    checked = fitting(issue_refund, {"amount": amount, "to": {"mail": "a@b.c"}})
    return permit([policy or OPEN], hooks, issue_refund, checked, Caller(agent="desk", user="ada"))


OPEN = Policy(
    gates={Tier.IRREVERSIBLE: Verdict.RUN},
    rules=(Rule(name="large", verdict=Verdict.ASK, arguments={"amount": Condition(above=50)}),),
)


def test_hooks_hold_back_leave_out_refuse_and_change() -> None:
    def says(word: HookWord | None) -> Hook:
        return lambda _: word

    changed = {"amount": 900, "to": {"mail": "a@b.c"}}
    assert ruled(says(None)).verdict is Verdict.RUN
    asked = ruled(says(HookWord(action="ask", reason="new customer")))
    assert (asked.verdict, asked.reason, asked.action) == (Verdict.ASK, "new customer", "ask")
    assert ruled(says(HookWord(action="skip"))).action == "skip"
    assert ruled(says(HookWord(action="ask")), says(HookWord(action="deny"))).verdict is Verdict.DENY
    # What it was changed to is judged, too, and an earlier word stands.
    large = ruled(says(HookWord(action="change", arguments=changed)))
    stored = {**changed, "amount": "900"}
    assert (large.verdict, large.rule, large.changed.stored) == (Verdict.ASK, "large", stored)
    small = {**changed, "amount": 1}
    both = ruled(says(HookWord(action="ask")), says(HookWord(action="change", arguments=small)), amount=2)
    assert (both.verdict, both.changed.stored) == (Verdict.ASK, {**small, "amount": "1"})
    misfit = ruled(says(HookWord(action="change", arguments={"amount": "x"})))
    assert (misfit.verdict, "what does not fit" in misfit.reason) == (Verdict.DENY, True)
    # A hook can't let run what the policy holds, and one that is broken lets nothing run either.
    assert ruled(says(None), policy=Policy()).verdict is Verdict.ASK

    def broken(_: ProposedCall) -> HookWord | None:
        raise KeyError("x")

    assert (ruled(broken).verdict, ruled(broken).rule) == (Verdict.ASK, "hook broken")
    with pytest.raises(ValueError, match="arguments= goes with"):
        HookWord(action="change")


def test_the_host_of_an_address_is_what_everybody_takes_it_for() -> None:
    assert [host_of(text) for text in ("https://A.b/", "http://[::1]:80/", "x@Y.z")] == ["a.b", "::1", "y.z"]


verdicts = st.sampled_from([Verdict.RUN, Verdict.ASK, Verdict.DENY])
conditions = st.sampled_from([Condition(most=50), Condition(above=10), Condition(equals=7), Condition(present=False)])


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    return Rule(
        name=str(draw(st.uuids())),
        verdict=draw(verdicts),
        tools=draw(st.sampled_from([("*",), ("issue_*",), ("other",), ("issue_refund", "x")])),
        arguments=draw(st.dictionaries(st.sampled_from(["amount", "to"]), conditions, max_size=2)),
        tenants=draw(st.sampled_from([("*",), ("acme",), ("b*",)])),
    )


@st.composite
def calls(draw: st.DrawFn) -> ProposedCall:
    amount = draw(st.one_of(st.integers(0, 100), st.none(), st.text(max_size=3), st.booleans()))
    tenant = draw(st.sampled_from(["acme", "beta", "default"]))
    return call(tier=draw(st.sampled_from(list(Tier))), tenant=tenant, arguments={"amount": amount})


@settings(max_examples=300, deadline=None)
@given(st.lists(rules(), max_size=6), rules(), calls(), st.randoms())
def test_more_rules_that_hold_back_never_loosen_and_order_never_matters(
    some: list[Rule], one: Rule, asked: ProposedCall, random: Any
) -> None:
    before = judge_all([Policy(rules=tuple(some))], asked, NOON)
    shuffled = [*some]
    random.shuffle(shuffled)
    assert judge_all([Policy(rules=tuple(shuffled))], asked, NOON).verdict is before.verdict
    after = judge_all([Policy(rules=(*some, one))], asked, NOON)
    beside = judge_all([Policy(rules=tuple(some)), Policy(rules=(one,))], asked, NOON)
    if one.verdict is not Verdict.RUN:
        assert STRICTNESS[after.verdict] >= STRICTNESS[before.verdict]
        assert STRICTNESS[beside.verdict] >= STRICTNESS[before.verdict]
    if asked.tier is Tier.PRIVILEGED:
        assert Verdict.RUN not in {before.verdict, after.verdict, beside.verdict}
