"""`handfast policy`: what may happen, checked, explained, tested, and set for the whole installation."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.text import Text

from handfast.client.cli.exits import Exit, run_async
from handfast.client.cli.given import json_object
from handfast.client.cli.output import Json, ago, console, print_json, table
from handfast.client.client import Client
from handfast.client.keyring import login
from handfast.contracts.called_from import CalledFrom
from handfast.contracts.effects import Verdict
from handfast.contracts.errors import SettingsError
from handfast.contracts.loading import load_agents
from handfast.contracts.policy import CaseCall, Policy, parse_policy, read_policy
from handfast.contracts.policy.check import Explained, case_fault, example, explain, policy_faults
from handfast.contracts.texts import printable

File = Annotated[Path, typer.Argument(metavar="FILE", help="A policy in TOML.")]
Agents = Annotated[str, typer.Argument(metavar="MODULE:AGENTS", help="The agents it is for.")]
INSTALLED = "installed"
COLOURS = {Verdict.RUN: "green", Verdict.ASK: "yellow", Verdict.DENY: "red"}

app = typer.Typer(help="Policies: check, explain, test, set.", no_args_is_help=True)


@app.command()
def check(file: File, agents: Agents = "", json: Json = False) -> None:
    """Check a policy, and hold it against the agents it is for: misspelt names, arguments that no tool has. Exit code 1 on faults."""

    async def go() -> list[str]:
        policy = read_policy(file)
        return policy_faults(policy, load_agents(agents)) if agents else []

    _report(run_async(go()), json=json)


@app.command(name="test")
def cases(file: File, agents: Agents, json: Json = False) -> None:
    """Hold a policy's own cases against it. Exit code 1 if it decides otherwise."""

    async def go() -> tuple[int, list[str]]:
        policy, served = read_policy(file), load_agents(agents)
        found = [case_fault(policy, case, served) for case in policy.cases]
        return len(found), [fault for fault in found if fault]

    count, faults = run_async(go())
    if not count:
        faults = [f"{file} has no cases: add [[cases]] with call = {{tool = ...}} and expect = ..."]
    _report(faults, json=json, well=f"{count} cases, each as it should be")


@app.command(name="explain")
def explain_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A policy in TOML; `installed` for the one that holds now (`policy set`)."),
    ],
    agents: Agents,
    tool: Annotated[str, typer.Argument(help="The tool that is called.")],
    arguments: Annotated[str, typer.Option(help="Its arguments, as a JSON object; @FILE reads it.")] = "{}",
    agent: Annotated[str, typer.Option(help="Whose call it is; the first that has the tool unless said.")] = "",
    user: Annotated[str, typer.Option(help="For whom.")] = "",
    tenant: Annotated[str, typer.Option(help="Of which tenant.")] = "default",
    address: Annotated[str, typer.Option(help="Asked for from that IP address.")] = "",
    session: Annotated[str, typer.Option(help="Asked for in that session.")] = "",
    untrusted: Annotated[bool, typer.Option("--untrusted", help="Words of others are in its run.")] = False,
    said: Annotated[str, typer.Option(help="What the user has said; with --untrusted the call may aim at that.")] = "",
    at: Annotated[datetime | None, typer.Option(help="When; now unless said. UTC where it names no zone.")] = None,
    json: Json = False,
) -> None:
    """Say what would become of a call by a policy and by its agent's own, which rule decides, and why every other does not."""

    async def go() -> Explained:
        policy = await _installed() if str(file) == INSTALLED else read_policy(file)
        asked = CaseCall(
            tool=tool,
            arguments=json_object(arguments, "--arguments"),
            agent=agent,
            user=user,
            tenant=tenant,
            called_from=_called_from(address, session),
            untrusted=untrusted,
            said=said,
        )
        moment = datetime.now(UTC) if at is None else at if at.tzinfo else at.replace(tzinfo=UTC)
        return explain(policy, example(asked, load_agents(agents)), moment)

    explained = run_async(go())
    ruling = explained.ruling
    if json:
        rules = [
            {"rule": rule.name, "verdict": rule.verdict, "applies": not why, "why": why}
            for rule, why in explained.rules
        ]
        print_json({"verdict": ruling.verdict, "rule": ruling.rule, "reason": ruling.reason, "rules": rules})
        return
    console.print(Text.assemble((ruling.verdict, f"bold {COLOURS[ruling.verdict]}"), f"  {printable(ruling.told)}"))
    for rule, why in explained.rules:
        told = ("applies", "bold") if not why else (f"does not apply: {printable(why)}", "dim")
        console.print(Text.assemble("  ", (f"{rule.verdict:<5}", COLOURS[rule.verdict]), f"{rule.name}  ", told))


async def _installed() -> Policy:
    """The installation's policy; an empty one if there is none."""
    async with await Client.connect() as client:
        version = await client.ledger.installation.policy()
    return parse_policy(version.text) if version.text else Policy()


def _called_from(address: str, session: str) -> CalledFrom:
    try:
        return CalledFrom(address=address, session=session)
    except ValidationError as error:
        told = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
        raise SettingsError(told) from error


@app.command(name="set")
def set_(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A policy in TOML.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Take the policy away.")] = False,
    by: Annotated[str, typer.Option(help="Who says so; your login name unless given.")] = "",
    json: Json = False,
) -> None:
    """Let a policy hold for every agent, beside what each says of itself; also for runs that are going, and calls that wait."""

    async def go() -> int:
        if (file is None) is not none:
            msg = "say which policy: a FILE, or --none to take it away"
            raise SettingsError(msg)
        if file is not None:
            read_policy(file)
        async with await Client.connect() as client:
            return (await client.set_policy("" if file is None else file.read_text(), by=by or login())).number

    number = run_async(go())
    print_json({"number": number}) if json else console.print(f"version {number} of the policy holds", style="green")


@app.command()
def show(json: Json = False) -> None:
    """Print the policy that holds for every agent."""

    async def go() -> tuple[int, str, str]:
        async with await Client.connect() as client:
            version = await client.ledger.installation.policy()
            return version.number, version.text, version.by

    number, text, by = run_async(go())
    if json:
        print_json({"number": number, "text": text, "by": by})
    elif text:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        console.print("no policy is set: each agent's own holds, or the safe default", style="dim")


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    json: Json = False,
) -> None:
    """List the versions of the policy, the newest first: who has set which, and when."""

    async def go() -> list[tuple[int, str, str, datetime]]:
        async with await Client.connect() as client:
            versions = await client.ledger.installation.policy_versions(limit)
            return [(one.number, one.by, one.text, datetime.fromtimestamp(one.at / 1000, UTC)) for one in versions]

    found = run_async(go())
    if json:
        for number, by, text, at in found:
            print_json({"number": number, "by": by, "at": at.isoformat(), "text": text})
        return
    rows = [
        (str(number), by, f"{len(text.splitlines())} lines" if text else "none", ago(at))
        for number, by, text, at in found
    ]
    console.print(table(("version", "by", "policy", "age"), rows))


@app.command()
def review(json: Json = False) -> None:
    """Let calls that wait look again whether they must: after a deployment has loosened an agent's own policy."""

    async def go() -> int:
        async with await Client.connect() as client:
            return await client.review()

    told = run_async(go())
    print_json({"runs": told}) if json else console.print(f"{told} runs look again")


def _report(faults: list[str], *, json: bool, well: str = "no fault") -> None:
    for fault in faults:
        print_json({"fault": fault}) if json else console.print(printable(fault), style="red")
    if faults:
        raise typer.Exit(Exit.FAILED)
    if not json:
        console.print(well, style="green")
