"""`worker`, `gateway`, `dev` and `demo`: the commands that serve."""

from typing import Annotated

import typer

from handfast.client.cli.exits import exit_of, fail, run_async
from handfast.contracts.errors import HandfastError, SettingsError
from handfast.contracts.loading import load_agents
from handfast.settings import load_settings

Agents = Annotated[
    str, typer.Argument(metavar="MODULE:AGENTS", help="Such as support:support for `support = Agent(...)`.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(worker)
    app.command()(gateway)
    app.command()(dev)
    app.command()(demo)


def worker(
    agents: Agents,
    queue: Annotated[
        list[str] | None, typer.Option(help="Serve this task queue of tools instead of runs; repeatable.")
    ] = None,
) -> None:
    """Serve agents until SIGTERM, then drain. Settings come from the environment: HANDFAST_..., TEMPORAL_..."""
    from handfast.logs import configure_logs
    from handfast.workers.process import serve

    async def go() -> None:
        settings = load_settings()
        configure_logs(settings)
        await serve(load_agents(agents), settings, queues=queue or ())

    run_async(go())


def gateway(
    agents: Agents,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where to listen.", min=1, max=65535)] = 8484,
) -> None:
    """Take the signed callbacks of work that tools left pending. Others reach it at HANDFAST_GATEWAY_URL."""
    from handfast.logs import configure_logs

    async def go() -> None:
        try:
            from handfast.gateway.process import serve_gateway
        except ImportError as error:
            msg = "the gateway needs its web framework: install handfast[gateway]"
            raise SettingsError(msg) from error
        settings = load_settings()
        configure_logs(settings)
        await serve_gateway(load_agents(agents), settings, host, port)

    run_async(go())


def dev(
    agents: Agents,
    port: Annotated[int, typer.Option(help="Temporal's port; a free one unless given.")] = 0,
    ui_port: Annotated[int, typer.Option(help="The UI's port; a free one unless given.")] = 0,
) -> None:
    """Serve agents on a Temporal dev server of their own, persistent in .handfast; Ctrl-C ends all of it."""
    from handfast.workers.dev import develop

    run_async(develop(agents, port, ui_port))


def demo(
    ticket: Annotated[str, typer.Option(help="Your own ticket instead of those of the file.")] = "",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the engine running at the end, to look at its UI.")
    ] = False,
) -> None:
    """One support desk on the embedded engine: a crash in the middle of a refund, and a summary of what was proven."""
    from handfast.demo.main import main

    try:
        code = main(ticket=ticket, keep=keep)
    except HandfastError as error:
        fail(str(error), exit_of(error))
    raise typer.Exit(code)
