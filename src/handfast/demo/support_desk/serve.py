"""`python -m handfast.demo.support_desk.serve orders|payments --port PORT --data FOLDER`: one service as a process."""

import argparse
from pathlib import Path

import uvicorn

from handfast.demo.support_desk import orders, payments


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", choices=["orders", "payments"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--answer-after", type=float, default=0.0, help="seconds between a refund and its answer")
    given = parser.parse_args()
    given.data.mkdir(parents=True, exist_ok=True)
    app = (
        orders.make_app(given.data) if given.service == "orders" else payments.make_app(given.data, given.answer_after)
    )
    uvicorn.run(app, host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
