"""The demo's story: tickets come in, a worker is killed in the middle of a refund, another one carries on."""

import asyncio
import json
import shutil
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.text import Text

from handfast.client.cli.output import short
from handfast.client.cli.story import Story
from handfast.client.client import Client
from handfast.client.run import Run
from handfast.contracts.errors import RunFailed, SettingsError
from handfast.contracts.results import RunResult
from handfast.demo.processes import Child, start_service
from handfast.demo.report import Report, print_report
from handfast.engine.embedded import EmbeddedEngine
from handfast.ledger import Ledger
from handfast.settings import load_settings

TICKETS = Path(__file__).parent / "support_desk" / "tickets.jsonl"
ANSWER_AFTER = 1.5
"""Seconds the payment service takes to answer after a refund is made: the moment at which the worker is killed."""
HEARTBEAT_SECONDS = 2
TOO_LONG = 120.0
console = Console(highlight=False)


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A customer's message."""

    id: str
    sender: str
    text: str


@dataclass
class Desk:
    """Everything the demo runs."""

    client: Client
    payments: str
    worker_env: dict[str, str]
    folder: Path
    worker: Child | None = None
    killed_at: float = 0.0
    victim: str = ""
    """The run whose refund was under way when its worker was killed."""
    recovered_after: float | None = None
    approved: list[str] = field(default_factory=list[str])

    def start_worker(self) -> Child:
        """Start a worker process in place of the last one."""
        command = ["handfast.client.cli", "worker", "handfast.demo.support_desk.agent:desk"]
        self.worker = Child("worker", command, self.worker_env, self.folder)
        return self.worker

    def stop_worker(self) -> None:
        """Let the worker end."""
        if self.worker is not None:
            self.worker.stop()


def main(*, ticket: str = "", keep: bool = False) -> int:
    """Run the demo; 0 if everything it claims was seen."""
    try:
        return asyncio.run(_demo(_tickets(ticket), keep=keep))
    except KeyboardInterrupt:
        return 130


def _tickets(own: str) -> list[Ticket]:
    if own:
        return [Ticket(id="ticket-own", sender="you", text=own)]
    lines = TICKETS.read_text().splitlines()
    return [Ticket(id=t["id"], sender=t["from"], text=t["text"]) for t in map(json.loads, filter(None, lines))]


async def _demo(tickets: list[Ticket], *, keep: bool) -> int:
    settings = load_settings()
    home = settings.home / "demo"
    try:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
    except OSError as error:
        msg = f"the demo's folder {str(home)!r} can't be made: {error.strerror}. Set HANDFAST_HOME to a writable place"
        raise SettingsError(msg) from error
    settings = settings.model_copy(update={"home": home, "ledger_url": "", "heartbeat_seconds": HEARTBEAT_SECONDS})
    async with AsyncExitStack() as stack:
        payments, payments_url = start_service("payments", home, answer_after=ANSWER_AFTER)
        stack.callback(payments.stop)
        orders, orders_url = start_service("orders", home)
        stack.callback(orders.stop)
        embedded = await stack.enter_async_context(EmbeddedEngine(home, binary=settings.temporal))
        ledger = Ledger.connect(settings.ledger)
        await ledger.migrate()
        await ledger.close()
        client = await Client.connect(embedded.engine.address, settings=settings)
        stack.push_async_callback(client.close)
        upstreams = {"orders": {"base_url": orders_url}, "payments": {"base_url": payments_url}}
        env = {
            "HANDFAST_HOME": str(home.absolute()),
            "HANDFAST_LEDGER_URL": settings.ledger,
            "HANDFAST_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "HANDFAST_UPSTREAMS": json.dumps(upstreams),
            "TEMPORAL_ADDRESS": embedded.engine.address,
        }
        desk = Desk(client=client, payments=payments_url, worker_env=env, folder=home)
        desk.start_worker()
        stack.callback(desk.stop_worker)
        _introduce(embedded.engine.ui, tickets, scripted=not settings.anthropic_api_key)
        report = await _work(desk, tickets)
        correct = print_report(console, report)
        if keep:
            console.print(f"\nstill running: {embedded.engine.ui}  (Ctrl-C ends it)")
            await asyncio.Event().wait()
    return 0 if correct else 1


def _introduce(ui: str, tickets: list[Ticket], *, scripted: bool) -> None:
    deciding = "a scripted model (no ANTHROPIC_API_KEY)" if scripted else "claude-sonnet-5"
    console.print(f"{len(tickets)} ticket(s); deciding: [bold]{deciding}[/]; Temporal UI: {ui}\n")


async def _work(desk: Desk, tickets: list[Ticket]) -> Report:
    runs = [await desk.client.start("desk", t.text, id=t.id, user=t.sender) for t in tickets]
    try:
        async with asyncio.timeout(TOO_LONG), asyncio.TaskGroup() as group:
            helpers = [group.create_task(_kill_in_the_middle(desk)), group.create_task(_approve(desk))]
            followed = [group.create_task(_follow(desk, run)) for run in runs]
            await asyncio.wait(followed)
            for helper in helpers:
                helper.cancel()
    except TimeoutError as error:
        msg = f"the demo did not end within {TOO_LONG:g} s; the worker's log is {desk.folder / 'worker.log'}"
        raise RunFailed(msg) from error
    except ExceptionGroup as group_of_errors:
        raise group_of_errors.exceptions[0] from None
    verifications = [await desk.client.ledger.verify(run.id) for run in runs]
    return Report(
        tickets=[(t.id, t.text) for t in tickets],
        results=[task.result() for task in followed],
        payment_log=await _log(desk.payments),
        victim=desk.victim,
        recovered_after=desk.recovered_after,
        approved=desk.approved,
        faults=[f"{v.run_id}: {fault}" for v in verifications for fault in v.faults],
        entries=sum(v.entries for v in verifications),
        links=[desk.client.engine.link(run.id) for run in runs],
        whole_story=len(tickets) > 1,
    )


async def _follow(desk: Desk, run: Run) -> RunResult:
    story = Story()
    async for event in run.events():
        recovering = desk.victim == run.id and desk.recovered_after is None
        if event.kind in {"settled", "turn"} and recovering and event.at.timestamp() > desk.killed_at:
            desk.recovered_after = event.at.timestamp() - desk.killed_at
        for line in story.lines(event):
            console.print(Text.assemble((f"{run.id:<9} ", "cyan"), line), soft_wrap=True)
    return await run.result()


async def _kill_in_the_middle(desk: Desk) -> None:
    """Kill the worker at the worst moment: the refund is made, its answer is not yet there."""
    while True:
        made = [entry for entry in await _log(desk.payments) if entry["what"] == "refunded"]
        if made:
            break
        await asyncio.sleep(0.02)
    worker = desk.worker
    if worker is None:
        return
    worker.kill()
    desk.killed_at = time.time()
    desk.victim = await _run_of(desk, made[0]["key"])
    console.print(
        f"\n[bold red]kill -9 {worker.pid}[/]: the payment service has refunded {made[0]['amount_minor'] / 100:.2f} for "
        f"{desk.victim}, and the worker never got the answer"
    )
    started = desk.start_worker()
    console.print(
        f"[bold green]a new worker starts[/] (pid {started.pid}), knowing nothing but the ledger and Temporal\n"
    )


async def _run_of(desk: Desk, operation_id: str) -> str:
    for summary in await desk.client.runs():
        operations = await desk.client.run(summary.run_id).operations()
        if any(operation.operation_id == operation_id for operation in operations):
            return summary.run_id
    return "?"


async def _approve(desk: Desk) -> None:
    """Be the person who is asked."""
    while True:
        for summary in await desk.client.runs(waiting=True):
            run = desk.client.run(summary.run_id)
            for operation in await run.operations():
                if operation.state == "waiting" and operation.operation_id not in desk.approved:
                    console.print(
                        f"\n[bold yellow]{run.id} waits for a person[/]: {operation.tool} {short(operation.arguments)}\n"
                        f"  a person would type: handfast approve {run.id} {operation.operation_id}\n"
                    )
                    await asyncio.sleep(1)
                    await run.decide(operation.operation_id, approve=True, digest=operation.digest, by="the demo")
                    desk.approved.append(operation.operation_id)
        await asyncio.sleep(0.2)


async def _log(address: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=address) as http:
        entries: list[dict[str, Any]] = (await http.get("/log")).json()
        return entries
