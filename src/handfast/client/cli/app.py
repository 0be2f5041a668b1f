"""The commands, gathered. Each group of them has a file of its own."""

from typing import Annotated, NoReturn

import typer

from handfast.client.cli import audit, follow, inbox, keys, ledger, look, plan, policy, serve, steer, tools
from handfast.client.cli.exits import Exit, exit_of, fail, leave
from handfast.contracts.errors import HandfastError

EPILOGUE = (
    "Exit codes: 0 done, 1 the run failed or a check found faults, 2 usage, 3 refused, 4 a contract or setting is wrong, "
    "5 Temporal or the ledger does not answer, 6 the run ended without an answer, 130 interrupted."
)

app = typer.Typer(
    name="handfast",
    help="Durable tool-using AI agents on Temporal: a crash never repeats a side effect.",
    epilog=EPILOGUE,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for module in (serve, follow, look, inbox, steer, audit):
    module.register(app)
app.add_typer(ledger.app, name="ledger")
app.add_typer(tools.app, name="tools")
app.add_typer(plan.app, name="plan")
app.add_typer(policy.app, name="policy")
app.add_typer(keys.app, name="keys")


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Durable tool-using AI agents on Temporal: a crash never repeats a side effect."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("handfast"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(Exit.USAGE)


def main() -> NoReturn:
    """The `handfast` command."""
    try:
        app()
    except HandfastError as error:
        try:
            fail(str(error), exit_of(error))
        except typer.Exit as ending:
            leave(ending.exit_code)
    except SystemExit as ending:
        if isinstance(ending.code, str):
            raise
        leave(ending.code or Exit.OK)
    leave(Exit.OK)
