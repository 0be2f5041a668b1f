"""Steps written by hand that call a service, with a key of their own each."""

import httpx
from temporalio import activity


class Calls:
    """Steps that call a service."""

    def __init__(self, address: str) -> None:
        self._http = httpx.AsyncClient(base_url=address)

    @activity.defn
    async def calling_step(self, number: int) -> str:
        info = activity.info()
        headers = {"idempotency-key": f"{info.workflow_id}/{info.activity_id}"}
        reply = await self._http.post("/work", json={"number": number}, headers=headers)
        return str(reply.raise_for_status().json()["done"])
