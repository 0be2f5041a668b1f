"""A service of somebody else's, in a process of its own: its append-only log is the oracle of every crash test.

`python -m tests.crash.downstream PORT FILE`. A request that carries `X-Kill` has that process killed after the effect is
committed and before the answer is sent: the worst moment of a call.
"""

import asyncio
import json
import os
import signal
import sqlite3
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

SCHEMA = """
CREATE TABLE IF NOT EXISTS log (n INTEGER PRIMARY KEY, kind TEXT, ref TEXT, key TEXT);
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, body TEXT);
"""


def make_app(path: Path) -> Starlette:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.executescript(SCHEMA)

    async def charge(request: Request) -> JSONResponse:
        """An effect; once per key where a key is honoured, once per request else."""
        wanted = await request.json()
        key = request.headers.get("idempotency-key", "") if wanted["keyed"] else ""
        known = connection.execute("SELECT body FROM answers WHERE key = ? AND key != ''", (key,)).fetchone()
        if known:
            return JSONResponse(json.loads(known[0]))
        connection.execute("BEGIN IMMEDIATE")
        cursor = connection.execute("INSERT INTO log (kind, ref, key) VALUES ('charge', ?, ?)", (wanted["ref"], key))
        body = {"charge": cursor.lastrowid}
        if key:
            connection.execute("INSERT INTO answers VALUES (?, ?)", (key, json.dumps(body)))
        connection.execute("COMMIT")
        if "x-kill" in request.headers:
            os.kill(int(request.headers["x-kill"]), signal.SIGKILL)
        await asyncio.sleep(wanted.get("answer_after", 0))
        return JSONResponse(body)

    def charges(request: Request) -> JSONResponse:
        ref = request.query_params.get("ref")
        rows = connection.execute("SELECT n, ref, key FROM log WHERE ? IS NULL OR ref = ? ORDER BY n", (ref, ref))
        return JSONResponse([{"charge": n, "ref": found, "key": key} for n, found, key in rows])

    return Starlette(routes=[Route("/charges", charge, methods=["POST"]), Route("/charges", charges)])


if __name__ == "__main__":
    uvicorn.run(make_app(Path(sys.argv[2])), port=int(sys.argv[1]), log_level="warning")
