"""`run` and `watch`: start a run and follow it."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from handfast.client.cli.exits import Exit, run_async
from handfast.client.cli.output import Json, RunId, console, print_json
from handfast.client.cli.story import Story
from handfast.client.client import Client
from handfast.client.run import Run
from handfast.contracts.effects import RunStatus
from handfast.contracts.results import RunResult
from handfast.contracts.texts import printable
from handfast.telemetry import traced


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(run)
    app.command()(watch)


def run(
    agent: Annotated[str, typer.Argument(help="The agent's name.")],
    text: Annotated[str, typer.Argument(help="The request.")],
    id: Annotated[str, typer.Option(help="The run's id; the same id twice is the same run.")] = "",  # noqa: A002
    user: Annotated[str, typer.Option(help="Who it is for.")] = "",
    tenant: Annotated[str, typer.Option(help="The tenant it belongs to.")] = "default",
    detach: Annotated[bool, typer.Option("--detach", help="Start it, print its id, and don't follow it.")] = False,
    json: Json = False,
) -> None:
    """Start a run and follow it: turns, calls, durations, cost."""

    async def start(client: Client) -> Run:
        return await client.start(agent, text, id=id, user=user, tenant=tenant)

    follow_to_the_end(start, detach=detach, json=json)


def follow_to_the_end(start: Callable[[Client], Awaitable[Run]], *, detach: bool, json: bool) -> None:
    """Start a run and follow it, unless it is only to be started."""

    async def go() -> RunResult | None:
        with traced("handfast-client"):
            return await start_and_follow()

    async def start_and_follow() -> RunResult | None:
        async with await Client.connect() as client:
            started = await start(client)
            if detach:
                print_json({"run_id": started.id}) if json else console.print(started.id)
                return None
            if not json:
                console.print(f"run {started.id}  {client.engine.link(started.id)}", style="dim")
            return await _follow(started, json=json)

    _end_with(run_async(go()), json=json)


def watch(run_id: RunId, json: Json = False) -> None:
    """Follow a run from its beginning until it is closed."""

    async def go() -> RunResult:
        async with await Client.connect() as client:
            followed = client.run(run_id)
            await followed.summary()
            return await _follow(followed, json=json)

    _end_with(run_async(go()), json=json)


async def _follow(run: Run, *, json: bool) -> RunResult:
    story = Story()
    async for event in run.events():
        if json:
            print_json(event)
            continue
        for line in story.lines(event):
            console.print(line)
    return await run.result()


def _end_with(result: RunResult | None, *, json: bool) -> None:
    if result is None:
        return
    if json:
        print_json(result)
    elif result.text:
        console.print()
        console.print(printable(result.text))
    if result.status is not RunStatus.COMPLETED:
        raise typer.Exit(Exit.UNFINISHED)
