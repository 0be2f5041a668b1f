"""`audit` and `budgets`: what happened in a period, and what models have used of what they may."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.text import Text

from handfast.client.cli.exits import Exit, fail, run_async
from handfast.client.cli.output import Json, console, print_json, table
from handfast.client.client import Client
from handfast.contracts.audit import Audit
from handfast.contracts.policy.approval import DURATION, UNITS

Rows = Sequence[Sequence[str | Text]]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(audit)
    app.command()(budgets)


def audit(
    since: Annotated[str, typer.Option(help="How far back, such as 24h or 30d, or a date.")] = "7d",
    until: Annotated[str, typer.Option(help="A date; now unless given.")] = "",
    tenant: Annotated[str, typer.Option(help="Only this tenant's runs.")] = "",
    verify: Annotated[bool, typer.Option(help="Recompute the chain of every run of the period.")] = True,
    json: Json = False,
) -> None:
    """Write a security report: who ran what on whose behalf, what decided, who agreed, what was refused. It holds no contents."""
    begins, ends = _moment(since), _moment(until) if until else datetime.now(UTC)

    async def go() -> Audit:
        async with await Client.connect() as client:
            return await client.audit(begins, ends, tenant=tenant, verify=verify)

    found = run_async(go())
    if json:
        print_json(found)
    else:
        _show(found)
    if found.faults:
        raise typer.Exit(Exit.FAILED)


def _moment(text: str) -> datetime:
    if (found := DURATION.fullmatch(text)) is not None:
        return datetime.now(UTC) - timedelta(seconds=int(found[1]) * UNITS[found[2]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{text!r} is no time: write 24h, 30d, 2026-11-01 or 2026-11-01T08:00+01:00", Exit.USAGE)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _show(found: Audit) -> None:
    of = f" of tenant {found.tenant}" if found.tenant else ""
    console.print(
        Text(f"security report{of}, {found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC", style="bold")
    )
    for title, columns, rows in _tables(found):
        console.print()
        console.print(table(columns, rows, title=title) if rows else Text(f"{title}: none", style="dim"))
    console.print()
    if found.faults:
        console.print(Text(f"{len(found.faults)} FAULTS in chains", style="bold red"))
        for fault in found.faults:
            console.print(Text(f"  {fault}"))
    else:
        told = f"the chains of {found.verified} runs hold" if found.verified else "chains were not looked at"
        console.print(Text(told, style="green" if found.verified else "dim"))


def _tables(found: Audit) -> Iterator[tuple[str, Sequence[str], Rows]]:
    yield (
        "who ran what",
        ("tenant", "user", "agent", "runs", "calls"),
        [(one.tenant, one.user or "nobody", one.agent, str(one.runs), str(one.calls)) for one in found.runs],
    )
    yield (
        "what decided on calls",
        ("rule", "tool", "verdict", "policy", "times"),
        [(one.rule, one.tool, one.verdict, str(one.policy or "-"), str(one.times)) for one in found.decisions],
    )
    yield (
        "who has said what of them",
        ("by", "word", "tool", "times"),
        [(one.by, one.word, one.tool, str(one.times)) for one in found.words],
    )
    yield (
        "words that did not count",
        ("run", "at", "word", "claimed to be of", "why"),
        [
            (one.run_id, f"{one.at:%Y-%m-%d %H:%M:%S}", one.word, one.claimed or "nobody", one.why)
            for one in found.refused
        ],
    )
    yield (
        "runs with words of others in them",
        ("run", "agent", "tenant", "words of others", "not to get away", "held"),
        [(one.run_id, one.agent, one.tenant, one.untrusted, one.sensitive, str(one.held)) for one in found.untrusted],
    )
    yield "runs that a limit has ended", ("limit", "runs"), [(name, str(times)) for name, times in found.limits]
    yield (
        "changes of what holds",
        ("at", "what", "by"),
        [(f"{one.at:%Y-%m-%d %H:%M:%S}", one.what, one.by or "somebody") for one in found.changes],
    )


def budgets(json: Json = False) -> None:
    """List what models have used of budgets in their present span, and what is held back while they are asked."""

    async def go() -> list[dict[str, str | int | float]]:
        async with await Client.connect() as client:
            return [
                {
                    **_named(key),
                    "turns": used.turns,
                    "tokens": used.tokens,
                    "cost_usd": used.cost_micros / 1e6,
                    "calls": used.calls,
                    "work_seconds": used.work_ms / 1000,
                    "held_tokens": held.tokens,
                    "ends": datetime.fromtimestamp(ends / 1000, UTC).isoformat(timespec="minutes"),
                }
                for key, used, held, ends in await client.ledger.installation.list_budgets()
            ]

    found = run_async(go())
    if json:
        for one in found:
            print_json(one)
        return
    names = ("budget", "of", "turns", "calls", "tokens", "cost_usd", "work_seconds", "held_tokens", "ends")
    console.print(table(names, [[str(one[name]) for name in names] for one in found]))
    if not found:
        console.print("nothing was used of any budget yet", style="dim")


def _named(key: str) -> dict[str, str | int | float]:
    name, _, _, each, who = key.split("/", 4)
    return {"budget": name, "of": who or each}
