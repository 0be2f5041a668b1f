"""A worker that kills or stops itself at points of a call, at each once: `python -m tests.crash.worker`.

The points stand around the engine's own code by wrapping the ledger and the tool; the engine has no test hooks.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel
from sqlalchemy import text
from temporalio import activity

from handfast import Agent, Effect, Lane, Limits, Script, Tier, ToolContext, ToolError, ask, compensation, tool
from handfast.activities.operation import OperationAttempt
from handfast.contracts.messages import ModelRequest, ModelResponse
from handfast.ledger import Ledger
from handfast.ledger.families import Families
from handfast.ledger.undoing import Undoing
from handfast.logs import configure_logs
from handfast.settings import load_settings
from handfast.tools import http as http_module
from handfast.tools.sends import Sends
from handfast.workers.process import serve
from tests.crash.downstream import LATE_SECONDS
from tests.family.trees import family

POINTS = os.environ.get("CRASH_POINT", "").split(";")
"""Where to crash, one after the other."""
MARK = Path(os.environ.get("CRASH_MARK", "/nonexistent"))
"""Has a line for each crash, written before it, so that each happens once."""
COUNT = int(os.environ.get("CRASH_COUNT", "1"))
"""At which passing of a point to crash."""
TARGETS: dict[str, list[tuple[str, int]]] = json.loads(
    Path(os.environ.get("CRASH_TARGETS", os.devnull)).read_text() or "{}"
)
"""Where several runs are served, by their ids: at which points of each to crash, one after the other, and at which passing of it. Each
run has a file of marks, named by its id."""
passed: list[tuple[str, str]] = []
SLOW = "slow" in POINTS
OWN_REFS = os.environ.get("CRASH_REFS") == "own"
"""Each operation charges under a reference of its own, so that many runs share one downstream."""
SLOW_SECONDS = 0.5
"""At the point "slow" a call takes so long before its effect, and again between the effect and the answer."""
BACK = os.environ.get("CRASH_BACK") == "1"
"""When both are charged, the model takes that back, and goes on."""
FAMILY = os.environ.get("CRASH_FAMILY") == "1"
"""The first charge is made by another agent, which the charger asks."""
TREE = os.environ.get("CRASH_TREE") == "1"
"""Families of any shape, whose runs say what each agent does."""
UNDO = TREE or os.environ.get("CRASH_UNDO") == "1"
"""The run fails when both are charged, and is undone."""
undoing: ContextVar[bool] = ContextVar("undoing", default=False)
"""What goes on is a compensation, whose points are `U1` where those of a call are `K1`, and so on."""
SIGNAL = signal.Signals[f"SIG{os.environ.get('CRASH_SIGNAL', 'KILL')}"]
VICTIMS = os.environ.get("CRASH_VICTIMS", "worker")
"""Who dies at a point: `worker`, `server` or `both`."""
SERVER = Path(os.environ.get("CRASH_SERVER", "/nonexistent"))
"""The file in which Temporal's server has its pid."""
EFFECT = Effect(os.environ.get("CRASH_EFFECT", "KEYED"))
LANE = Lane(os.environ.get("CRASH_LANE", "standard"))
MANNER = os.environ.get("CRASH_MANNER", "keyed" if EFFECT is Effect.KEYED else "plain")
"""How the downstream behaves."""
TIMEOUT = timedelta(seconds=1.5 if MANNER.endswith("late") else 2 if LANE is Lane.FAST else 3)


def crash_here(point: str) -> bool:
    """Whether this is the next point to crash at: of the run that this activity belongs to, where several have their own."""
    if undoing.get():
        point = point.replace("K", "U", 1)
    run = (activity.info().workflow_id or "") if TARGETS else ""
    targets = TARGETS.get(run, []) if TARGETS else [(one, COUNT) for one in POINTS]
    mark = MARK / run
    crashed = len(mark.read_text().splitlines()) if mark.exists() else 0
    if crashed >= len(targets) or point != targets[crashed][0]:
        return False
    passed.append((run, point))
    if passed.count((run, point)) < targets[crashed][1]:
        return False
    with mark.open("a") as file:
        file.write(f"{time.time()}\n")
    return True


def victims() -> list[int]:
    """The processes that die at a point: this one, Temporal's server, or both, the server first."""
    server = [int(json.loads(SERVER.read_text())["pid"])] if VICTIMS != "worker" else []
    return server + ([os.getpid()] if VICTIMS != "server" else [])


def die(point: str) -> None:
    if crash_here(point):
        for pid in victims():
            os.kill(pid, SIGNAL)


class Charge(BaseModel):
    charge: int


async def find_charge(args: Any, ctx: ToolContext) -> Charge | None:
    ref = ctx.operation_id if OWN_REFS else args.ref
    found = (await ctx.http("downstream").get("/charges", params={"ref": ref})).json()
    return Charge(charge=found[0]["charge"]) if found else None


async def find_refund(args: Any, result: Charge | None, ctx: ToolContext) -> Charge | None:
    found = (await ctx.http("downstream").get("/charges", params={"ref": refund_of(args, ctx)})).json()
    return Charge(charge=found[0]["charge"]) if found else None


def refund_of(args: Any, ctx: ToolContext) -> str:
    return f"undo-{ctx.undoes if OWN_REFS else args.ref}"


@compensation(
    attempts=1000 if OWN_REFS or TREE else 8,
    effect=Effect.ONCE if EFFECT is Effect.TRANSACTIONAL else EFFECT,
    timeout=timedelta(seconds=3),
    safe_if_absent=os.environ.get("CRASH_SAFE") == "1",
    reconcile=find_refund if EFFECT is Effect.RECONCILED else None,
)
async def refund(args: Any, result: Charge | None, ctx: ToolContext) -> Charge:
    """A charge the other way round."""
    if SLOW:
        await asyncio.sleep(SLOW_SECONDS)
    die("K3 before sending")
    headers = {"x-kill": " ".join(map(str, victims()))} if crash_here("K4 committed, no answer") else {}
    wanted = {"ref": refund_of(args, ctx), "manner": MANNER, "answer_after": 0}
    reply = await ctx.http("downstream").post("/charges", json=wanted, headers=headers)
    die("K5 answered, unwritten")
    return Charge.model_validate(reply.json())


@tool(
    version="1.0.0",
    effect=EFFECT,
    tier=Tier.READ_ONLY if EFFECT is Effect.READ else Tier(os.environ.get("CRASH_TIER", "REVERSIBLE")),
    scope="charges:write",
    timeout=TIMEOUT,
    lane=LANE,
    attempts=int(os.environ.get("CRASH_ATTEMPTS", "4")),
    settles_within=timedelta(seconds=LATE_SECONDS if MANNER.endswith("late") else 0.5),
    reconcile=find_charge if EFFECT is Effect.RECONCILED else None,
    compensate=refund if UNDO or BACK else None,
)
async def charge(ref: str, ctx: ToolContext) -> Charge:
    """Charge."""
    if EFFECT is Effect.TRANSACTIONAL:
        return await charge_in_the_ledgers_database(ref, ctx)
    if SLOW:
        await asyncio.sleep(SLOW_SECONDS)
    die("K3 before sending")
    headers = {"x-kill": " ".join(map(str, victims()))} if crash_here("K4 committed, no answer") else {}
    client, ref = ctx.http("downstream"), ctx.operation_id if OWN_REFS else ref
    if EFFECT is Effect.READ:
        await client.get("/charges", params={"ref": ref}, headers=headers)
        die("K5 answered, unwritten")
        return Charge(charge=0)
    if EFFECT is Effect.IDEMPOTENT:
        reply = await client.put(f"/charges/{ref}", headers=headers)
    else:
        wanted = {"ref": ref, "manner": MANNER, "answer_after": SLOW_SECONDS if SLOW else 0}
        reply = await client.post("/charges", json=wanted, headers=headers)
    die("K5 answered, unwritten")
    return Charge.model_validate(reply.json())


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="charges:read", attempts=1)
async def refuse(ctx: ToolContext) -> str:
    """Fail."""
    raise ToolError("no", code="no", happened="no")


async def charge_in_the_ledgers_database(ref: str, ctx: ToolContext) -> Charge:
    async with ctx.transaction() as connection:
        await connection.execute(text("INSERT INTO charges (ref) VALUES (:ref)"), {"ref": ref})
    die("T3 written, uncommitted")
    return Charge(charge=1)


def wrap_transaction(after: str) -> None:
    """Die right after a transactional effect and its settlement were committed."""
    method = "_in_transaction"
    original = getattr(OperationAttempt, method)

    async def wrapped(*args: Any) -> Any:
        result = await original(*args)
        die(after)
        return result

    setattr(OperationAttempt, method, wrapped)


def wrap_sending() -> None:
    """Die, or freeze, when the engine has looked for the last time and the bytes of a charge are about to go out."""
    original = http_module.looking

    def wrapped(sends: Sends, request: httpx.Request) -> Callable[[], None]:
        look = original(sends, request)

        def looked() -> None:
            begins = http_module.GONE not in request.extensions
            look()
            if begins and request.url.path == "/charges":
                die("K3 sending")

        return looked

    http_module.looking = wrapped


class Asked(Script):
    """A model that dies when it is asked again: the calls before were reported to Temporal."""

    async def respond(self, request: ModelRequest) -> ModelResponse:
        if any(message.results for message in request.messages):
            die("K7 reported")
        return await super().respond(request)


def wrap(name: str, before: str | tuple[str, ...], after: str | tuple[str, ...], *, of: type = Ledger) -> None:
    """Die right before or right after one of the ledger's transactions, which may be several points at once."""
    original: Callable[..., Awaitable[Any]] = getattr(of, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        for point in (before,) if isinstance(before, str) else before:
            die(point)
        result = await original(*args, **kwargs)
        for point in (after,) if isinstance(after, str) else after:
            die(point)
        return result

    setattr(of, name, wrapped)


def wrap_undoing() -> None:
    """Know in an activity that it is a compensation."""
    original = Undoing.to_undo

    async def wrapped(*args: Any) -> Any:
        undoing.set(True)
        return await original(*args)

    setattr(Undoing, original.__name__, wrapped)


clerk = Agent(
    name="clerk",
    model=Script([ask("charge", ref="one"), "charged"]),
    instructions="Charge.",
    tools=[charge],
    limits=Limits(wall_time=timedelta(minutes=10)),
)
agent = Agent(
    name="charger",
    model=Asked(
        [
            *([ask("savepoint", name="before")] if BACK else []),
            ask("clerk", request="Charge one") if FAMILY else ask("charge", ref="one"),
            ask("charge", ref="two"),
            *([ask("roll_back", to="before")] if BACK else []),
            *([] if UNDO else ["charged"]),
        ]
    ),
    savepoints=BACK,
    instructions="Charge.",
    tools=[charge, refuse, *([clerk.as_tool(description="Charge one")] if FAMILY else [])],
    limits=Limits(wall_time=timedelta(minutes=10), turns=20),
)

if __name__ == "__main__":
    wrap("open_run", "M0 before opening", "M1 opened")
    wrap("open_and_ask", ("M0 before opening", "M2 model answered"), ("M1 opened", "K0 decided"))
    wrap("settle_turn", "M2 model answered", "K0 decided")
    wrap("reserve", "K1 started", "K2 reserved")
    wrap("settle", "-", "K6 settled, unreported")
    wrap("settle_and_ask", "M2 model answered", ("K6 settled, unreported", "K0 decided"))
    wrap("ask_ahead", "M2 model answered", "K0 decided")
    wrap("record_decision", "-", "P1 word written")
    wrap("record_resolution", "-", "P1 word written")
    wrap("begin", "U0 before undoing", "U0 begun", of=Undoing)
    wrap("block", "B0 not undone", "B1 blocked", of=Undoing)
    wrap("unblock", "-", "B2 word written", of=Undoing)
    wrap("begin", "F0 before it is begun", "F1 child begun", of=Families)
    wrap("end", "F2 child ended", "F3 its end written", of=Families)
    wrap("undo", "F4 child undone", "F5 its undoing written", of=Families)
    wrap_undoing()
    wrap_sending()
    wrap_transaction("T6 committed, unreported")
    wrap("close_run", "M4 before closing", "M5 closed")
    wrap("ask_and_close", ("M2 model answered", "M4 before closing"), "M5 closed")
    settings = load_settings()
    configure_logs(settings)
    asyncio.run(serve([family(charge, "ref")] if TREE else [agent], settings))
