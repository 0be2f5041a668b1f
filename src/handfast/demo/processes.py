"""The demo's child processes: services and workers, started, watched, killed, and never left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from handfast.contracts.errors import EngineUnavailable
from handfast.engine.embedded import die_with_parent, free_port

START_SECONDS = 20.0


class Child:
    """A child process that dies with its parent; its output goes to a file."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.output = folder / f"{name}.log"
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, "-m", *command],
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent(),
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed, nobody is told."""
        self._process.kill()
        self._process.wait()

    def require_alive(self) -> None:
        """Refuse to go on without it.

        Raises:
            EngineUnavailable: It has ended by itself.
        """
        if self._process.poll() is not None:
            tail = " | ".join(self.output.read_text(errors="replace").strip().splitlines()[-3:])
            msg = f"the demo's {self.name} ended with code {self._process.returncode}: {tail}"
            raise EngineUnavailable(msg)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


def start_service(name: str, folder: Path, *, answer_after: float = 0.0) -> tuple[Child, str]:
    """One of the desk's services, and its address, once it answers."""
    port = free_port()
    command = [
        "handfast.demo.support_desk.serve", name, "--port", str(port), "--data", str(folder),
        "--answer-after", str(answer_after),
    ]  # fmt: skip
    child = Child(name, command, {}, folder)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        child.require_alive()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/log").is_success:
                return child, address
        time.sleep(0.05)
    child.stop()
    msg = f"the demo's {name} service did not answer within {START_SECONDS:g} s"
    raise EngineUnavailable(msg)
