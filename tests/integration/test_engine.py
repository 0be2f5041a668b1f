"""The embedded engine's start: ports that are taken."""

import socket
from pathlib import Path

import pytest

from holdfast.contracts.errors import EngineUnavailable
from holdfast.engine.embedded import EmbeddedEngine


def listening() -> socket.socket:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken


async def test_a_port_that_was_free_a_moment_ago_is_replaced_by_another(tmp_path: Path) -> None:
    embedded = EmbeddedEngine(tmp_path)
    with listening() as taken:
        embedded._port = taken.getsockname()[1]
        async with embedded:
            assert embedded.engine.address != f"127.0.0.1:{taken.getsockname()[1]}"
    assert not (tmp_path / "engine.json").exists()


async def test_a_port_that_was_asked_for_is_not_replaced(tmp_path: Path) -> None:
    with listening() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EngineUnavailable, match=f"port {port} is taken by another process"):
            await EmbeddedEngine(tmp_path, port=port).start()
