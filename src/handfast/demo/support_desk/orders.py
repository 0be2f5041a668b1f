"""The order service: orders by number and by e-mail address."""

import json
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from handfast.demo.support_desk.store import Store

ORDERS = (
    ("1042", "ada@example.com", "pay_00001042", [("field notebook", 1299), ("pencil set", 700)]),
    ("1043", "ben@example.com", "pay_00001043", [("blue mug", 1450), ("green mug", 1450), ("tea towel", 900)]),
    ("1051", "dan@example.com", "pay_00001051", [("desk lamp", 3990)]),
    ("1077", "eve@example.com", "pay_00001077", [("espresso machine", 34900), ("coffee beans", 1590)]),
)


def make_app(data: Path) -> Starlette:
    """The service, with its database in the folder `data`."""
    store = Store(
        data / "orders.db", "CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, email TEXT, body TEXT);"
    )
    with store.transaction() as connection:
        for order_id, email, payment_id, items in ORDERS:
            body = {
                "order_id": order_id,
                "email": email,
                "payment_id": payment_id,
                "total_minor": sum(price for _, price in items),
                "items": [{"name": name, "price_minor": price} for name, price in items],
            }
            connection.execute("INSERT OR IGNORE INTO orders VALUES (?, ?, ?)", (order_id, email, json.dumps(body)))

    def one(request: Request) -> JSONResponse:
        order_id = request.path_params["order_id"]
        with store.transaction() as connection:
            row = connection.execute("SELECT body FROM orders WHERE order_id = ?", (order_id,)).fetchone()
            store.write(connection, "order read", order_id=order_id, found=row is not None)
        if row is None:
            return JSONResponse({"title": "no such order", "detail": f"no order has the number {order_id}"}, 404)
        return JSONResponse(json.loads(row["body"]))

    def by_email(request: Request) -> JSONResponse:
        email = request.query_params.get("email", "")
        with store.transaction() as connection:
            rows = connection.execute(
                "SELECT body FROM orders WHERE email = ? ORDER BY order_id DESC", (email,)
            ).fetchall()
            store.write(connection, "orders searched", email=email, found=len(rows))
        return JSONResponse([json.loads(row["body"]) for row in rows])

    def log(_: Request) -> JSONResponse:
        return JSONResponse(store.log())

    return Starlette(routes=[Route("/orders/{order_id}", one), Route("/orders", by_email), Route("/log", log)])
