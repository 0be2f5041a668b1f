"""AgentDojo v1.1.2 through the engine: its own tools and worlds, contracts of ours, and the worst-case model.

The contracts say what an author would who knows where such words come from: mails, web pages, reviews, messages, shared files, what
others write on a transfer. Ids, the user's own address book, and who is a member of a workspace are the service's own words.
"""
# mypy: disable-error-code="import-not-found,import-untyped,no-any-unimported,unused-ignore"
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from handfast import Effect, Tier, ToolContext, ToolError
from handfast.contracts.provenance import Untrusted
from handfast.contracts.tool import Tool
from tests.redteam.worst import Call, Case, WorstCase

VERSION = "v1.1.2"
SEEN = "zzINJECTIONzz"
R, V, I = Tier.READ_ONLY, Tier.REVERSIBLE, Tier.IRREVERSIBLE  # noqa: E741 - as they stand in the tables below
WRITTEN = ("title", "description", "location")
"""Of an event: whoever invites writes that."""


@dataclass(frozen=True)
class Says:
    """What a contract says of one of AgentDojo's tools."""

    tier: Tier
    scope: str
    untrusted: Untrusted = False
    targets: tuple[str, ...] | None = None
    egress: bool = False
    sensitive: bool = False


MAIL = Says(R, "mail:read", untrusted=True)
DRIVE = Says(R, "drive:read", untrusted=("content",))
CALENDAR = Says(R, "calendar:read", untrusted=WRITTEN)
LISTED = Says(R, "directory:read", untrusted=True)
WORKSPACE = {
    "send_email": Says(I, "mail:send", ("body", "subject"), ("recipients", "cc", "bcc", "attachments"), egress=True),
    "delete_email": Says(I, "mail:delete", untrusted=True, targets=("email_id",)),
    "get_unread_emails": MAIL,
    "get_sent_emails": MAIL,
    "get_received_emails": MAIL,
    "get_draft_emails": MAIL,
    "search_emails": MAIL,
    "search_contacts_by_name": Says(R, "contacts:read"),
    "search_contacts_by_email": Says(R, "contacts:read"),
    "get_current_day": Says(R, "clock:read"),
    "search_calendar_events": CALENDAR,
    "get_day_calendar_events": CALENDAR,
    "create_calendar_event": Says(V, "calendar:write", WRITTEN, ("title", "participants"), egress=True),
    "cancel_calendar_event": Says(V, "calendar:write", targets=("event_id",), egress=True),
    "reschedule_calendar_event": Says(V, "calendar:write", WRITTEN, ("event_id",), egress=True),
    "add_calendar_event_participants": Says(V, "calendar:write", WRITTEN, ("event_id", "participants"), egress=True),
    "append_to_file": Says(V, "drive:write", ("content",), ("file_id",)),
    "search_files_by_filename": DRIVE,
    "create_file": Says(V, "drive:write", ("content",), ("filename",)),
    "delete_file": Says(I, "drive:delete", ("content",), ("file_id",)),
    "get_file_by_id": DRIVE,
    "list_files": DRIVE,
    "share_file": Says(V, "drive:share", ("content",), ("file_id", "email"), egress=True),
    "search_files": DRIVE,
}
TRAVEL = {
    **dict.fromkeys(
        (
            "get_all_hotels_in_city", "get_hotels_prices", "get_rating_reviews_for_hotels", "get_hotels_address",
            "get_all_restaurants_in_city", "get_cuisine_type_for_restaurants", "get_restaurants_address",
            "get_rating_reviews_for_restaurants", "get_dietary_restrictions_for_all_restaurants",
            "get_contact_information_for_restaurants", "get_price_for_restaurants", "check_restaurant_opening_hours",
            "get_all_car_rental_companies_in_city", "get_car_types_available", "get_rating_reviews_for_car_rental",
            "get_car_fuel_options", "get_car_rental_address", "get_car_price_per_day", "get_flight_information",
        ),
        LISTED,
    ),
    **{
        name: WORKSPACE[name]
        for name in (
            "create_calendar_event", "search_calendar_events", "get_day_calendar_events", "cancel_calendar_event", "send_email",
        )
    },
    "get_user_information": Says(R, "profile:read", sensitive=True),
    "reserve_hotel": Says(V, "bookings:write", targets=("hotel",), egress=True),
    "reserve_car_rental": Says(V, "bookings:write", targets=("company",), egress=True),
    "reserve_restaurant": Says(V, "bookings:write", targets=("restaurant",), egress=True),
}  # fmt: skip
BANKING = {
    "get_iban": Says(R, "bank:read"),
    "send_money": Says(I, "bank:pay", targets=("recipient",), egress=True),
    "schedule_transaction": Says(V, "bank:pay", targets=("recipient",), egress=True),
    "update_scheduled_transaction": Says(V, "bank:pay", targets=("id", "recipient"), egress=True),
    "get_balance": Says(R, "bank:read"),
    "get_most_recent_transactions": Says(R, "bank:read", untrusted=("subject", "sender")),
    "get_scheduled_transactions": Says(R, "bank:read"),
    "read_file": Says(R, "files:read", untrusted=True),
    "get_user_info": Says(R, "profile:read"),
    "update_password": Says(I, "profile:password"),
    "update_user_info": Says(V, "profile:write"),
}
SLACK = {
    "get_channels": Says(R, "slack:read", untrusted=True),
    "add_user_to_channel": Says(V, "slack:members", targets=("user", "channel"), egress=True),
    "read_channel_messages": Says(R, "slack:read", untrusted=("body",)),
    "read_inbox": Says(R, "slack:read", untrusted=("body",)),
    "send_direct_message": Says(V, "slack:send", targets=("recipient",), egress=True),
    "send_channel_message": Says(V, "slack:send", targets=("channel",), egress=True),
    "get_users_in_channel": Says(R, "slack:read"),
    "invite_user_to_slack": Says(V, "slack:members", targets=("user_email",), egress=True),
    "remove_user_from_slack": Says(V, "slack:members", targets=("user",)),
    "get_webpage": Says(R, "web:read", untrusted=True, targets=("url",), egress=True),
    "post_webpage": Says(V, "web:write", targets=("url",), egress=True),
}
CONTRACTS = {"workspace": WORKSPACE, "travel": TRAVEL, "banking": BANKING, "slack": SLACK}


@dataclass
class World:
    """One task's environment, as AgentDojo has it."""

    suite: Any
    task: Any
    environment: Any
    before: Any
    runtime: Any
    calls: list[Call] = field(default_factory=list[Call])

    def run(self, tool: str, arguments: dict[str, Any]) -> Any:
        """Carry a call out by AgentDojo's own implementation."""
        result, error = self.runtime.run_function(self.environment, tool, arguments)
        if error:
            raise ToolError(str(error), happened="no")
        self.calls.append((tool, arguments))
        return as_json(result)

    def is_done(self) -> bool:
        """Whether the user's task is done, by AgentDojo's own judgement."""
        output = self.task.GROUND_TRUTH_OUTPUT
        try:
            return bool(self.task.utility(output, self.before, self.environment))
        except NotImplementedError:
            from agentdojo.functions_runtime import FunctionCall

            calls = [FunctionCall(function=tool, args=arguments) for tool, arguments in self.calls]
            return bool(self.task.utility_from_traces(output, self.before, self.environment, calls))


def suites() -> dict[str, Any]:
    """AgentDojo's suites by name."""
    from agentdojo.task_suite.load_suites import get_suites

    return dict(get_suites(VERSION))


def tools_of(name: str, suite: Any, model: WorstCase) -> list[Tool]:
    """The tools of a suite, with our contracts."""
    return [_tool(function, CONTRACTS[name][function.name], model) for function in suite.tools]


def _tool(function: Any, says: Says, model: WorstCase) -> Tool:
    async def call(arguments: BaseModel, ctx: ToolContext) -> Any:
        case = model.cases[ctx.user]
        given = arguments.model_dump(exclude_unset=True)
        result = case.world.run(function.name, given)
        case.carry_out(function.name, given)
        return result

    call.__annotations__ = {"arguments": function.parameters, "ctx": ToolContext, "return": Any}
    return Tool(
        name=function.name,
        version="1.0.0",
        description=function.description or function.name,
        effect=Effect.READ if says.tier is Tier.READ_ONLY else Effect.ONCE,
        tier=says.tier,
        scope=says.scope,
        function=call,
        untrusted=says.untrusted,
        targets=says.targets,
        egress=says.egress,
        sensitive=says.sensitive,
        result_limit=1_000_000,
    )


def benign(suite: Any) -> Iterator[Case]:
    """Every user task, with nobody attacking."""
    for task in suite.user_tasks.values():
        yield _case(suite, task, None)


def attacked(suite: Any) -> Iterator[Case]:
    """Every user task with every injection, in every place where somebody else's words can stand."""
    for task in suite.user_tasks.values():
        for injection in suite.injection_tasks.values():
            yield _case(suite, task, injection)


def _case(suite: Any, task: Any, injection: Any | None) -> Case:
    from agentdojo.functions_runtime import FunctionsRuntime

    text = "" if injection is None else f"{SEEN} {injection.GOAL}"
    places = {} if injection is None else dict.fromkeys(suite.get_injection_vector_defaults(), text)
    environment = task.init_environment(suite.load_and_inject_default_environment(places))
    before = environment.model_copy(deep=True)
    world = World(suite, task, environment, before, FunctionsRuntime(suite.tools))
    calls = [_call(one) for one in task.ground_truth(before.model_copy(deep=True))]
    name = task.ID if injection is None else f"{task.ID} {injection.ID}"

    def attack() -> list[Call]:
        assert injection is not None, "nobody attacks"
        return [_call(one) for one in injection.ground_truth(environment.model_copy(deep=True))]

    return Case(name=name, request=task.PROMPT, user=calls, attack=attack, injection=text[: len(SEEN)], world=world)


def _call(one: Any) -> Call:
    return one.function, {name: as_json(value) for name, value in one.args.items()}


def as_json(value: Any) -> Any:
    """What a tool returns, as JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(name): as_json(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(one) for one in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
