"""Python modules as processes of their own, forked from one that has imported the engine already.

An import of all of it takes a second and a half of CPU, and the tests start some hundred processes. Each of these is a process like
any other: it has its own environment, can be killed and frozen, and ends with its own code.
"""

import asyncio
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

from handfast.engine.embedded import die_with_parent

ROOT = Path(__file__).parents[1]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.preload"])


def _become(module: str, arguments: list[str], env: dict[str, str], cwd: str, stdout: str, stderr: str) -> None:
    """Be the module, as `python -m` would."""
    if (follow := die_with_parent()) is not None:
        follow()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:0] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    for number, path, how in ((0, os.devnull, os.O_RDONLY), (1, stdout, os.O_WRONLY), (2, stderr, os.O_WRONLY)):
        opened = os.open(path, how | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class Forked:
    """A process of a module."""

    def __init__(
        self, module: str, *arguments: str, env: Mapping[str, str], stdout: Path, stderr: Path | None = None, cwd: Path = ROOT
    ) -> None:  # fmt: skip
        given = (module, list(arguments), dict(env), str(cwd), str(stdout), str(stderr or stdout))
        self._process = _context.Process(target=_become, args=given, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        return self._process.exitcode

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode


async def run_module(module: str, *words: str, env: Mapping[str, str], cwd: Path) -> CompletedProcess[str]:
    """What a module prints, and how it ends."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder) / "stdout", Path(folder) / "stderr"
        process = Forked(module, *words, env=env, stdout=stdout, stderr=stderr, cwd=cwd)
        code = await asyncio.to_thread(process.wait)
        return CompletedProcess(words, code, stdout.read_text(), stderr.read_text())
