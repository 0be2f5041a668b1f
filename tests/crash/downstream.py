"""A service of somebody else's, in a process of its own: its append-only log is the oracle of every crash test.

`python -m tests.crash.downstream PORT FILE`. What it does about keys, and how it behaves, is in each request's `manner`:

- `plain` knows no keys: each request charges.
- `keyed` answers a key that it knows with the first answer, and with 409 while the first request is under way.
- `late` is `keyed`, and commits after the client has given up waiting.
- `broken` is `keyed`, and answers the first request with 500 although it has committed.
- `plain late` and `plain broken` are the same without keys.

A request that carries `X-Kill` has those processes killed after the effect is committed and before the answer is sent: the worst
moment of a call.
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
CREATE TABLE IF NOT EXISTS state (ref TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS requests (n INTEGER PRIMARY KEY, ref TEXT, key TEXT);
"""
LATE_SECONDS = 2.5
"""How long a late service takes to commit: longer than its callers wait."""


def kill_who_is_named(request: Request) -> None:
    for pid in request.headers.get("x-kill", "").split():
        os.kill(int(pid), signal.SIGKILL)


def make_app(path: Path) -> Starlette:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.executescript(SCHEMA)
    under_way: set[str] = set()
    broken: set[str] = set()

    async def charge(request: Request) -> JSONResponse:
        """An effect; once per key where a key is honoured, once per request else."""
        wanted = await request.json()
        ref, manner = wanted["ref"], wanted["manner"]
        sent = request.headers.get("idempotency-key", "")
        connection.execute("INSERT INTO requests (ref, key) VALUES (?, ?)", (ref, sent))
        key = "" if manner.startswith("plain") else sent
        known = connection.execute("SELECT body FROM answers WHERE key = ? AND key != ''", (key,)).fetchone()
        if known:
            return JSONResponse(json.loads(known[0]))
        if key in under_way:
            return JSONResponse({"detail": "the first request with this key is under way"}, status_code=409)
        under_way.update({key} - {""})
        if manner.endswith("late"):
            await asyncio.sleep(LATE_SECONDS)
        connection.execute("BEGIN IMMEDIATE")
        cursor = connection.execute("INSERT INTO log (kind, ref, key) VALUES ('charge', ?, ?)", (ref, key))
        body = {"charge": cursor.lastrowid}
        if key:
            connection.execute("INSERT INTO answers VALUES (?, ?)", (key, json.dumps(body)))
        connection.execute("COMMIT")
        under_way.discard(key)
        kill_who_is_named(request)
        if manner.endswith("broken") and ref not in broken:
            broken.add(ref)
            return JSONResponse({"detail": "an error after the commit"}, status_code=500)
        await asyncio.sleep(wanted.get("answer_after", 0))
        return JSONResponse(body)

    async def put(request: Request) -> JSONResponse:
        """A state: what is there already stays as it is."""
        ref = request.path_params["ref"]
        connection.execute("INSERT INTO requests (ref, key) VALUES (?, '')", (ref,))
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("INSERT OR IGNORE INTO state VALUES (?)", (ref,)).rowcount:
            connection.execute("INSERT INTO log (kind, ref, key) VALUES ('state', ?, '')", (ref,))
        connection.execute("COMMIT")
        kill_who_is_named(request)
        return JSONResponse({"charge": 0})

    def charges(request: Request) -> JSONResponse:
        kill_who_is_named(request)
        ref = request.query_params.get("ref")
        rows = connection.execute("SELECT n, ref, key FROM log WHERE ? IS NULL OR ref = ? ORDER BY n", (ref, ref))
        return JSONResponse([{"charge": n, "ref": found, "key": key} for n, found, key in rows])

    def requests(request: Request) -> JSONResponse:
        """Every request that came in, whatever became of it."""
        rows = connection.execute("SELECT ref, key FROM requests ORDER BY n")
        return JSONResponse([{"ref": ref, "key": key} for ref, key in rows])

    return Starlette(
        routes=[
            Route("/charges", charge, methods=["POST"]),
            Route("/charges", charges),
            Route("/charges/{ref}", put, methods=["PUT"]),
            Route("/requests", requests),
        ]
    )


if __name__ == "__main__":
    uvicorn.run(make_app(Path(sys.argv[2])), port=int(sys.argv[1]), log_level="warning")
