"""The embedded engine's start: ports that are taken."""

import socket
from pathlib import Path

import pytest

from handfast.contracts.errors import EngineUnavailable
from handfast.engine import embedded as embedded_module
from handfast.engine.embedded import EmbeddedEngine, free_port


def bound() -> socket.socket:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return taken


async def test_a_port_that_was_free_a_moment_ago_is_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bound() as taken:
        free = iter([taken.getsockname()[1]])
        monkeypatch.setattr(embedded_module, "free_port", lambda: next(free, None) or free_port())
        async with EmbeddedEngine(tmp_path) as embedded:
            assert embedded.engine.address != f"127.0.0.1:{taken.getsockname()[1]}"
    assert not (tmp_path / "engine.json").exists()


async def test_a_port_that_was_asked_for_is_not_replaced(tmp_path: Path) -> None:
    with bound() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EngineUnavailable, match=f"port {port} is taken by another process"):
            await EmbeddedEngine(tmp_path, port=port).start()
