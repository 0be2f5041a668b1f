"""The gateway as a process: `handfast gateway MODULE:AGENTS`."""

from collections.abc import Sequence

import structlog
import uvicorn
from temporalio.service import RPCError, RPCStatusCode

from handfast.contracts.agent import Agent
from handfast.contracts.names import WAKE
from handfast.contracts.registry import Registry
from handfast.engine.connect import connect
from handfast.gateway.app import make_app
from handfast.ledger import Ledger
from handfast.settings import Settings
from handfast.tools.credentials import Credentials

log = structlog.get_logger()


async def serve_gateway(
    agents: Sequence[Agent], settings: Settings, host: str, port: int, *, address: str = ""
) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered.

    Raises:
        HandfastError: Something does not fit; nothing was served.
    """
    ledger = Ledger.connect(settings.ledger)
    await ledger.require_newest()
    temporal, _ = await connect(settings, address)

    async def wake(run_id: str, operation_id: str) -> None:
        try:
            await temporal.get_workflow_handle(run_id).signal(WAKE, operation_id)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return  # the run is over: nobody sleeps
            raise ConnectionError(error.message) from error

    app = make_app(Registry(agents), ledger, wake, Credentials(settings.secrets))
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False))
    log.info("gateway serves", host=host, port=port)
    await server.serve()
