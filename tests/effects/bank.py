"""A payment service on loopback whose answers are planned, and tools that call it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from handfast.contracts.upstream import Upstream
from tests.loopback import Loopback, body_of

DROP = 0
"""In a plan: the request was received, and the connection dies without an answer."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that came in."""

    method: str
    key: str | None
    at: float


class Bank(Loopback):
    """Answers each request with the next status of the plan, after the last one with 200."""

    def __init__(self, *plan: int, headers: Mapping[str, str] | None = None) -> None:
        self.asked: list[Asked] = []
        self._plan = list(plan)
        self._headers = headers or {}
        super().__init__(self._answer)

    @property
    def upstreams(self) -> dict[str, Upstream]:
        """What a worker needs to call it by the name `bank`."""
        return {"bank": Upstream(base_url=self.url)}

    @property
    def posted(self) -> list[str | None]:
        """The keys of the requests that may have acted."""
        return [asked.key for asked in self.asked if asked.method != "GET"]

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body_of(request)
        self.asked.append(Asked(method=request.command, key=request.headers["Idempotency-Key"], at=time.monotonic()))
        status = self._plan.pop(0) if self._plan else 200
        if status == DROP:
            request.connection.close()
            return
        request.send_response(status)
        for name, value in self._headers.items():
            request.send_header(name, value)
        request.send_header("content-length", "2")
        request.end_headers()
        request.wfile.write(b"{}")
