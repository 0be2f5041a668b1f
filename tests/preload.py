"""What the tests' processes have imported before they begin."""

from importlib import import_module

for name in (
    "aiosqlite", "httpx", "temporalio.worker", "uvicorn", "holdfast.client.cli.app", "holdfast.tools.http", "holdfast.workers.process",
):  # fmt: skip
    import_module(name)
