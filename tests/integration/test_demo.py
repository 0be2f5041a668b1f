"""`handfast demo`, as a stranger runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(180)
@pytest.mark.parametrize("ticket", ["", "The green mug of order 1043 came broken, refund the green mug please."])
def test_the_demo_proves_what_it_claims(tmp_path: Path, ticket: str) -> None:
    command = [sys.executable, "-m", "handfast.client.cli", "demo", *(["--ticket", ticket] if ticket else [])]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "HANDFAST_", "ANTHROPIC_"))}
    done = subprocess.run(
        command, cwd=tmp_path, env={**kept, "COLUMNS": "160"}, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill -9" in done.stdout
    assert "yes  after kill -9 the refund was asked for again under the same key, and not made again" in done.stdout
    assert "NO " not in done.stdout
    if not ticket:
        assert "yes  the refund above the limit was made only after a person agreed" in done.stdout
