"""What Temporal holds of runs, searched for what it must not hold.

A test marks contents with `PRIVATE`, wherever it puts them. At its end each session searches every history for such marks.
"""

import asyncio
from collections.abc import AsyncIterator

from temporalio.client import Client, WorkflowHandle

PRIVATE = "PRIVATE-"
MOST_HISTORIES = 5000
"""That the end of a session searches: the newest."""
AT_ONCE = 20


async def leaks(temporal: Client, *, prefix: str = PRIVATE, most: int = MOST_HISTORIES) -> list[str]:
    """Where marks stand in Temporal: the workflow, the event or the field, and what stands around the mark."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def look(workflow_id: str, run_id: str) -> list[str]:
        async with gate:
            return [
                found async for found in _leaks_of(temporal.get_workflow_handle(workflow_id, run_id=run_id), prefix)
            ]

    known = [(one.id, one.run_id) async for one in temporal.list_workflows(limit=most)]
    return [leak for found in await asyncio.gather(*(look(*one) for one in known)) for leak in found]


async def leaks_of(temporal: Client, *workflow_ids: str, prefix: str = PRIVATE) -> list[str]:
    """The same for these workflows, every execution of theirs that goes on or has ended."""
    found: list[str] = []
    for workflow_id in workflow_ids:
        found.extend([one async for one in _leaks_of(temporal.get_workflow_handle(workflow_id), prefix)])
    return found


async def _leaks_of(handle: WorkflowHandle[object, object], prefix: str) -> AsyncIterator[str]:
    mark = prefix.encode()
    async for event in handle.fetch_history_events():
        raw = event.SerializeToString()
        if mark in raw:
            yield f"{handle.id}, {event.WhichOneof('attributes')}: {_around(raw, mark)}"
    described = (await handle.describe()).raw_description.SerializeToString()
    if mark in described:
        yield f"{handle.id}, its description: {_around(described, mark)}"


def _around(raw: bytes, mark: bytes) -> str:
    at = raw.index(mark)
    return repr(raw[max(at - 60, 0) : at + 60])
