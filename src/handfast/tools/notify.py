"""Telling people something through a channel. Told twice it says that it is the same."""

import asyncio
import json
import smtplib
import ssl
import time
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any

from handfast.contracts.channels import Channel, Command, Mail, Webhook
from handfast.contracts.errors import HandfastError
from handfast.contracts.messages import Frozen
from handfast.contracts.signing import webhook_signature
from handfast.contracts.texts import printable
from handfast.tools.credentials import Credentials, Wanted


class NotTold(HandfastError):
    """A channel did not take what there was to tell."""


class Telling(Frozen):
    """What there is to tell of a call. No contents: only what its contract shows."""

    kind: str
    """`asked`, `reminder 1`, `escalated`, `deadline` or `done`."""
    run: str
    operation: str
    tool: str
    tier: str
    agent: str
    user: str
    tenant: str
    reason: str = ""
    show: str = ""
    asked_at: str = ""

    @property
    def id(self) -> str:
        """The same for the same thing told again."""
        return f"{self.operation}:{self.kind.replace(' ', '-')}"

    @property
    def subject(self) -> str:
        """In one line."""
        what = f"{self.tool} {self.show}".strip()
        match self.kind:
            case "done":
                return f"{what} was carried out"
            case "deadline":
                return f"{what} was refused: nobody has decided in time"
            case "asked":
                return f"{what} waits for a decision"
            case _:
                return f"{what} still waits for a decision"

    @property
    def text(self) -> str:
        """For people."""
        lines = [
            self.subject, "", f"tier    {self.tier}", f"for     {self.user or 'nobody'} of {self.tenant}",
            f"agent   {self.agent}", f"run     {self.run}",
        ]  # fmt: skip
        if self.reason:
            lines.append(f"because {self.reason}")
        lines += ["", f"handfast show {self.run}"]
        if self.kind not in {"done", "deadline"}:
            lines.append(f"handfast decide {self.run} {self.operation}")
        return printable("\n".join(lines)) + "\n"

    @property
    def payload(self) -> dict[str, Any]:
        """For programs, in the shape of Standard Webhooks."""
        told = {**self.model_dump(mode="json", exclude={"kind"}), "subject": self.subject}
        return {"type": f"approval.{self.kind.split(' ', maxsplit=1)[0]}", "timestamp": self.asked_at, "data": told}


async def tell(channel: Channel, telling: Telling, credentials: Credentials) -> None:
    """Tell it, signed or signed in with what the channel names.

    Raises:
        NotTold: The channel did not take it; it may be told again.
    """
    match channel:
        case Webhook():
            await _post(channel, telling, await _secret(credentials, channel.secret))
        case Mail():
            await _mail(channel, telling, await _secret(credentials, channel.password) if channel.password else "")
        case Command():
            await _run(channel, telling)


async def _post(channel: Webhook, telling: Telling, secret: str) -> None:
    import httpx

    body, now = json.dumps(telling.payload).encode(), int(time.time())
    headers = {
        "content-type": "application/json",
        "webhook-id": telling.id,
        "webhook-timestamp": str(now),
        "webhook-signature": webhook_signature(secret, telling.id, now, body),
    }
    try:
        async with httpx.AsyncClient(timeout=channel.seconds, follow_redirects=False) as client:
            reply = await client.post(channel.url, content=body, headers=headers)
    except httpx.HTTPError as error:
        msg = f"{channel.url} does not answer: {type(error).__name__}"
        raise NotTold(msg) from error
    if not reply.is_success:
        msg = f"{channel.url} answered {reply.status_code}"
        raise NotTold(msg)


async def _mail(channel: Mail, telling: Telling, password: str) -> None:
    message = EmailMessage()
    message["Subject"] = " ".join(printable(telling.subject).split())[:200]
    message["From"] = channel.sender
    message["To"] = ", ".join(channel.to)
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{telling.id.replace(':', '.')}@{channel.sender.rpartition('@')[2]}>"
    message.set_content(telling.text)
    try:
        await asyncio.to_thread(_send, channel, message, password)
    except (OSError, smtplib.SMTPException) as error:
        msg = f"{channel.host}:{channel.port} did not take the mail: {type(error).__name__}: {error}"
        raise NotTold(msg[:300]) from error


def _send(channel: Mail, message: EmailMessage, password: str) -> None:
    context = ssl.create_default_context()
    made = (
        smtplib.SMTP_SSL(channel.host, channel.port, timeout=channel.seconds, context=context)
        if channel.security == "tls"
        else smtplib.SMTP(channel.host, channel.port, timeout=channel.seconds)
    )
    with made as server:
        if channel.security == "starttls":
            server.starttls(context=context)
        if channel.user:
            server.login(channel.user, password)
        server.send_message(message)


async def _run(channel: Command, telling: Telling) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *channel.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )  # fmt: skip
    except OSError as error:
        msg = f"{channel.command[0]} can't be run: {error.strerror}"
        raise NotTold(msg) from error
    try:
        async with asyncio.timeout(channel.seconds):
            _, told = await process.communicate(json.dumps(telling.payload).encode())
    except TimeoutError as error:
        process.kill()
        await process.wait()
        msg = f"{channel.command[0]} did not end within {channel.seconds:g} s"
        raise NotTold(msg) from error
    if process.returncode:
        msg = f"{channel.command[0]} ended with {process.returncode}: {told.decode(errors='replace')[-200:]}"
        raise NotTold(msg)


async def _secret(credentials: Credentials, name: str) -> str:
    try:
        return await credentials.read(Wanted(name))
    except HandfastError as error:
        raise NotTold(str(error)) from error
