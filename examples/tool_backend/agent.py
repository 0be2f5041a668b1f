"""An agent whose tools live in `examples/tool_backend/app.py`.

With that running:

HANDFAST_SECRET_TOOL=whsec_c2VjcmV0LW9mLXRoZS1leGFtcGxl handfast dev examples.tool_backend.agent:clerk
handfast run clerk "Tell ada@example.com that her order is late, and open a ticket"
"""

import os
from datetime import timedelta

from examples.tool_backend.app import Email, Ticket

from handfast import Agent, Backoff, Effect, Limits, Rate, Script, Tier, ask
from handfast.contracts.signing import OnceOnly, StandardWebhooks
from handfast.tools.remote import http_tool

BACKEND = os.environ.get("TOOL_BACKEND", "http://127.0.0.1:8900")

send_email = http_tool(
    name="send_email",
    url=f"{BACKEND}/tools/send_email",
    description="Send an e-mail to one customer. Use it only for what the customer should know, never for internal notes.",
    version="1.0.0",
    effect=Effect.KEYED,
    tier=Tier.IRREVERSIBLE,
    scope="email:send",
    arguments=Email,
    sign=StandardWebhooks(secret="tool"),
    timeout=timedelta(seconds=30),
    attempts=6,
    backoff=Backoff(base=timedelta(seconds=1)),
    rates=(Rate(count=60, per=timedelta(minutes=1), each="tenant"),),
    show=("to", "subject"),
    egress=True,
    owner="mail team",
    runbook="the outbox folder holds one file for each mail",
)

create_ticket = http_tool(
    name="create_ticket",
    url=f"{BACKEND}/tools/create_ticket",
    description="Open a ticket for the people who look into it. Use it once for each problem a customer reports.",
    version="1.0.0",
    effect=Effect.KEYED,
    tier=Tier.REVERSIBLE,
    scope="tickets:write",
    arguments=Ticket,
    # The other dialect, with the same secret.
    sign=OnceOnly(secret="tool", secret_id="example"),
    timeout=timedelta(seconds=30),
    attempts=6,
    backoff=Backoff(base=timedelta(seconds=1)),
    rates=(Rate(count=60, per=timedelta(minutes=1), each="tenant"),),
    owner="support team",
)

script = Script(
    [
        ask("create_ticket", title="Order 1042 is late", priority="high"),
        ask("send_email", to="ada@example.com", subject="Your order", text="It is late; we look into it."),
        "Ada knows, and a ticket is open.",
    ]
)

clerk = Agent(
    name="clerk",
    model=script,
    instructions="You keep customers informed and open tickets.",
    tools=[create_ticket, send_email],
    limits=Limits(turns=10),
)
