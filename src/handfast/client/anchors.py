"""The ledger's hashes as Temporal's history holds them: two records that would both have to be forged."""

from pydantic import BaseModel, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from handfast.contracts.wire_model import Anchor

MARKER_DATA = "data"


class _Anchored(BaseModel):
    anchor: Anchor


async def read_anchors(client: Client, run_id: str) -> list[Anchor]:
    """The anchors in the results of the run's activities, of its latest execution.

    Raises:
        RPCError: Temporal does not answer, or no longer has the run.
    """
    history = await client.get_workflow_handle(run_id).fetch_history()
    anchors: set[Anchor] = set()
    for event in history.events:
        for payload in event.activity_task_completed_event_attributes.result.payloads:
            anchors |= _anchor_in(payload)
        for payloads in event.marker_recorded_event_attributes.details.values():
            for payload in payloads.payloads:
                anchors |= _anchor_in(payload)
    return sorted(anchors)


def _anchor_in(payload: Payload) -> set[Anchor]:
    try:
        return {_Anchored.model_validate_json(payload.data).anchor}
    except ValidationError:
        return set()
