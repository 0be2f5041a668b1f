"""`handfast plan`: plans checked, drawn and carried out."""

from pathlib import Path
from typing import Annotated

import typer

from handfast.client.cli.exits import Exit, run_async
from handfast.client.cli.follow import follow_to_the_end
from handfast.client.cli.given import json_object
from handfast.client.cli.output import Json, console, print_json
from handfast.client.client import Client
from handfast.client.plan_picture import as_mermaid, as_svg
from handfast.client.run import Run
from handfast.contracts.errors import SettingsError
from handfast.contracts.loading import load_agents
from handfast.contracts.plan import Plan
from handfast.contracts.plan_check import plan_faults
from handfast.contracts.plan_file import read_plan

File = Annotated[Path, typer.Argument(metavar="FILE", help="A plan in YAML or JSON.")]
Name = Annotated[str, typer.Option("--agent", help="In whose name; the plan's own unless said.")]

app = typer.Typer(help="Plans: check, draw, run.", no_args_is_help=True)


@app.command()
def check(
    file: File,
    agents: Annotated[str, typer.Argument(metavar="MODULE:AGENTS", help="Whose tools it uses.")],
    agent: Name = "",
    json: Json = False,
) -> None:
    """Check a plan as a whole: tools, types, circles, references, and what could not be undone. Exit code 1 if it has faults."""

    async def go() -> list[str]:
        plan = read_plan(file)
        served = {one.name: one for one in load_agents(agents)}
        named = agent or plan.agent
        if named not in served:
            msg = f"the plan is carried out in the name of {named or 'nobody'!r}; {agents} has {', '.join(sorted(served))}"
            raise SettingsError(msg)
        return plan_faults(plan, {tool.name: tool for tool in served[named].tools})

    faults = run_async(go())
    for fault in faults:
        print_json({"fault": fault}) if json else console.print(fault, style="red")
    if faults:
        raise typer.Exit(Exit.FAILED)
    if not json:
        console.print("no fault", style="green")


@app.command()
def draw(
    file: File,
    svg: Annotated[Path | None, typer.Option(help="Write an SVG image there; `-` prints it.")] = None,
    json: Json = False,
) -> None:
    """Draw a plan: as a Mermaid flowchart, or with --svg as an image."""

    async def go() -> Plan:
        return read_plan(file)

    plan = run_async(go())
    if json:
        print_json({"mermaid": as_mermaid(plan), "svg": as_svg(plan)})
        return
    picture = as_mermaid(plan) if svg is None else as_svg(plan)
    if svg is None or str(svg) == "-":
        typer.echo(picture, nl=False)
        return
    svg.write_text(picture)
    console.print(f"written: {svg}", style="green")


@app.command()
def run(
    file: File,
    request: Annotated[str, typer.Option(help="What it is given, as a JSON object; @FILE reads it.")] = "{}",
    agent: Name = "",
    id: Annotated[str, typer.Option(help="The run's id; the same id twice is the same run.")] = "",  # noqa: A002
    user: Annotated[str, typer.Option(help="Who it is for.")] = "",
    tenant: Annotated[str, typer.Option(help="The tenant it belongs to.")] = "default",
    detach: Annotated[bool, typer.Option("--detach", help="Start it, print its id, and don't follow it.")] = False,
    json: Json = False,
) -> None:
    """Carry out a plan and follow it. The worker checks it before anything runs."""

    async def start(client: Client) -> Run:
        plan = read_plan(file)
        return await client.start_plan(
            plan, json_object(request, "--request"), agent=agent, id=id, user=user, tenant=tenant
        )

    follow_to_the_end(start, detach=detach, json=json)
