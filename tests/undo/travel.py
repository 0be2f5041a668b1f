"""A travel agency on loopback: books and cancels, keeps a log in order, and fails as a test plans it."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

from pydantic import BaseModel

from handfast import Agent, Backoff, Compensation, Effect, Limits, Script, Tier, ToolContext, ask, compensation, tool
from handfast.contracts.tool import Tool
from handfast.contracts.upstream import Upstream
from handfast.llm.script import Step
from tests.loopback import Loopback, body_of

FAST = Backoff(base=timedelta(milliseconds=20), longest=timedelta(milliseconds=50))


class Booking(BaseModel):
    number: str


class Travel(Loopback):
    """`POST /flight` books one, `DELETE /flight/NUMBER` cancels it. Both honour idempotency keys."""

    def __init__(self) -> None:
        self.log: list[str] = []
        """What has happened, in order, such as `book flight oslo` and `cancel flight oslo`."""
        self.planned: dict[str, list[int]] = {}
        """Statuses to answer next, without doing it, by what is asked: `cancel hotel`, or `cancel hotel grand`. 0 does it, and
        loses the connection then."""
        self.slow: dict[str, float] = {}
        """Seconds until the answer, by what is asked."""
        self.asked: list[str] = []
        """What was asked, whatever became of it."""
        self.keys: list[str] = []
        self._answered: dict[str, bytes] = {}
        self._lock = threading.Lock()
        super().__init__(self._answer)

    @property
    def upstreams(self) -> dict[str, Upstream]:
        return {"travel": Upstream(base_url=self.url, circuit=None)}

    @property
    def standing(self) -> set[str]:
        """What is booked and not cancelled."""
        booked = {one.removeprefix("book ") for one in self.log if one.startswith("book ")}
        return booked - {one.removeprefix("cancel ") for one in self.log if one.startswith("cancel ")}

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(body_of(request) or b"{}")
        _, kind, *number = request.path.split("/")
        what = f"{'book' if request.command == 'POST' else 'cancel'} {kind}"
        key = request.headers["Idempotency-Key"] or ""
        name = number[0] if number else body["number"]
        with self._lock:
            planned = self.planned.get(f"{what} {name}") or self.planned.get(what)
            status = planned.pop(0) if planned else 200
            self.asked.append(f"{what} {name}")
            if status in {0, 200} and key not in self._answered:
                self.log.append(f"{what} {name}")
                self.keys.append(key)
                self._answered[key] = json.dumps({"number": name}).encode()
        time.sleep(self.slow.get(what, 0))
        if status == 0:
            request.connection.close()
            return
        answer = self._answered.get(key, b"{}") if status == 200 else b"{}"
        request.send_response(status)
        request.send_header("content-length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)


async def book(kind: str, number: str, ctx: ToolContext) -> Booking:
    reply = await ctx.http("travel").post(f"/{kind}", json={"number": number})
    return Booking.model_validate(reply.json())


def cancelling(kind: str, attempts: int = 2, **clauses: Any) -> Compensation:
    """What cancels a booking."""

    @compensation(attempts=attempts, backoff=FAST, **clauses)
    async def cancel(args: Any, result: Booking | None, ctx: ToolContext) -> None:
        number = args.number if result is None else result.number
        assert ctx.undoes not in {"", ctx.operation_id}
        await ctx.http("travel").delete(f"/{kind}/{number}")

    return cancel


def booking(kind: str, compensate: Compensation | None = None, **clauses: Any) -> Tool:
    """A tool that books."""
    clauses = {"effect": Effect.KEYED, "tier": Tier.REVERSIBLE, "attempts": 2, "backoff": FAST, **clauses}
    undo = None if clauses.get("pivot") else compensate or cancelling(kind)

    @tool(name=kind, version="1.0.0", scope="travel:w", compensate=undo, **clauses)
    async def act(number: str, ctx: ToolContext) -> Booking:
        """Book."""
        return await book(kind, number, ctx)

    return act


TOOLS = [booking("flight"), booking("hotel"), booking("car")]
SAFE = [booking(kind, cancelling(kind, safe_if_absent=True)) for kind in ("flight", "hotel", "car")]
"""The same, whose bookings may be cancelled without knowing whether they were made."""
TRIP = [ask("flight", number="oslo"), ask("hotel", number="grand"), ask("car", number="red")]
"""The script ends there, and so the run fails."""


def traveller(steps: Sequence[Step] | Callable[..., Step], tools: list[Tool] | None = None, **options: Any) -> Agent:
    return Agent(
        name="traveller",
        instructions="Book trips.",
        model=Script(steps),
        tools=tools or TOOLS,
        limits=options.pop("limits", Limits(turns=50, tokens=10**7, wall_time=timedelta(minutes=10))),
        **options,
    )
