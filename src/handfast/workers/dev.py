"""`handfast dev`: Temporal, ledger and worker together, for one developer on one machine."""

from rich.console import Console

from handfast.contracts.loading import load_agents
from handfast.engine.connect import engine_at
from handfast.engine.embedded import EmbeddedEngine
from handfast.logs import configure_logs
from handfast.settings import load_settings
from handfast.workers.process import serve


async def develop(target: str, port: int, ui_port: int) -> None:
    """Serve agents on an engine of their own, or on the one that already runs here.

    Raises:
        HandfastError: Something does not fit, or the engine does not come up.
    """
    settings = load_settings()
    configure_logs(settings)
    agents = load_agents(target)
    console = Console(stderr=True, highlight=False)
    running = engine_at(settings.home)
    if running is not None:
        console.print(f"Temporal   {running.address} (it already runs)\nUI         {running.ui}")
        await serve(agents, settings, address=running.address, migrate=True)
        return
    async with EmbeddedEngine(settings.home, binary=settings.temporal, port=port, ui_port=ui_port) as embedded:
        engine = embedded.engine
        first = agents[0].name
        console.print(
            f"Temporal   {engine.address}\nUI         {engine.ui}\nledger     {settings.ledger}\n"
            f'start one  handfast run {first} "..."\nCtrl-C ends everything; runs go on with the next `handfast dev`.'
        )
        await serve(agents, settings, address=engine.address, migrate=True)
