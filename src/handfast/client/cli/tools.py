"""`handfast tools`: contracts checked, compared, locked and listed, and what their owners should know."""

import json as json_
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from handfast.client.cli.exits import Exit, run_async
from handfast.client.cli.output import Json, ago, console, print_json, table
from handfast.client.client import Client
from handfast.contracts.catalogue import as_markdown, catalogue
from handfast.contracts.drift import Drift, Misfit
from handfast.contracts.errors import SettingsError
from handfast.contracts.lint import Finding, check_agents
from handfast.contracts.loading import load_agents
from handfast.contracts.published import (
    Change,
    Lock,
    compare,
    lock_of,
    read_lock,
    version_faults,
    write_lock,
)  # fmt: skip
from handfast.contracts.results import Notice
from handfast.settings import load_settings

LOCK_FILE = Path("contracts.lock.json")
Agents = Annotated[str, typer.Argument(metavar="MODULE:AGENTS", help="Whose tools.")]
Contracts = Annotated[str, typer.Argument(help="A lock file, or MODULE:AGENTS.")]
LockFile = Annotated[Path, typer.Option("--file", help="The lock file.")]

app = typer.Typer(help="Tool contracts: check, compare, lock, list, watch, probe, secrets.", no_args_is_help=True)


@app.command()
def check(
    agents: Agents,
    lock: Annotated[
        Path | None, typer.Option(help="Compare with this lock file, too: a change without a new version fails.")
    ] = None,
    json: Json = False,
) -> None:
    """Check contracts: descriptions and constraints for the model, examples, timeouts, owners, versions."""

    async def go() -> list[Finding]:
        loaded = load_agents(agents)
        findings = check_agents(loaded)
        if lock is not None:
            findings += _lock_findings(read_lock(lock), lock_of(loaded), lock)
        return findings

    _print_findings(run_async(go()), json=json)


@app.command()
def diff(old: Contracts, new: Contracts, json: Json = False) -> None:
    """Tell breaking from compatible changes. Exit code 1 if a version number does not say what changed."""

    async def go() -> tuple[list[Change], list[Change]]:
        before, after = _contracts(old).tools, _contracts(new).tools
        return compare(before, after), version_faults(before, after)

    changes, faults = run_async(go())
    _print_changes(changes, json=json)
    if not changes and not json:
        console.print("nothing differs", style="green")
    if faults and not json:
        console.print("the versions don't say so:")
        _print_changes(faults, json=False)
    if faults:
        raise typer.Exit(Exit.FAILED)


@app.command()
def lock(agents: Agents, file: LockFile = LOCK_FILE, json: Json = False) -> None:
    """Write the contracts down as published. Refused where a version number does not say what changed."""

    async def go() -> list[Change]:
        now = lock_of(load_agents(agents))
        faults = version_faults(read_lock(file).tools, now.tools) if file.exists() else []
        if not faults:
            write_lock(file, now)
        return faults

    faults = run_async(go())
    _print_changes(faults, json=json)
    if faults:
        raise typer.Exit(Exit.FAILED)
    if json:
        print_json({"written": str(file)})
    else:
        console.print(f"written: {file}", style="green")


@app.command("catalogue")
def catalogue_(agents: Agents, json: Json = False) -> None:
    """List every tool with version, effect, tier, scope, owner, runbook and users, and the risk matrix, as Markdown."""

    async def go() -> None:
        entries = catalogue(load_agents(agents))
        if not json:
            typer.echo(as_markdown(entries), nl=False)
        for entry in entries if json else ():
            print_json(entry)

    run_async(go())


@app.command()
def notices(json: Json = False) -> None:
    """What the owners of tools should know, such as an upstream that announced its end."""

    async def go() -> list[Notice]:
        async with await Client.connect() as client:
            return await client.ledger.shared.list_notices()

    found = run_async(go())
    for notice in found if json else ():
        print_json(notice)
    if not json:
        rows = [(n.subject, n.kind, n.owner or "-", str(n.count), ago(n.last_at), n.text) for n in found if n.last_at]
        console.print(table(("about", "kind", "owner", "times", "last", "what"), rows))


@app.command("probe")
def probe_(
    agents: Agents,
    document: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE: an upstream's OpenAPI document, instead of asking the upstream."),
    ] = None,
    json: Json = False,
) -> None:
    """Hold what tools ask of their upstreams (endpoints=) against the upstreams' own OpenAPI documents."""

    async def go() -> list[Finding]:
        from handfast.tools.credentials import Credentials
        from handfast.tools.probe import probe

        tools = {tool.name: tool for agent in load_agents(agents) for tool in agent.tools}
        if not any(tool.endpoints for tool in tools.values()):
            msg = "no tool declares endpoints=(Endpoint(...),): there is nothing to probe"
            raise SettingsError(msg)
        settings = load_settings()
        credentials = Credentials(settings.secrets)
        try:
            return await probe(tools.values(), settings.upstreams, dict(map(_document, document or ())), credentials)
        finally:
            await credentials.close()

    _print_findings(run_async(go()), json=json)


@app.command()
def secrets(
    agents: Agents,
    tenant: Annotated[str, typer.Option(help="Whose calls.")] = "default",
    json: Json = False,
) -> None:
    """Whether this machine has the secrets that calls of a tenant would want (HANDFAST_SECRETS). Exit code 1 if one is missing."""

    async def go() -> tuple[list[str], list[Finding]]:
        from handfast.tools.credentials import Credentials
        from handfast.tools.credentials.check import check_secrets

        settings = load_settings()
        tools = {tool.name: tool for agent in load_agents(agents) for tool in agent.tools}
        credentials = Credentials(settings.secrets)
        try:
            return await check_secrets(tools.values(), settings.upstreams, credentials, tenant)
        finally:
            await credentials.close()

    there, missing = run_async(go())
    if json:
        print_json({"there": there, "missing": [finding.model_dump(mode="json") for finding in missing]})
    else:
        for line in there:
            console.print(line, style="green")
        for finding in missing:
            console.print(f"{finding.subject}: {finding.message}", style="red")
    if missing:
        raise typer.Exit(Exit.FAILED)
    if not there and not json:
        console.print(
            "no tool names a secret, nor an upstream that is signed in at (secrets=, endpoints=)", style="dim"
        )


@app.command()
def drift(json: Json = False) -> None:
    """What does not fit: invalid calls, refusals, unknown fields and mismatches, lately and usually. Exit code 1 if any rises."""

    async def go() -> list[Drift]:
        async with await Client.connect() as client:
            return await client.ledger.shared.read_drift()

    found = run_async(go())
    rows: list[tuple[str | Text, ...]] = []
    for one in found:
        if json:
            print_json({**one.model_dump(mode="json"), "rising": one.rising})
        cells = [_share(one, misfit) for misfit in Misfit]
        rows.append((f"{one.tool} {one.version}", str(one.now.asked), str(one.now.answered), *cells))
    if not json:
        console.print(table(("tool", "calls", "answers", *Misfit), rows))
        if not found:
            console.print("no call in the last hours", style="dim")
    if any(one.rising for one in found):
        raise typer.Exit(Exit.FAILED)


def _share(drift: Drift, misfit: Misfit) -> Text:
    """Lately, and usually in brackets."""
    told = [
        f"{found / total:.1%}" if total else "-"
        for found, total in (drift.now.share(misfit), drift.before.share(misfit))
    ]
    return Text(f"{told[0]} ({told[1]})", style="bold red" if misfit in drift.rising else "")


def _document(given: str) -> tuple[str, dict[str, Any]]:
    name, _, file = given.partition("=")
    try:
        return name, json_.loads(Path(file).read_text())
    except (OSError, ValueError) as error:
        msg = f"--document {given!r}: write NAME=FILE, an OpenAPI document in JSON ({error})"
        raise SettingsError(msg) from error


def _print_findings(findings: Sequence[Finding], *, json: bool) -> None:
    for finding in findings:
        if json:
            print_json(finding)
        else:
            console.print(f"{finding.subject}: {finding.message}", style="yellow")
    if findings:
        raise typer.Exit(Exit.FAILED)
    if not json:
        console.print("nothing to improve", style="green")


def _contracts(target: str) -> Lock:
    path = Path(target)
    return read_lock(path) if path.suffix == ".json" or path.exists() else lock_of(load_agents(target))


def _lock_findings(locked: Lock, now: Lock, file: Path) -> list[Finding]:
    faults = version_faults(locked.tools, now.tools)
    if not faults and locked != now:
        changed = sorted({change.tool for change in compare(locked.tools, now.tools)})
        message = (
            f"{file} does not know the contracts of {', '.join(changed)}: write it again with `handfast tools lock`"
        )
        return [Finding(subject="lock", message=message)]
    return [Finding(subject=f"tool {fault.tool}", message=fault.message) for fault in faults]


def _print_changes(changes: Sequence[Change], *, json: bool) -> None:
    for change in changes:
        if json:
            print_json(change)
        else:
            kind = "breaking  " if change.breaking else "compatible"
            console.print(f"{kind}  {change.tool}: {change.message}", style="red" if change.breaking else "")
