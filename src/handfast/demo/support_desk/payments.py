"""The payment service: refunds that honour `Idempotency-Key` as the IETF draft says (draft-07)."""

import asyncio
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from handfast.demo.support_desk.store import Store

PAYMENTS = {"pay_00001042": 1999, "pay_00001043": 3800, "pay_00001051": 3990, "pay_00001077": 36490}
SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, payload TEXT NOT NULL, status INTEGER, body TEXT);
CREATE TABLE IF NOT EXISTS refunds (refund_id TEXT PRIMARY KEY, payment_id TEXT NOT NULL, amount_minor INTEGER NOT NULL);
"""
Answer = tuple[int, dict[str, Any]]


def make_app(data: Path, answer_after: float = 0.0) -> Starlette:
    """The service, with its database in the folder `data`.

    Args:
        data: Where its database is.
        answer_after: Seconds between the refund's commit and the answer, as a busy service takes.
    """
    store = Store(data / "payments.db", SCHEMA)

    async def refund(request: Request) -> JSONResponse:
        key = request.headers.get("idempotency-key", "")
        payload = await request.body()
        status, body, headers = await run_in_threadpool(_refund, store, key, payload)
        await asyncio.sleep(answer_after)
        return JSONResponse(body, status, headers)

    def log(_: Request) -> JSONResponse:
        return JSONResponse(store.log())

    return Starlette(routes=[Route("/refunds", refund, methods=["POST"]), Route("/log", log)])


def _refund(store: Store, key: str, payload: bytes) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Make a refund once per key; the same key again gets the same answer, and a header says which it is."""
    if not key:
        return 400, {"title": "no key", "detail": "every refund needs an Idempotency-Key"}, {}
    digest = hashlib.sha256(payload).hexdigest()
    with store.transaction() as connection:
        connection.execute("BEGIN IMMEDIATE")
        known = connection.execute("SELECT payload, status, body FROM keys WHERE key = ?", (key,)).fetchone()
        if known is not None and known["payload"] != digest:
            store.write(connection, "key reused", key=key)
            answer: Answer = (422, {"title": "key reused", "detail": "this key came with another payload before"})
            headers = {}
        elif known is not None:
            store.write(connection, "answer repeated", key=key)
            answer = (known["status"], json.loads(known["body"]))
            headers = {"Idempotent-Replayed": "true"}
        else:
            answer = _make_refund(store, connection, key, json.loads(payload))
            row = (key, digest, answer[0], json.dumps(answer[1]))
            connection.execute("INSERT INTO keys (key, payload, status, body) VALUES (?, ?, ?, ?)", row)
            headers = {"Idempotent-Replayed": "false"}
        connection.execute("COMMIT")
    return answer[0], answer[1], headers


def _make_refund(store: Store, connection: sqlite3.Connection, key: str, wanted: dict[str, Any]) -> Answer:
    payment_id, amount = str(wanted["payment_id"]), int(wanted["amount_minor"])
    captured = PAYMENTS.get(payment_id)
    if captured is None:
        store.write(connection, "refund refused", key=key, payment_id=payment_id, why="no such payment")
        return 404, {"title": "no such payment", "detail": f"no payment is {payment_id}"}
    query = "SELECT COALESCE(SUM(amount_minor), 0) FROM refunds WHERE payment_id = ?"
    before = connection.execute(query, (payment_id,)).fetchone()[0]
    if before + amount > captured:
        store.write(connection, "refund refused", key=key, payment_id=payment_id, why="already refunded")
        return 409, {"title": "already refunded", "detail": f"{before} of {captured} cents were already refunded"}
    count = connection.execute("SELECT COUNT(*) FROM refunds").fetchone()[0]
    refund_id = f"re_{count + 1:06d}"
    connection.execute("INSERT INTO refunds VALUES (?, ?, ?)", (refund_id, payment_id, amount))
    store.write(connection, "refunded", key=key, refund_id=refund_id, payment_id=payment_id, amount_minor=amount)
    return 201, {"refund_id": refund_id, "payment_id": payment_id, "amount_minor": amount}
