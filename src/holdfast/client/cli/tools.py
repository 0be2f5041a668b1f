"""`holdfast tools check`: contracts against what makes a tool work well for a model."""

from typing import Annotated

import typer

from holdfast.client.cli.exits import Exit, run_async
from holdfast.client.cli.output import Json, console, print_json
from holdfast.contracts.lint import Finding, check_agents
from holdfast.contracts.loading import load_agents

app = typer.Typer(help="Tool contracts.", no_args_is_help=True)


@app.callback()
def tools() -> None:
    """Tool contracts."""


@app.command()
def check(
    agents: Annotated[str, typer.Argument(metavar="MODULE:AGENTS", help="What to check.")], json: Json = False
) -> None:
    """Check contracts: descriptions and constraints for the model, examples, timeouts, number of tools."""

    async def go() -> list[Finding]:
        return check_agents(load_agents(agents))

    findings = run_async(go())
    for finding in findings:
        if json:
            print_json(finding)
        else:
            console.print(f"{finding.subject}: {finding.message}", style="yellow")
    if findings:
        raise typer.Exit(Exit.FAILED)
    if not json:
        console.print("nothing to improve", style="green")
