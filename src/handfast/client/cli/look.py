"""`runs` and `show`: the list of runs, and the story of one from the ledger."""

from typing import Annotated, Any

import typer
from rich.text import Text

from handfast.client.cli.exits import run_async
from handfast.client.cli.output import Json, RunId, ago, coloured, console, print_json, short, table
from handfast.client.cli.story import Story
from handfast.client.client import Client
from handfast.contracts.called_from import NOWHERE
from handfast.contracts.effects import Outcome
from handfast.contracts.results import Event, Operation, RunSummary, Stalled, Undo
from handfast.contracts.texts import printable


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(runs)
    app.command()(show)


def runs(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that wait for a person.")] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="Calls that failed for good, with the means to carry them out again.")
    ] = False,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Effects of branches that were left behind by `handfast reset`.")
    ] = False,
    blocked: Annotated[bool, typer.Option("--blocked", help="Only those that could not be undone.")] = False,
    json: Json = False,
) -> None:
    """List runs, the newest first."""
    if orphans:
        _orphans(limit, json=json)
        return
    if failed:
        _failed(limit, json=json)
        return

    async def go() -> list[RunSummary]:
        async with await Client.connect() as client:
            return await client.runs(limit, waiting=waiting, blocked=blocked)

    found = run_async(go())
    if json:
        for summary in found:
            print_json(summary)
        return
    rows = [
        (
            one.run_id, _agent(one), _status(one), str(one.turns), str(one.calls), f"{one.cost_usd:.4f}", one.user,
            ago(one.requested_at),
        )
        for one in found
    ]  # fmt: skip
    console.print(table(("run", "agent", "status", "turns", "calls", "USD", "user", "age"), rows))
    if not found:
        console.print("no runs yet; start one with: handfast run AGENT TEXT", style="dim")


def _agent(one: RunSummary) -> Text:
    """Its agent, and whose child it is."""
    return Text.assemble(one.agent, (f" for {printable(one.parent)}", "dim")) if one.parent else Text(one.agent)


def _failed(limit: int, *, json: bool) -> None:
    async def go() -> list[tuple[str, Operation]]:
        async with await Client.connect() as client:
            return await client.ledger.list_failed(limit)

    found = run_async(go())
    for run_id, operation in found:
        if json:
            print_json({"run_id": run_id, **operation.model_dump(mode="json")})
            continue
        told: dict[str, Any] = operation.result or {}
        console.print(Text.assemble((operation.tool, "bold"), f"  {short(operation.arguments, 70)}"))
        console.print(
            Text(f"  {told.get('code', '?')}: {short(str(told.get('message', '(erased)')), 150)}", style="red")
        )
        console.print(Text(f"  handfast redrive {run_id} {operation.operation_id}", style="dim"))
    if not found and not json:
        console.print("no call has failed for good", style="dim")


def _orphans(limit: int, *, json: bool) -> None:
    async def go() -> list[tuple[str, Operation]]:
        async with await Client.connect() as client:
            return await client.ledger.list_orphans(limit)

    found = run_async(go())
    for run_id, operation in found:
        if json:
            print_json({"run_id": run_id, **operation.model_dump(mode="json")})
            continue
        outcome = coloured(operation.outcome or operation.state)
        console.print(Text.assemble(outcome, f"  {operation.tool}  {short(operation.arguments, 70)}"))
        console.print(Text(f"  turn {operation.turn} of {run_id}, before it was reset: {operation.operation_id}"))
        if operation.outcome is Outcome.UNKNOWN:
            command = f"handfast resolve {run_id} {operation.operation_id} --happened|--did-not-happen"
            console.print(Text(f"  look whether it happened, then: {command}", style="dim"))
    if not found and not json:
        console.print("no effect was left behind", style="dim")


def show(run_id: RunId, json: Json = False) -> None:
    """Tell the story of a run from the ledger: what was asked, said, done, decided; and what waits."""

    async def go() -> tuple[RunSummary, list[Event], tuple[Operation, ...], tuple[Undo, ...], tuple[Stalled, ...], str]:
        async with await Client.connect() as client:
            run = client.run(run_id)
            summary = await run.summary()
            events, link = await client.ledger.read_events(run_id), client.engine.link(run_id)
            stalled = () if summary.status.closed else await run.stalled()
            return summary, events, await run.operations(), await run.undo(), stalled, link

    summary, events, operations, undo, stalled, link = run_async(go())
    if json:
        print_json(
            {
                **summary.model_dump(mode="json"),
                "link": link,
                "stalled": [one.model_dump(mode="json") for one in stalled],
                "operations": [operation.model_dump(mode="json") for operation in operations],
                "undo": [one.model_dump(mode="json") for one in undo],
                "events": [event.model_dump(mode="json") for event in events],
            }
        )
        return
    console.print(Text.assemble((run_id, "bold"), "  ", _status(summary), f"  {summary.agent}, {summary.model}"))
    console.print(
        f"{summary.turns} turns, {summary.calls} calls, {summary.tokens} tokens, {summary.cost_usd:.4f} USD,"
        f" user {printable(summary.user) or '-'}, tenant {printable(summary.tenant)}",
        style="dim",
    )
    if summary.called_from != NOWHERE:
        session = f", session {printable(summary.called_from.session)}" if summary.called_from.session else ""
        console.print(f"asked for from {summary.called_from.address or 'an unknown address'}{session}", style="dim")
    if summary.parent:
        console.print(f"begun by run {printable(summary.parent)}", style="dim")
    if link:
        console.print(link, style="dim")
    for failing in stalled:
        told = f"{failing.activity} has failed {failing.attempts} times and is tried again: {printable(failing.reason)}"
        console.print(Text(f"stalled: {told}", style="bold red"))
    console.print()
    story = Story()
    for event in events:
        for line in story.lines(event):
            console.print(line)
    if operations:
        console.print()
        console.print(table(("operation", "tool", "state", "attempts", "arguments"), [_row(o) for o in operations]))
    if undo:
        console.print()
        console.print(table(("to undo", "tool", "turn", "state", "attempts", "why"), [_undo_row(one) for one in undo]))
    for one in undo:
        if one.blocked:
            console.print(Text(f"handfast unblock {one.child or run_id} {one.operation} retry|skip|done", style="dim"))


def _row(operation: Operation) -> tuple[str | Text, ...]:
    state = coloured(operation.outcome or operation.state)
    if operation.left_by:
        state = Text.assemble(state, (" (left behind)", "dim"))
    tool = Text.assemble(operation.tool, (f" as {operation.child}", "dim")) if operation.child else operation.tool
    return operation.operation_id, tool, state, str(operation.attempts), short(operation.arguments, 60)


def _undo_row(one: Undo) -> tuple[str | Text, ...]:
    state = Text("undone", "green") if one.undone else Text("blocked" if one.blocked else "stands", "bold red")
    tool = Text.assemble(one.tool, (f" in {one.child}", "dim")) if one.child else one.tool
    return one.operation, tool, str(one.turn), state, str(one.attempts), short(one.reason, 60)


def _status(summary: RunSummary) -> Text:
    if summary.blocked:
        return Text("could not be undone", style="bold red")
    if not summary.status.closed and summary.unknown:
        return Text("waiting (unknown outcome)", style="bold red")
    if not summary.status.closed and summary.waiting:
        return Text(f"waiting ({summary.waiting} to approve)", style="yellow")
    return coloured(str(summary.status))
