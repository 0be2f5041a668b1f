"""`inbox` and `decide`: what waits for people, and deciding on it with the whole picture."""

import asyncio
import json as json_
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from handfast.client.cli.exits import Exit, fail, run_async
from handfast.client.cli.given import json_object
from handfast.client.cli.output import Json, RunId, ago, console, print_json, short
from handfast.client.cli.story import Story
from handfast.client.client import Client
from handfast.client.keyring import login, read_key
from handfast.contracts.errors import DecisionRefused
from handfast.contracts.results import Origin, WaitingCall
from handfast.contracts.texts import printable

STORY_LINES = 12
"""Of the run's story, on the card of a call."""
LONGEST_VALUE = 2000
"""Characters of one argument."""
MOST_ORIGINS = 20
"""Values of one argument of which it is shown where they came from."""
LOOKS = 1.0
"""Seconds between two looks with --watch."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(inbox)
    app.command()(decide)


def inbox(
    tenant: Annotated[str, typer.Option(help="Only this tenant's.")] = "",
    agent: Annotated[str, typer.Option(help="Only this agent's.")] = "",
    tool: Annotated[str, typer.Option(help="Only calls of this tool.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 1000,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing what waits, until interrupted.")] = False,
    json: Json = False,
) -> None:
    """List the calls that wait for a decision, the oldest first, over all runs."""

    async def look(client: Client) -> list[WaitingCall]:
        return await client.inbox(tenant=tenant, agent=agent, tool=tool, limit=limit)

    async def go() -> None:
        async with await Client.connect() as client:
            if watch:
                await _watch(lambda: look(client), json=json)
            else:
                _show(await look(client), json=json)

    run_async(go())


async def _watch(look: Any, *, json: bool) -> None:
    if json:
        known: set[str] = set()
        while True:
            for one in await look():
                if one.operation_id not in known:
                    known.add(one.operation_id)
                    print_json(one)
            await asyncio.sleep(LOOKS)
    with Live(_lines(await look()), console=console, auto_refresh=False) as live:
        while True:
            live.update(_lines(await look()), refresh=True)
            await asyncio.sleep(LOOKS)


def _show(found: list[WaitingCall], *, json: bool) -> None:
    if json:
        for one in found:
            print_json(one)
        return
    console.print(_lines(found))


def _lines(found: list[WaitingCall]) -> Text:
    """Three lines for each call, the last one to be copied."""
    lines: list[Text] = []
    for one in found:
        agreed = f", agreed by {', '.join(one.agreed)}" if one.agreed else ""
        lines += [
            Text.assemble((one.tool, "bold"), f" {short(one.arguments, 90)}  ", (f"{ago(one.asked_at)}", "dim")),
            Text(printable(f"  {one.tier}, {one.agent} for {_for(one)}, because of {one.reason}{agreed}")),
            Text(f"  handfast decide {one.run_id} {one.operation_id}", style="dim"),
        ]
    return Text("\n").join(lines or [Text("nothing waits for a decision", style="dim")])


def _for(one: WaitingCall) -> str:
    return f"{one.user or 'nobody'} of {one.tenant}"


def decide(
    run_id: RunId,
    operation: Annotated[
        str, typer.Argument(metavar="[OPERATION]", help="The operation's id; the run's only waiting call unless said.")
    ] = "",
    approve: Annotated[bool, typer.Option("--approve", help="Approve without being asked.")] = False,
    with_: Annotated[
        str, typer.Option("--with", help="Approve with these arguments in the place of the model's, as JSON.")
    ] = "",
    reject: Annotated[bool, typer.Option("--reject", help="Reject without being asked.")] = False,
    reason: Annotated[str, typer.Option(help="Of a rejection; recorded, and told to the model.")] = "",
    key: Annotated[Path | None, typer.Option(help="Your private key; HANDFAST_KEY unless given.")] = None,
    json: Json = False,
) -> None:
    """Show what a call would do, for whom, why it waits and what happened so far; then sign a decision on just that."""

    async def go() -> str:
        async with await Client.connect() as client:
            one = _the_one(await client.inbox(run_id=run_id), run_id, operation)
            if not json:
                await _card(client, one)
            word, why = ("change", with_) if with_ else _word(approve=approve, reject=reject, reason=reason, json=json)
            changed = json_object(why, "--with") if word == "change" else None
            if not word:
                return "left"
            signing = None if key is None else read_key(key, client.settings.key_password)
            # Bound to what was shown: if the call is another one by now, this is refused.
            await client.run(run_id).decide(
                one.operation_id,
                approve=word != "reject",
                digest=one.digest,
                by=login(),
                reason=why if word == "reject" else "",
                key=signing,
                changed=changed,
            )
            still = await client.inbox(run_id=run_id)
            waits = any(two.operation_id == one.operation_id for two in still)
            done = {"approve": "approved", "change": "approved with other arguments"}.get(word, "rejected")
            return "agreed, and another person must" if waits else done

    done = run_async(go())
    print_json({"run_id": run_id, "done": done}) if json else console.print(f"{run_id}: {done}")


def _the_one(waiting: list[WaitingCall], run_id: str, operation: str) -> WaitingCall:
    found = [one for one in waiting if operation in {"", one.operation_id}]
    if len(found) == 1:
        return found[0]
    if not found:
        msg = f"run {run_id!r} has {'no such call' if operation else 'no call'} that waits for a decision"
        raise DecisionRefused(msg)
    msg = f"several calls of run {run_id!r} wait, say which: {', '.join(one.operation_id for one in found)}"
    raise DecisionRefused(msg)


def _word(*, approve: bool, reject: bool, reason: str, json: bool) -> tuple[str, str]:
    """`approve`, `change`, `reject` or nothing, and what goes with it: the arguments that are wanted, or the reason."""
    if approve and reject:
        fail("approve or reject: not both", Exit.USAGE)
    if approve or reject:
        return "approve" if approve else "reject", "" if approve else reason
    if json or not console.is_terminal:
        fail("nobody can be asked here: say --approve or --reject", Exit.USAGE)
    answer = typer.prompt("approve, change, reject, or leave it", default="leave").strip().lower()
    if answer in {"a", "approve", "y", "yes"}:
        return "approve", ""
    if answer in {"c", "change"}:
        return "change", typer.prompt("the arguments that are to be others, as JSON")
    if answer in {"r", "reject", "n", "no"}:
        return "reject", reason or typer.prompt("why (the model is told)", default="")
    return "", ""


async def _card(client: Client, one: WaitingCall) -> None:
    """What a person must know, and nothing that could pass for it: contents are indented, and can't steer the terminal."""
    console.print(Text.assemble((one.tool, "bold"), f" {one.version}  ", (one.tier, "yellow")))
    console.print(Text(f"  asked by agent {one.agent}, turn {one.turn} of run {one.run_id}, {ago(one.asked_at)} ago"))
    console.print(Text(f"  for {printable(_for(one))}" + (f", on behalf of run {one.parent}" if one.parent else "")))
    console.print(Text(f"  waits because of {printable(one.reason)}"))
    if one.agreed:
        console.print(Text(f"  already agreed: {printable(', '.join(one.agreed))}"))
    console.print(Text("  arguments, as the model wrote them, and where they stand:", style="bold"))
    origins = await client.trace(one)
    for name, value in one.arguments.items():
        _value(printable(name), value)
        _origins([origin for origin in origins if origin.path.partition(".")[0] == name], whole=value)
    if not one.arguments:
        console.print("    none", style="dim")
    console.print(Text("  so far:", style="bold"))
    story = Story()
    lines = [line for event in await client.ledger.read_events(one.run_id) for line in story.lines(event)]
    if len(lines) > STORY_LINES:
        console.print(f"    … {len(lines) - STORY_LINES} lines before; handfast show {one.run_id}", style="dim")
    for line in lines[-STORY_LINES:]:
        console.print(Text.assemble("    ", line))


def _origins(origins: list[Origin], *, whole: Any) -> None:
    """Where each value of an argument came from, below it."""
    for origin in origins[:MOST_ORIGINS]:
        what = "" if origin.value is whole else f"{short(origin.value, 40)}: "
        if not origin.where:
            told, style = "nowhere else: the model's own", "yellow"
        elif origin.trusted:
            told, style = origin.where, "dim"
        else:
            told, style = f"words of others: {origin.where}", "bold yellow"
        console.print(Text.assemble("      from ", (printable(f"{what}{told}"), style)))
    if len(origins) > MOST_ORIGINS:
        console.print(Text(f"      and {len(origins) - MOST_ORIGINS} values more", style="dim"))


def _value(name: str, value: Any) -> None:
    text = value if isinstance(value, str) else json_.dumps(value, ensure_ascii=False)
    cut = f" … and {len(text) - LONGEST_VALUE} characters more" if len(text) > LONGEST_VALUE else ""
    first, *more = printable(text[:LONGEST_VALUE]).split("\n") or [""]
    console.print(Text.assemble((f"    {name} ", "cyan"), (f"│ {first}", "")))
    for line in more:
        console.print(Text(f"    {' ' * len(name)} │ {line}"))
    if cut:
        console.print(Text(f"    {' ' * len(name)} │{cut}", style="dim"))
