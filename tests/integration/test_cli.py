"""The command line as a user types it, with a worker process and an engine of its own."""

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from temporalio.client import Client as TemporalClient
from typer.core import TyperGroup
from typer.main import get_command

from handfast.client.cli.app import app
from handfast.engine.connect import engine_at
from handfast.engine.embedded import free_port
from tests.conftest import until
from tests.crash.harness import Process
from tests.processes import run_module

HANDFAST = [sys.executable, "-m", "handfast.client.cli"]
AGENTS = '''
from pathlib import Path

from handfast import Agent, Effect, Script, Tier, ToolError, ask, tool

@tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.IRREVERSIBLE, scope="letters:write", show=("to",))
async def send_letter(to: str) -> str:
    """Send a letter to somebody."""
    return f"sent to {to}"

clerk = Agent(name="clerk", model=Script([ask("send_letter", to="ada"), "The letter is sent."]),
              instructions="Send letters.", tools=[send_letter])
async def close_account(args, result, ctx):
    if not Path("permitted").exists():
        raise ToolError("the bank wants a form", happened="no")

@tool(version="1.0.0", effect=Effect.KEYED, tier=Tier.REVERSIBLE, scope="accounts:write", compensate=close_account)
async def open_account(name: str) -> str:
    """Open an account."""
    return name

banker = Agent(name="banker", model=Script([ask("open_account", name="ada"), ask("open_account", name="bob"), "Open."]),
               instructions="Open accounts.", tools=[open_account])
greeter = Agent(name="greeter", model=Script(["Hello."]), instructions="Greet.")
town = Agent(name="town", tools=[open_account, send_letter])
office = [clerk, banker, greeter, town]
'''


class Office:
    """A folder with agents, and `handfast dev` serving them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "HANDFAST_"))}
        self.env = {**kept, "PYTHONPATH": str(folder), "COLUMNS": "200", "HANDFAST_SWEEP_SECONDS": "1"}

    async def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return await run_module("handfast.client.cli", *words, env=self.env, cwd=self.folder)

    async def json(self, *words: str) -> list[dict[str, Any]]:
        done = await self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
async def office(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    (folder / "office.py").write_text(AGENTS)
    made = Office(folder)
    with (folder / "dev.log").open("ab") as output:
        process = subprocess.Popen(
            [*HANDFAST, "dev", "office:office"], cwd=folder, env=made.env, stdout=output, stderr=output
        )

    async def serves() -> bool:
        assert process.poll() is None, (folder / "dev.log").read_text()
        return '"serving"' in (folder / "dev.log").read_text()

    await until(serves, seconds=60)
    yield made
    engine = engine_at(folder / ".handfast")
    assert engine is not None
    process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(process.wait, 20) == 0, (folder / "dev.log").read_text()
    assert not psutil.pid_exists(engine.pid)
    assert engine_at(folder / ".handfast") is None


async def test_run_follows_a_run_and_show_tells_its_story(office: Office) -> None:
    done = await office("run", "greeter", "Say hello", "--id", "first")
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stdout
    assert done.stdout.endswith("Hello.\n")
    shown = await office("show", "first")
    assert "1 turns, 0 calls" in shown.stdout
    assert "/namespaces/default/workflows/first" in shown.stdout
    watched = await office("watch", "first")
    assert watched.stdout.endswith("Hello.\n")


async def test_a_call_is_approved_or_rejected_by_command(office: Office) -> None:
    for word, outcome in (("approve", "SUCCEEDED"), ("reject", "DENIED")):
        run_id = f"letter-{word}"
        started = await office("run", "clerk", "Write to Ada", "--id", run_id, "--detach")
        assert started.stdout.strip() == run_id

        async def waiting(run_id: str = run_id) -> Any:
            return [one for one in await office.json("runs", "--waiting") if one["run_id"] == run_id]

        await until(waiting, seconds=30)
        [story] = await office.json("show", run_id)
        [operation] = story["operations"]
        assert (operation["state"], operation["arguments"]) == ("waiting", {"to": "ada"})
        refused = await office(word, run_id, operation["operation_id"], "--digest", "other")
        assert (refused.returncode, "digest" in refused.stderr) == (3, True)
        assert (await office(word, run_id, operation["operation_id"])).returncode == 0
        watched = await office("watch", run_id)
        assert watched.returncode == 0, watched.stdout + watched.stderr
        [story] = await office.json("show", run_id)
        assert story["operations"][0]["outcome"] == outcome
        again = await office(word, run_id, operation["operation_id"])
        assert again.returncode == 3


async def test_pause_say_resume_cancel_reach_a_run(office: Office) -> None:
    await office("run", "clerk", "Write to Ada", "--id", "steered", "--detach")
    for words in (("pause", "steered"), ("say", "steered", "be brief"), ("resume", "steered"), ("cancel", "steered")):
        done = await office(*words)
        assert done.returncode == 0, done.stderr
    watched = await office("watch", "steered")
    assert (watched.returncode, "cancelled" in watched.stdout) == (6, True)


async def test_a_run_is_rolled_back_by_command_and_what_is_stuck_is_found_and_freed(office: Office) -> None:
    await office("run", "banker", "Open two", "--id", "accounts")
    [first, second] = [o["operation_id"] for o in (await office.json("show", "accounts"))[0]["operations"]]
    owed = await office.json("rollback", "accounts", "--dry-run")
    assert [one["operation"] for one in owed] == [second, first]
    assert [one["operation"] for one in await office.json("rollback", "accounts", "--to", first, "--dry-run")] == [
        second
    ]
    refused = await office("rollback", "accounts", "--to", "none")
    assert (refused.returncode, "has no operation 'none'" in refused.stderr) == (3, True)
    await office.json("rollback", "accounts", "--to", first, "--reason", "a mistake", "--by", "ada")

    async def stuck() -> bool:
        return [one["run_id"] for one in await office.json("runs", "--blocked")] == ["accounts"]

    await until(stuck, seconds=40)
    shown = await office("show", "accounts")
    assert "the bank wants a form" in shown.stdout
    assert f"handfast unblock accounts {second} retry|skip|done" in shown.stdout
    assert "could not be undone" in (await office("runs")).stdout
    refused = await office("unblock", "accounts", second, "skip")
    assert (refused.returncode, "skip needs a reason" in refused.stderr) == (3, True)
    (office.folder / "permitted").touch()
    await office.json("unblock", "accounts", second, "retry", "--by", "ada")

    async def undone() -> bool:
        [shown] = await office.json("show", "accounts")
        return {one["operation"]: one["undone"] for one in shown["undo"]} == {second: True}

    await until(undone, seconds=40)
    assert (await office("ledger", "verify", "accounts")).returncode == 0
    assert "undone" in (await office("show", "accounts")).stdout


async def test_a_run_that_was_terminated_is_found_by_the_worker_and_closed(office: Office) -> None:
    assert (await office("run", "clerk", "Write", "--id", "terminated", "--detach")).returncode == 0

    async def status() -> str:
        [shown] = await office.json("show", "terminated")
        return str(shown["status"]) if shown["waiting"] or shown["status"] == "cancelled" else ""

    assert await until(status) == "running"
    engine = engine_at(office.folder / ".handfast")
    assert engine is not None
    temporal = await TemporalClient.connect(engine.address)
    await temporal.get_workflow_handle("terminated").terminate()

    async def closed() -> bool:
        return await status() == "cancelled"

    await until(closed, seconds=40)
    assert "its workflow was ended from outside" in (await office("show", "terminated")).stdout
    [sent] = (await office.json("show", "terminated"))[0]["operations"]
    assert sent["outcome"] == "FAILED"


PLAN = """
name: move
agent: town
request: {names: array}
steps:
  accounts:
    tool: open_account
    with: {name: "${item}"}
    for_each: "${request.names}"
output: "moved ${steps.accounts.result}"
"""


async def test_a_plan_is_checked_drawn_and_carried_out(office: Office) -> None:
    (office.folder / "move.yaml").write_text(PLAN)
    (office.folder / "bad.yaml").write_text(PLAN.replace("open_account", "rob_bank"))
    assert (await office("plan", "check", "move.yaml", "office:office")).stdout == "no fault\n"
    bad = await office("plan", "check", "bad.yaml", "office:office")
    assert (bad.returncode, "'rob_bank', which the agent does not have" in bad.stdout) == (1, True)
    wrong = await office("plan", "check", "move.yaml", "office:office", "--agent", "nobody")
    assert (wrong.returncode, "in the name of 'nobody'" in wrong.stderr) == (4, True)
    assert (await office("plan", "draw", "move.yaml")).stdout.startswith("flowchart TD\n")
    assert (await office("plan", "draw", "move.yaml", "--svg", "move.svg")).returncode == 0
    assert (office.folder / "move.svg").read_text().startswith("<svg ")
    done = await office("plan", "run", "move.yaml", "--request", '{"names": ["ada", "bob"]}', "--id", "moved")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, 'moved ["ada", "bob"]')
    refused = await office("plan", "run", "bad.yaml", "--request", '{"names": []}', "--id", "robbed")
    assert (refused.returncode, "'rob_bank', which the agent does not have" in refused.stderr) == (1, True)
    for words, told in (("{}", "it lacks 'names'"), ("[1]", "is no JSON object"), ("{", "can't be read")):
        refused = await office("plan", "run", "move.yaml", "--request", words)
        assert (refused.returncode in {3, 4}, told in refused.stderr) == (True, True), refused.stderr
    (office.folder / "permitted").touch()
    await office("rollback", "moved", "--by", "ada")

    async def undone() -> bool:
        [shown] = await office.json("show", "moved")
        return [one["undone"] for one in shown["undo"]] == [True, True]

    await until(undone, seconds=40)


async def test_the_ledger_is_verified_against_temporal_and_erased(office: Office) -> None:
    await office("run", "greeter", "My secret", "--id", "private")
    [found] = await office.json("ledger", "verify", "private")
    assert (found["faults"], found["anchors"]) == ([], 3)
    assert (await office("ledger", "erase", "private")).returncode == 0
    assert "My secret" not in (await office("show", "private")).stdout
    verified = await office("ledger", "verify")
    assert (verified.returncode, "private: ok" in verified.stdout) == (0, True)


async def test_the_same_id_with_another_request_is_refused(office: Office) -> None:
    await office("run", "greeter", "One", "--id", "taken")
    assert (await office("run", "greeter", "One", "--id", "taken")).returncode == 0
    refused = await office("run", "greeter", "Two", "--id", "taken")
    assert (refused.returncode, "never reused" in refused.stderr) == (3, True)


async def test_a_run_can_be_started_with_temporals_own_command_line(office: Office) -> None:
    from handfast.engine.embedded import find_binary

    engine = engine_at(office.folder / ".handfast")
    assert engine is not None
    command = [
        find_binary(), "workflow", "start", "--address", engine.address, "--type", "AgentRun", "--task-queue", "handfast",
        "--workflow-id", "by-temporal", "--input", '{"agent": "greeter", "text": "Hi", "user": "ada"}',
    ]  # fmt: skip
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)

    async def known() -> bool:
        return (await office("show", "by-temporal")).returncode == 0

    await until(known)
    assert (await office("watch", "by-temporal")).stdout.endswith("Hello.\n")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("show", "nobody"), 3, "the ledger has no run 'nobody'"),
        (("worker", "office"), 4, "write MODULE:NAME"),
        (("worker", "nowhere:agents"), 4, "there is no module 'nowhere'"),
        (("worker", "office:nothing"), 4, "agents in it: clerk, banker, greeter"),
        (("run", "greeter", "  "), 3, "the request is empty"),
        (("tools", "check", "office:office"), 1, ""),
        (("nonsense",), 2, "nonsense"),
        ((), 2, ""),
        (("--version",), 0, ""),
    ],
)
async def test_what_does_not_fit_is_one_line_that_says_what_to_do(
    office: Office, words: tuple[str, ...], code: int, told: str
) -> None:
    done = await office(*words)
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


async def test_a_second_dev_uses_the_engine_that_is_there(office: Office) -> None:
    log = office.folder / "second.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*HANDFAST, "dev", "office:office"], cwd=office.folder, env=office.env, stdout=output, stderr=output
        )

    async def serves() -> bool:
        assert process.poll() is None, log.read_text()
        return '"serving"' in log.read_text()

    await until(serves, seconds=60)
    assert "it already runs" in log.read_text()
    process.terminate()
    assert await asyncio.to_thread(process.wait, 20) == 0


async def test_a_faulty_contract_stops_the_worker_with_all_its_faults(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(AGENTS.replace('version="1.0.0"', 'version="1"').replace("letters:write", " "))
    done = await Office(tmp_path)("worker", "bad:office")
    assert done.returncode == 4
    assert "tool 'send_letter' has 2 fault(s):" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_contract_can_not_change_without_a_version_that_says_so(tmp_path: Path) -> None:
    office, seconds = Office(tmp_path), itertools.count(1_700_000_000)

    async def tools(*words: str, **edits: str) -> subprocess.CompletedProcess[str]:
        text = AGENTS
        for old, new in edits.items():
            text = text.replace(TEXTS[old], new)
        (tmp_path / "office.py").write_text(text)
        # Python tells a changed file by its size and by the second: as if each were of another one.
        os.utime(tmp_path / "office.py", (next(seconds), next(seconds)))
        return await office("tools", *words)

    lock, of = "contracts.lock.json", "office:office"
    assert (await tools("check", of, "--lock", lock)).returncode == 4
    assert (await tools("lock", of)).stdout == f"written: {lock}\n"
    first = (tmp_path / lock).read_text()
    assert (await tools("diff", lock, of)).stdout == "nothing differs\n"
    breaking = {"argument": "receiver: str", "use": 'receiver="ada"', "result": "{receiver}", "show": '("receiver",)'}
    for command in (("check", of, "--lock", lock), ("diff", lock, of), ("lock", of)):
        done = await tools(*command, **breaking)
        assert (done.returncode, "a breaking change needs version 2.0.0: argument" in done.stdout) == (1, True), done
    assert (tmp_path / lock).read_text() == first
    done = await tools("diff", lock, of, **breaking, version='"2.0.0"')
    assert (done.returncode, "breaking    send_letter: argument to is gone" in done.stdout) == (0, True), done
    done = await tools("check", of, "--lock", lock, **breaking, version='"2.0.0"')
    assert "does not know the contracts of send_letter: write it again with `handfast tools lock`" in done.stdout
    assert (await tools("lock", of, **breaking, version='"2.0.0"')).returncode == 0
    assert json.loads((tmp_path / lock).read_text())["tools"]["send_letter"]["version"] == "2.0.0"
    done = await tools("diff", of, "nowhere.json")
    assert (done.returncode, "can't be read: No such file" in done.stderr) == (4, True)
    (tmp_path / "bad.json").write_text('{"tools": {"x": {}}}')
    done = await tools("diff", of, "bad.json")
    assert (done.returncode, "is no lock file: tools.x.name: Field required" in done.stderr) == (4, True)
    page = (await tools("catalogue", of)).stdout
    assert (
        "| send_letter | 1.0.0 | Send a letter to somebody. | KEYED | IRREVERSIBLE | letters:write | nobody |" in page
    )


TEXTS = {
    "argument": "to: str",
    "use": 'to="ada"',
    "result": "{to}",
    "show": '("to",)',
    "version": '"1.0.0"',
}
"""Parts of `AGENTS` that the test of versions edits."""


async def test_without_any_engine_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    done = await Office(tmp_path)("runs")
    assert (done.returncode, "handfast dev MODULE:AGENTS" in done.stderr) == (5, True)
    office = Office(tmp_path)
    office.env["TEMPORAL_ADDRESS"] = f"127.0.0.1:{free_port()}"
    done = await office("runs")
    assert (done.returncode, "no Temporal server answers" in done.stderr) == (5, True)
    office = Office(tmp_path)
    office.env["HANDFAST_HEARTBEAT_SECONDS"] = "soon"
    done = await office("runs")
    assert (done.returncode, "HANDFAST_HEARTBEAT_SECONDS" in done.stderr) == (4, True)


async def test_dev_says_so_when_a_port_is_taken_or_the_binary_or_folder_is_missing(tmp_path: Path) -> None:
    (tmp_path / "office.py").write_text(AGENTS)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = await Office(tmp_path)("dev", "office:office", "--port", str(port))
    assert (done.returncode, f"port {port} is taken" in done.stderr) == (5, True)
    office = Office(tmp_path)
    office.env["HANDFAST_TEMPORAL"] = "/nowhere/temporal"
    done = await office("dev", "office:office")
    assert (done.returncode, "HANDFAST_TEMPORAL" in done.stderr) == (5, True)
    office = Office(tmp_path)
    office.env["HANDFAST_HOME"] = "/proc/nowhere"
    done = await office("dev", "office:office")
    assert (done.returncode, "writable place" in done.stderr) == (5, True), done.stderr


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=["told to end", "killed"])
async def test_dev_leaves_no_process_behind(tmp_path: Path, ending: signal.Signals) -> None:
    (tmp_path / "office.py").write_text(AGENTS)
    office = Office(tmp_path)
    with (tmp_path / "dev.log").open("ab") as output:
        process = subprocess.Popen(
            [*HANDFAST, "dev", "office:office"], cwd=tmp_path, env=office.env, stdout=output, stderr=output
        )

    async def serves() -> Any:
        return '"serving"' in (tmp_path / "dev.log").read_text() and engine_at(tmp_path / ".handfast")

    engine = await until(serves, seconds=60)
    children = psutil.Process(process.pid).children(recursive=True)
    assert engine.pid in [child.pid for child in children]
    process.send_signal(ending)
    code = await asyncio.to_thread(process.wait, 30)
    assert code == (0 if ending == signal.SIGTERM else -signal.SIGKILL)

    async def gone() -> bool:
        return not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)

    await until(gone)


async def test_every_command_that_tells_something_tells_it_as_json_too() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    lacking = [
        " ".join(words)
        for words, command in commands_of(group)
        if not any("--json" in parameter.opts for parameter in command.params)
    ]
    assert sorted(lacking) == ["demo", "dev", "gateway", "worker"], "these serve until they are ended, and log as JSON"


def commands_of(group: TyperGroup, *before: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands_of(command, *before, name)
        else:
            yield (*before, name), command


async def test_logs_name_runs_and_operations_and_hold_no_content(office: Office) -> None:
    assert (await office("run", "clerk", "Write to hush-user", "--id", "logged", "--detach")).returncode == 0

    async def waiting() -> Any:
        return [one for one in (await office.json("show", "logged"))[0]["operations"] if one["state"] == "waiting"]

    [operation] = await until(waiting)
    assert (await office("reject", "logged", operation["operation_id"], "--reason", "hush-reason")).returncode == 0
    assert (await office("watch", "logged")).returncode == 0
    text = (office.folder / "dev.log").read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    told = [line["event"] for line in lines if line.get("run_id") == "logged"]
    assert told == ["run opened", "run closed"]
    assert not [content for content in ("hush", "sent to ada", "The letter is sent") if content in text]


async def test_a_worker_answers_health_checks_and_drains_on_sigterm(office: Office, tmp_path: Path) -> None:
    engine = engine_at(office.folder / ".handfast")
    assert engine is not None
    port = free_port()
    env = {
        "PYTHONPATH": str(office.folder),
        "TEMPORAL_ADDRESS": engine.address,
        "HANDFAST_LEDGER_URL": f"sqlite:///{office.folder / '.handfast' / 'ledger.db'}",
        "HANDFAST_HEALTH_PORT": str(port),
        "HANDFAST_TASK_QUEUE": "health",
        "HANDFAST_LOG_FORMAT": "json",
    }
    worker = Process("handfast.client.cli", "worker", "office:office", env=env, output=tmp_path / "w.log")
    try:

        async def ready() -> bool:
            assert worker.code is None, worker.output.read_text()
            try:
                async with httpx.AsyncClient() as http:
                    return (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(ready, seconds=30)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.get("/healthz")).json() == {"status": "alive"}
            assert (await http.get("/elsewhere")).status_code == 404
        worker.signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), 20) == 0
        lines = [json.loads(line) for line in worker.output.read_text().splitlines()]
        assert [line["event"] for line in lines] == ["serving", "draining", "stopped"]
    finally:
        await worker.stop()
