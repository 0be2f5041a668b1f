"""Which Temporal server there must be: what is too old is refused, with what was found and what is needed."""

from pathlib import Path
from typing import Any

import pytest

from handfast.contracts.errors import EngineUnavailable
from handfast.engine import versions
from handfast.engine.connect import Engine, connect
from handfast.engine.embedded import find_binary
from handfast.engine.versions import require_server_version
from handfast.settings import Settings


def temporal_of(folder: Path, told: str) -> Path:
    """A program that tells a version as Temporal's command line does."""
    folder.mkdir()
    binary = folder / "temporal"
    binary.write_text(f"#!/bin/sh\necho '{told}'\n")
    binary.chmod(0o755)
    return binary


OLD, NEW = "temporal version 1.4.0 (Server 1.28.0, UI 2.37.0)", "temporal version 1.10.0 (Server 1.33.1, UI 2.60.0)"


def test_an_older_binary_on_the_path_is_not_taken_before_that_of_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = temporal_of(tmp_path / "old", OLD)
    monkeypatch.setenv("PATH", str(old.parent), prepend=":")
    found = find_binary()
    assert found != str(old)
    assert versions.is_adequate(found)
    new = temporal_of(tmp_path / "new", NEW)
    monkeypatch.setenv("PATH", str(new.parent), prepend=":")
    assert find_binary() == str(new)


@pytest.mark.parametrize(
    ("told", "named"), [(OLD, "has server 1.28"), ("hello", "a server whose version it does not tell")]
)
def test_a_binary_of_the_setting_that_is_too_old_is_refused(tmp_path: Path, told: str, named: str) -> None:
    binary = temporal_of(tmp_path / "set", told)
    with pytest.raises(
        EngineUnavailable, match=f"{named}.*Handfast needs 1.31 or newer.*Set it to a newer one, or unset it"
    ):
        find_binary(str(binary))
    assert find_binary(str(temporal_of(tmp_path / "new", NEW))) == str(tmp_path / "new" / "temporal")


async def test_a_server_that_is_too_old_is_refused_by_a_worker(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = await connect(Settings(home=tmp_path), engine.address)
    await require_server_version(client, engine.address)
    # The server of the tests is new enough, so the need is raised above it.
    raised: Any = (9, 0)
    monkeypatch.setattr(versions, "MIN_SERVER", raised)
    with pytest.raises(
        EngineUnavailable, match=r"is version 1\.\d+\.\d+.*, and Handfast needs 9.0 or newer.*Upgrade the server"
    ):
        await require_server_version(client, engine.address)
