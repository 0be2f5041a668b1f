"""What the tests' processes have imported before they begin."""

from importlib import import_module

for name in (
    "aiosqlite", "httpx", "temporalio.worker", "uvicorn", "handfast.client.cli.app", "handfast.tools.http", "handfast.workers.process",
):  # fmt: skip
    import_module(name)
