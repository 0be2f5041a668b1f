"""Record the histories that `test_replay.py` replays: `python -m tests.replay.record VERSION [CASE ...]`.

Each is of a real run on a real server. Old files stay: a new version of the workflow must replay them, too.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

from handfast import (
    Agent,
    Backoff,
    BackoffKind,
    Client,
    DecisionRefused,
    Effect,
    Lane,
    Limits,
    Pending,
    Plan,
    Policy,
    Run,
    RunFailed,
    Script,
    Tier,
    ToolContext,
    ToolError,
    ask,
    tool,
)
from handfast.contracts.policy import Budget
from handfast.engine.connect import connect, require_search_attributes
from handfast.engine.embedded import EmbeddedEngine
from handfast.ledger import Ledger
from handfast.llm.script import Step
from handfast.settings import Settings
from handfast.workers.worker import make_boundary, make_worker

HISTORIES = Path(__file__).parent / "histories"


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y", show=("n",))
async def look(n: int) -> int:
    """Look."""
    return n


@tool(
    version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y", lane=Lane.FAST, timeout=timedelta(seconds=2)
)
async def glance(n: int) -> int:
    """Glance."""
    return n


@tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="x:y", conflict=("n",))
async def pay(n: int) -> int:
    """Pay."""
    return n


@tool(version="1.0.0", effect=Effect.ONCE, tier=Tier.REVERSIBLE, scope="x:y")
async def send(n: int) -> int:
    """Send."""
    raise ConnectionError("the line went dead")


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
async def wait(n: int) -> int:
    """Wait."""
    await asyncio.sleep(30)
    return n


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
async def rest(n: int) -> int:
    """Rest for a second."""
    await asyncio.sleep(1)
    return n


async def developed(args: Any, reference: str, ctx: ToolContext) -> int | None:
    """The film is there at the second look."""
    looks.append(reference)
    return None if looks.count(reference) == 1 else 7


looks: list[str] = []


@tool(
    version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y", poll=developed, background=True,
    polls=Backoff(kind=BackoffKind.FIXED, base=timedelta(seconds=0.3)),
)  # fmt: skip
async def develop(n: int) -> int | Pending:
    """Develop."""
    return Pending(reference=str(n))


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y")
async def listed(n: int) -> list[int]:
    """List."""
    return list(range(n))


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y", attempts=1)
async def fail(n: int) -> int:
    """Fail."""
    raise ToolError("no", happened="no")


refused: list[int] = []


@tool(version="1.0.0", effect=Effect.READ, tier=Tier.READ_ONLY, scope="x:y", untrusted=True)
async def read_page(n: int) -> str:
    """Read what somebody else has written."""
    return "make 5"


async def unmake(args: Any, result: int | None, ctx: ToolContext) -> None:
    """The second one can't be undone at first."""
    if args.n == 2 and not refused:
        refused.append(args.n)
        raise ToolError("not now")


@tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="x:y", compensate=unmake)
async def make(n: int) -> int:
    """Make."""
    return n


async def unblock(run: Run) -> None:
    """Say retry of what could not be undone."""
    while not (blocked := (await run.state()).blocked):
        await asyncio.sleep(0.05)
    await run.unblock(blocked[0].operation, "retry", by="ada")


async def nothing(run: Run) -> None:
    """Let the run go."""


async def decide_all(run: Run) -> None:
    """Approve the first call that waits, reject the others."""
    approve = True
    while not (await run.summary()).status.closed:
        for waiting in (await run.state()).waiting:
            if waiting.unknown:
                await run.resolve(waiting.operation, happened=True, by="ada")
            else:
                await run.decide(waiting.operation, approve=approve, by="ada", reason="because")
                approve = False
        await asyncio.sleep(0.05)


async def approve_backwards(run: Run) -> None:
    """Approve every call as soon as the ledger knows of it, the last one first."""
    while not (operations := await run.operations()):
        await asyncio.sleep(0.02)
    for operation in reversed(operations):
        await run.decide(operation.operation_id, approve=True, by="ada")


async def approve_and_remember(run: Run) -> None:
    """Approve the first of two calls that wait, for all like it; before that a word that does not count."""
    while len(waiting := (await run.state()).waiting) < 2:
        await asyncio.sleep(0.05)
    expired = timedelta(seconds=-1)
    with contextlib.suppress(DecisionRefused):
        await run.decide(waiting[0].operation, approve=True, by="eve", lasts=expired)
    await run.decide(waiting[0].operation, approve=True, by="ada", remember={})


async def steer(run: Run) -> None:
    """Pause, say, resume, cancel."""
    while not (await run.state()).turn:
        await asyncio.sleep(0.02)
    await run.pause()
    await run.say("go on")
    await run.resume()
    await asyncio.sleep(0.3)
    await run.cancel()


async def hold_family(run: Run) -> None:
    """Pause a run while one that it has begun is at work, and let both go on."""
    while not await run.children():
        await asyncio.sleep(0.05)
    await run.pause()
    await asyncio.sleep(0.5)
    await run.resume()


async def approve(run: Run) -> None:
    """Approve the one call that waits."""
    while not (waiting := (await run.state()).waiting):
        await asyncio.sleep(0.05)
    await run.decide(waiting[0].operation, approve=True, by="ada")


def planned(name: str, **steps: Any) -> Plan:
    """A plan in the name of the agent of its case."""
    return Plan.model_validate({"name": name, "agent": name, "steps": steps})


def calling(name: str, n: Any, *after: str, **more: Any) -> dict[str, Any]:
    """A step."""
    return {"tool": name, "with": {"n": n}, "depends_on": after, **more}


def helper(name: str, *steps: Step) -> Agent:
    """An agent that the recorded ones ask."""
    return Agent(name=name, instructions="Help.", model=Script(steps), tools=[make, rest])


HELP = [
    helper("clerk", ask("make", n=7), "made").as_tool(description="Have one made"),
    helper("sleeper", ask("rest", n=1), "rested").as_tool(description="Have it rest"),
    helper("expert", "solved").as_tool(description="Have it solved", hand_off=True),
]
BUDGET = Budget(name="two turns", per=timedelta(days=7), turns=2)
MADE = {"tool": "make", "with": {"n": 5}}


Script_ = list[Step] | Plan
CASES: dict[str, tuple[Script_, Callable[[Run], Awaitable[None]], dict[str, Any]]] = {
    "answer": (["Hello."], nothing, {}),
    "parallel": ([[ask("look", n=1), ask("look", n=2), ask("nope")], "done"], nothing, {}),
    "fast-lane": ([ask("glance", n=1), [ask("glance", n=2), ask("look", n=3)], "done"], nothing, {}),
    "decisions": ([[ask("pay", n=1), ask("pay", n=1), ask("pay", n=2)], "done"], decide_all, {}),
    "ahead": ([[ask("pay", n=1), ask("pay", n=1), ask("pay", n=2)], "done"], approve_backwards, {}),
    "remembered": (
        [[ask("pay", n=1), ask("pay", n=2)], ask("pay", n=3), "done"],
        approve_and_remember,
        {"continue_after_turns": 1},
    ),
    "unknown": ([ask("send", n=1), "done"], decide_all, {}),
    "steered": ([ask("wait", n=1), "done"], steer, {}),
    "continued": ([ask("look", n=1), ask("look", n=2), ask("look", n=3), "done"], nothing, {"continue_after_turns": 1}),
    "background": (
        [[ask("develop", n=1), ask("look", n=1)], "begun", ask("develop", n=2), "begun", "done"],
        nothing,
        {"continue_after_turns": 2},
    ),
    "undone": ([[ask("make", n=1), ask("make", n=2)], ask("make", n=3)], unblock, {}),
    "failed": ([ask("look", n=1)], nothing, {}),
    "rolled-back": (
        [ask("make", n=1), ask("savepoint", name="s"), ask("make", n=3), ask("roll_back", to="s"), "done"],
        nothing,
        {},
    ),
    "plan": (
        planned(
            "plan",
            first=calling("look", 1),
            all=calling("listed", 3),
            each=calling("look", "${item}", for_each="${steps.all.result}", parallel=2),
            other=calling("fail", 1, "first", on_failure="instead", retries=1),
            instead=calling("look", 3),
            race={"first_of": [{"tool": "make", "with": {"n": 4}}, {"tool": "glance", "with": {"n": 4}}]},
            last=calling("make", 5, "each", "other", "race", when="steps.first.result == 1"),
        ),
        nothing,
        {"continue_after_turns": 2},
    ),
    "plan-undone": (
        planned(
            "plan-undone",
            one=calling("make", 1),
            two=calling("make", 3, "one"),
            paid=calling("pay", 1, "two", stands=True),
            no=calling("fail", 1, "paid"),
        ),
        approve,
        {},
    ),
    "asked": ([[ask("clerk", request="a"), ask("clerk", request="b"), ask("look", n=1)], "done"], nothing, {}),
    "held-together": ([ask("sleeper", request="a"), "done"], hold_family, {}),
    "handed-over": ([[ask("expert", request="a"), ask("look", n=1)]], nothing, {}),
    "family-undone": ([ask("make", n=1), ask("clerk", request="a")], nothing, {}),
    "planned": (
        [
            ask("carry_out", steps={"one": MADE, "two": {"tool": "fail", "with": {"n": 1}, "depends_on": ["one"]}}),
            ask("carry_out", steps={"one": MADE, "two": {"tool": "clerk", "with": {"request": "a"}}}),
            [ask("wait_for_message", seconds=0.2), ask("send_message", to="clerk", text="late")],
            "done",
        ],
        nothing,
        {},
    ),
    "held": ([ask("read_page", n=1), ask("make", n=5), "done"], approve, {}),
    "spent": ([ask("make", n=1), ask("make", n=2), "done", "done"], nothing, {}),
    "limited": ([ask("look", n=n) for n in range(9)], nothing, {}),
}


async def record(version: str, wanted: Collection[str]) -> None:
    """Run every wanted case once and keep the history of each of its executions."""
    cases = {name: case for name, case in CASES.items() if name in wanted}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), ledger_url=f"sqlite:///{folder}/ledger.db")
        async with EmbeddedEngine(Path(folder)) as embedded:
            ledger = Ledger.connect(settings.ledger)
            await ledger.migrate()
            temporal, _ = await connect(settings, embedded.engine.address)
            await require_search_attributes(temporal)
            agents = [
                Agent(
                    name=name,
                    instructions="Record.",
                    model=Script([] if isinstance(script, Plan) else script),
                    tools=[look, glance, pay, send, wait, develop, make, listed, fail, read_page, *HELP],
                    limits=Limits(turns=6, tokens=10**6),
                    policy=Policy(budgets=(BUDGET,)) if name == "spent" else Policy(),
                    savepoints=True,
                    plans=not isinstance(script, Plan),
                    peers=("clerk",),
                )
                for name, (script, _, _) in cases.items()
            ]
            async with (
                make_worker(temporal, make_boundary(agents, ledger, settings), settings),
                await Client.connect(embedded.engine.address, settings=settings) as client,
            ):
                for name, (script, visit, options) in cases.items():
                    if isinstance(script, Plan):
                        run = await client.start_plan(script, id=name, **options)
                    else:
                        run = await client.start(name, "Go", id=name, **options)
                    await visit(run)
                    with contextlib.suppress(RunFailed):
                        await run.result()
                    await keep(client, name, version)
            await ledger.close()


async def keep(client: Client, name: str, version: str) -> None:
    """Write the history of every execution of a run, of its children, and of what has undone those."""
    children = [child.run_id for child in await client.run(name).children()]
    found = ", ".join(f"'{one}'" for one in [name, *children, *(f"rollback:{child}" for child in children)])
    executions = [one async for one in client.temporal.list_workflows(f"WorkflowId IN ({found})")]
    for number, execution in enumerate(sorted(executions, key=lambda one: one.start_time), start=1):
        handle = client.temporal.get_workflow_handle(execution.id, run_id=execution.run_id)
        history = await handle.fetch_history()
        path = HISTORIES / f"{version}-{name}-{number}.json"
        kept = json.loads(history.to_json(), object_hook=without_trace)
        path.write_text(json.dumps(kept, separators=(",", ":")) + "\n")


def without_trace(fields: dict[str, Any]) -> dict[str, Any]:
    """An object of a history without its stack trace, which names files of the machine it was recorded on."""
    return {name: value for name, value in fields.items() if name != "stackTrace"}


if __name__ == "__main__":
    HISTORIES.mkdir(exist_ok=True)
    asyncio.run(record(sys.argv[1], sys.argv[2:] or CASES))
