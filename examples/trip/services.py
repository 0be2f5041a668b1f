"""The services of the example, each a process of its own with a log of its own: `python -m examples.trip.services PORT LOG`."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class Bookings:
    """What was booked and cancelled, in the order in which it happened. The log is the truth; memory is made of it."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.entries: list[dict[str, Any]] = (
            [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        )
        self._answers: dict[str, str] = {entry["key"]: entry["number"] for entry in self.entries}

    def write(self, did: str, number: str, what: str, key: str) -> str:
        """Note something, once for each idempotency key; the number it got."""
        if key not in self._answers:
            entry = {"did": did, "number": number, "what": what, "key": key}
            with self._log.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            self.entries.append(entry)
            self._answers[key] = number
        return self._answers[key]


def make_app(log: Path) -> Starlette:
    """A service that books and cancels. `POST /story` says what goes wrong next: `sold_out`, or `slow` answers."""
    bookings = Bookings(log)
    story: dict[str, Any] = {}

    async def tell(request: Request) -> JSONResponse:
        story.clear()
        story.update(await request.json())
        return JSONResponse(story)

    async def book(request: Request) -> JSONResponse:
        wanted = await request.json()
        if story.get("sold_out"):
            return JSONResponse({"error": f"{wanted['what']} is sold out"}, status_code=409)
        number = bookings.write(
            "book", f"b{len(bookings.entries) + 1}", wanted["what"], request.headers["idempotency-key"]
        )
        await asyncio.sleep(story.get("slow", 0))
        return JSONResponse({"number": number})

    async def cancel(request: Request) -> JSONResponse:
        number = request.path_params["number"]
        bookings.write("cancel", number, "", request.headers["idempotency-key"])
        await asyncio.sleep(story.get("slow_cancel", 0))
        return JSONResponse({"number": number})

    async def entries(_: Request) -> JSONResponse:
        return JSONResponse(bookings.entries)

    return Starlette(
        routes=[
            Route("/story", tell, methods=["POST"]),
            Route("/bookings", book, methods=["POST"]),
            Route("/bookings/{number}", cancel, methods=["DELETE"]),
            Route("/log", entries),
        ]
    )


if __name__ == "__main__":
    uvicorn.run(make_app(Path(sys.argv[2])), port=int(sys.argv[1]), log_level="warning")
