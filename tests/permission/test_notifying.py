"""People are told that calls wait for them, by real HTTP, SMTP and programs, each step once; what comes too late is refused."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from standardwebhooks import Webhook as Verifier

from handfast import Agent, ContractError, Effect, Outcome, Policy, Run, RunStatus, Tier, ask, tool
from handfast.contracts.channels import Command, Mail, Webhook
from handfast.contracts.policy import parse_policy
from handfast.contracts.policy.approval import Approval
from handfast.contracts.tool import Tool
from handfast.engine.embedded import free_port
from handfast.tools.credentials import Credentials
from handfast.tools.notify import NotTold, Telling, tell
from handfast.workers.notifier import Notifier
from tests.conftest import OpenShop, Shop, outcomes, until
from tests.loopback import Loopback, body_of
from tests.permission.people import ended, waiting
from tests.workflow.agents import agent

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TELLING = Telling(
    kind="asked", run="r1", operation="op1", tool="pay", tier="IRREVERSIBLE", agent="clerk", user="uma\r\nBcc: eve@evil.com",
    tenant="acme", reason="tier IRREVERSIBLE", show="bob\u202e\nX: y", asked_at="2026-11-25T12:00:00+00:00",
)  # fmt: skip


class Hook:
    """An endpoint that keeps what it is told, once its signature is verified."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.answers: list[int] = []

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        body = body_of(request)
        Verifier(SECRET).verify(body, {name.lower(): value for name, value in request.headers.items()})
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.told.append(json.loads(body))
            self.ids.append(request.headers["webhook-id"])
        request.send_response(status)
        request.end_headers()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Hook, Webhook]]:
    monkeypatch.setenv("HANDFAST_SECRET_OPS", SECRET)
    hook = Hook()
    with Loopback(hook) as server:
        yield hook, Webhook(url=server.url, secret="ops")


class Inbox:
    """What an SMTP server got."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default)))
        return "250 OK"


async def test_a_mail_holds_what_a_person_needs_and_no_header_of_somebody_else() -> None:
    inbox = Inbox()
    port = free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        channel = Mail(host="127.0.0.1", port=port, security="none", sender="bot@example.com", to=("ada@example.com",))
        await tell(channel, TELLING, Credentials())
    finally:
        controller.stop()
    [(to, mail)] = inbox.mails
    text = mail.get_payload(decode=True).decode()
    assert (to, mail["Bcc"], mail["X"], mail["Message-ID"]) == (
        ["ada@example.com"],
        None,
        None,
        "<op1.asked@example.com>",
    )
    assert "pay bob" in mail["Subject"]
    assert "handfast decide r1 op1" in text
    assert "\u202e" not in text
    with pytest.raises(NotTold, match="did not take the mail"):
        await tell(channel, TELLING, Credentials())


async def test_a_program_gets_it_as_json_and_must_end_well(tmp_path: Path) -> None:
    file = tmp_path / "told.json"
    await tell(Command(command=("sh", "-c", f"cat > {file}")), TELLING, Credentials())
    told = json.loads(file.read_text())
    assert (told["type"], told["data"]["operation"], told["data"]["tier"]) == ("approval.asked", "op1", "IRREVERSIBLE")
    for command, why in (
        (("sh", "-c", "echo no >&2; exit 3"), "ended with 3: no"),
        ((str(tmp_path / "none"),), "can't be run"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "did not end within 0.5 s"),
    ):
        with pytest.raises(NotTold, match=why):
            await tell(Command(command=command, seconds=0.5), TELLING, Credentials())


async def test_an_endpoint_is_told_with_a_signature_and_errors_are_said(hook: tuple[Hook, Webhook]) -> None:
    endpoint, channel = hook
    endpoint.answers = [500, 302]
    for status in (500, 302):
        with pytest.raises(NotTold, match=f"answered {status}"):
            await tell(channel, TELLING, Credentials())
    await tell(channel, TELLING, Credentials())
    assert endpoint.ids == ["op1:asked"]
    with pytest.raises(NotTold, match="no secret 'other'"):
        await tell(channel.model_copy(update={"secret": "other"}), TELLING, Credentials())
    with pytest.raises(NotTold, match="does not answer"):
        await tell(channel.model_copy(update={"url": "http://127.0.0.1:1"}), TELLING, Credentials())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("escalate = '1h'", "escalate and escalate_to go together"),
        ("remind = ['1h']", "tell must say whom"),
        ("tell = ['x']\nremind = ['0s']", "above zero"),
        ("tell = ['x']\nremind = ['2h']\ndeadline = '1h'", "after the deadline"),
        ("tell = ['x']\ndeadline = 'soon'", "approval.deadline"),
    ],
)
def test_what_can_not_be_meant_is_refused(text: str, told: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_policy(f"[approval]\n{text}")
    assert told in str(caught.value)


def test_how_people_are_told_is_not_an_agents_to_say() -> None:
    with pytest.raises(ContractError, match="which is the installation's"):
        Agent(name="a", policy=Policy(approval=Approval(tell=("ops",))))


def paying(tier: Tier) -> Tool:
    @tool(version="1.0.0", effect=Effect.KEYED, tier=tier, scope="payments:pay", show=("to",))
    async def pay(to: str, iban: str = "DE00") -> str:
        """Pay."""
        return "paid"

    return pay


@pytest.fixture
def notifier() -> Callable[..., Notifier]:
    def made(desk: Shop, **channels: Any) -> Notifier:
        boundary = desk.boundary
        return Notifier(
            desk.client.temporal, desk.ledger, boundary.registry, boundary.permission, channels, Credentials()
        )

    return made


async def asked(desk: Shop, run_id: str, policy: str) -> tuple[Run, Any]:
    await desk.client.set_policy(policy)
    run = await desk.client.start("tester", "Go", id=run_id, user="uma")
    return run, await waiting(run)


APPROVAL = """
[approval]
tell = ["ops"]
remind = ["1500ms"]
escalate = "3s"
escalate_to = ["boss"]
"""


async def test_each_step_is_told_once_by_one_of_several_workers(
    shop: OpenShop, hook: tuple[Hook, Webhook], notifier: Callable[..., Notifier]
) -> None:
    endpoint, channel = hook
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying(Tier.IRREVERSIBLE)))
    run, one = await asked(desk, "told", APPROVAL)
    several = [notifier(desk, ops=channel, boss=channel) for _ in range(3)]

    async def until_told(count: int) -> None:
        async def so_many() -> bool:
            await asyncio.gather(*(each.look() for each in several))
            return len(endpoint.told) >= count

        await until(so_many)

    await until_told(1)
    [first] = endpoint.told
    data = first["data"]
    assert (first["type"], data["tool"], data["show"], data["user"]) == ("approval.asked", "pay", "bob", "uma")
    # What its contract does not show is not told.
    assert "DE00" not in json.dumps(first)
    await until_told(3)
    assert endpoint.ids == [f"{one.operation}:{step}" for step in ("asked", "reminder-1", "escalated")]
    await run.decide(one.operation, approve=True)
    assert (await ended(run)).status is RunStatus.COMPLETED
    await asyncio.gather(*(each.look() for each in several))
    assert len(endpoint.ids) == 3


async def test_a_channel_that_is_down_is_tried_again_and_steps_that_have_passed_are_left_out(
    shop: OpenShop, hook: tuple[Hook, Webhook], notifier: Callable[..., Notifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handfast.workers.notifier.FIRST_WAIT_MS", 100)
    endpoint, channel = hook
    endpoint.answers = [500, 503]
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying(Tier.IRREVERSIBLE)))
    run, one = await asked(desk, "down", APPROVAL)
    await asyncio.sleep(1.6)
    teller = notifier(desk, ops=channel)

    async def told() -> bool:
        await teller.look()
        return bool(endpoint.told)

    await until(told)
    # Nobody looked before the reminder was due, so that is what is told; and the boss's channel is not known here.
    assert endpoint.ids == [f"{one.operation}:reminder-1"]
    await asyncio.sleep(1.6)
    assert await teller.look() == []
    known = await desk.ledger.installation.told_so_far([one.operation])
    assert set(known[one.operation]) == {"asked", "reminder 1", "escalated"}
    await run.cancel()
    await ended(run)


async def test_what_nobody_decides_in_time_is_refused_and_the_run_goes_on(
    shop: OpenShop, hook: tuple[Hook, Webhook], notifier: Callable[..., Notifier]
) -> None:
    endpoint, channel = hook
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying(Tier.IRREVERSIBLE)))
    run, one = await asked(desk, "late", '[approval]\ntell = ["ops"]\ndeadline = "500ms"')
    await asyncio.sleep(0.6)
    teller = notifier(desk, ops=channel)
    assert await teller.look() == [f"{one.operation}:deadline"]
    result = await ended(run)
    assert outcomes(result.operations) == [("pay", Outcome.DENIED)]
    assert "nobody has decided on this call of pay within 0:00:00.5" in result.operations[0].result["message"]
    assert (endpoint.ids, await teller.look()) == ([f"{one.operation}:deadline"], [])
    assert (await desk.ledger.verify(run.id)).faults == ()


async def test_people_are_told_of_what_was_done_and_can_be_undone(
    shop: OpenShop, hook: tuple[Hook, Webhook], notifier: Callable[..., Notifier]
) -> None:
    endpoint, channel = hook
    desk = await shop(agent([ask("pay", to="bob"), "done"], paying(Tier.REVERSIBLE)))
    await desk.client.set_policy('[approval]\ntell_done = ["ops"]')
    run = await desk.client.start("tester", "Go", id="done", user="uma")
    [operation] = (await ended(run)).operations
    teller = notifier(desk, ops=channel)
    assert await teller.look() == [f"{operation.operation_id}:done"]
    assert (await teller.look(), [one["type"] for one in endpoint.told]) == ([], ["approval.done"])
    assert endpoint.told[0]["data"]["subject"] == "pay bob was carried out"
