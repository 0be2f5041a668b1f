"""What the tests of permission share: people with keys, and looks at what waits."""

import asyncio
from typing import Any

from handfast import Run, SigningKey
from handfast.contracts.grants import Approver
from tests.conftest import Shop, until


async def person(desk: Shop, name: str, **said: Any) -> SigningKey:
    """Somebody with a key of their own."""
    key = SigningKey.new()
    await desk.ledger.installation.add_key(Approver(name=name, public=key.public, **said), "test")
    return key


async def waiting(run: Run) -> Any:
    [one] = await until(lambda: _waiting(run))
    return one


async def _waiting(run: Run) -> Any:
    return (await run.state()).waiting


async def events(desk: Shop, run: Run, kind: str) -> list[dict[str, Any]]:
    return [event.data for event in await desk.ledger.read_events(run.id) if event.kind == kind]


async def ended(run: Run) -> Any:
    return await asyncio.wait_for(run.result(), 30)
