"""Four tools that live in a process of their own, for agents anywhere.

Start it with:

    TOOL_SECRET=whsec_c2VjcmV0LW9mLXRoZS1leGFtcGxl uvicorn --factory examples.tool_backend.app:make_app --port 8900

Calls are signed, happen once, and are answered from the ledger database when they are repeated. Mails go to SMTP_HOST if it is
set, else into the folder `outbox`, one file each.
"""

import asyncio
import os
import smtplib
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.message import EmailMessage
from hashlib import sha256
from pathlib import Path
from typing import Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field

from handfast import Rate
from handfast.ledger import Ledger
from handfast.tools.backend import BackendCall, BackendError, ToolBackend, secrets_from_environment

HOME = Path(os.environ.get("TOOL_HOME", ".handfast/tool_backend"))
ADDRESS = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"


class Email(BaseModel):
    to: str = Field(pattern=ADDRESS)
    subject: str = Field(min_length=1, max_length=200)
    text: str = Field(max_length=20_000)


class BulkEmail(BaseModel):
    to: list[str] = Field(min_length=1, max_length=50)
    subject: str = Field(min_length=1, max_length=200)
    text: str = Field(max_length=20_000)


class Ticket(BaseModel):
    title: str = Field(min_length=3, max_length=200)
    priority: Literal["low", "normal", "high"] = "normal"


class FailingTest(BaseModel):
    how: Literal["refuse", "crash", "late"]


async def send_email(email: Email, call: BackendCall) -> dict[str, str]:
    """One file, or one message id, for each call: repeated after a crash it is found, not sent again."""
    return {"message_id": await asyncio.to_thread(deliver, email, call.key)}


async def bulk_email(wanted: BulkEmail, call: BackendCall) -> dict[str, object]:
    """Each address has an outcome of its own; one that fails takes none of the others along."""
    outcomes: list[dict[str, str]] = []
    for address in wanted.to:
        try:
            email = Email(to=address, subject=wanted.subject, text=wanted.text)
            told = {"status": "sent", "message_id": await asyncio.to_thread(deliver, email, f"{call.key}/{address}")}
        except ValueError:
            told = {"status": "failed", "reason": "no e-mail address"}
        except (OSError, smtplib.SMTPException) as error:
            told = {"status": "failed", "reason": type(error).__name__}
        outcomes.append({"to": address, **told})
    return {"outcomes": outcomes, "sent": sum(outcome["status"] == "sent" for outcome in outcomes)}


async def create_ticket(ticket: Ticket, call: BackendCall) -> dict[str, object]:
    """The key is a column of the ticket: repeated after a crash, it is the same ticket."""
    number = await asyncio.to_thread(store_ticket, ticket, f"{call.ns}/{call.key}")
    return {"ticket": number, "priority": ticket.priority}


async def failing_test(wanted: FailingTest, call: BackendCall) -> None:
    """Fails in each of the ways a tool can fail, to see what an agent makes of it."""
    if wanted.how == "refuse":
        raise BackendError("this test always refuses", code="refused_as_asked")
    if wanted.how == "crash":
        msg = f"as asked for, with a secret that must not get out: {os.environ.get('TOOL_SECRET')}"
        raise RuntimeError(msg)
    await asyncio.sleep(3600)


def deliver(email: Email, key: str) -> str:
    """Send a mail, or write it into the outbox."""
    name = sha256(key.encode()).hexdigest()[:32]
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "agents@example.com", email.to, email.subject
    message["Message-ID"] = f"<{name}@example.com>"
    message.set_content(email.text)
    if host := os.environ.get("SMTP_HOST"):
        with smtplib.SMTP(host, timeout=10) as smtp:
            smtp.send_message(message)
        return str(message["Message-ID"])
    outbox = HOME / "outbox"
    outbox.mkdir(parents=True, exist_ok=True)
    (outbox / f"{name}.eml").write_bytes(message.as_bytes())
    return str(message["Message-ID"])


def store_ticket(ticket: Ticket, key: str) -> int:
    """The ticket of that key, made if it is not there."""
    HOME.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(HOME / "tickets.db") as database:
        database.execute("CREATE TABLE IF NOT EXISTS tickets (n INTEGER PRIMARY KEY, key TEXT UNIQUE, title, priority)")
        new = (key, ticket.title, ticket.priority)
        database.execute("INSERT OR IGNORE INTO tickets (key, title, priority) VALUES (?, ?, ?)", new)
        [[number]] = database.execute("SELECT n FROM tickets WHERE key = ?", (key,))
    return int(number)


def make_app() -> FastAPI:
    """The application, with its calls kept in HANDFAST_LEDGER_URL."""
    ledger = Ledger.connect(os.environ.get("HANDFAST_LEDGER_URL", f"sqlite:///{HOME.absolute()}/ledger.db"))
    seconds = float(os.environ.get("TOOL_ANSWER_SECONDS", "30"))
    secrets = secrets_from_environment("TOOL_SECRET", "TOOL_SECRET_BEFORE")
    backend = ToolBackend(ledger, secrets, answer_within=timedelta(seconds=seconds))
    often = Rate(count=60, per=timedelta(minutes=1), each="tenant")
    backend.tool("send_email", Email, rates=[often], repeatable=True)(send_email)
    backend.tool("bulk_email", BulkEmail, rates=[Rate(count=5, per=timedelta(minutes=1), each="tenant")])(bulk_email)
    backend.tool("create_ticket", Ticket, rates=[often], repeatable=True)(create_ticket)
    backend.tool("failing_test", FailingTest)(failing_test)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await ledger.migrate()
        yield
        await ledger.close()

    backend.app.router.lifespan_context = lifespan
    return backend.app
