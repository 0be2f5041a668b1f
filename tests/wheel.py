"""Build the wheel, install it alone into a clean environment, import its public names and do one run with it.

`python tests/wheel.py`; what a user gets from `pip install 'handfast[embedded,demo]'`.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECK = """
import handfast, pathlib, sys
assert "site-packages" in handfast.__file__, handfast.__file__
assert (pathlib.Path(handfast.__file__).parent / "py.typed").exists()
assert [getattr(handfast, name) for name in handfast.__all__]
print("handfast imports from", pathlib.Path(handfast.__file__).parent)
"""


def run(*command: str | Path, cwd: Path) -> None:
    print("$", *command, flush=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "VIRTUAL_ENV"))}
    subprocess.run([str(part) for part in command], cwd=cwd, env=env, check=True)


def main() -> None:
    uv = Path(sys.executable).parent / "uv"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run(uv, "build", "--quiet", "--wheel", "--out-dir", folder / "dist", ROOT, cwd=folder)
        [wheel] = (folder / "dist").glob("*.whl")
        run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
        python = folder / "env" / "bin" / "python"
        lock = ROOT / "requirements.lock"
        run(
            uv,
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "--constraint",
            lock,
            f"{wheel}[embedded,demo]",
            cwd=folder,
        )
        run(python, "-c", CHECK, cwd=folder)
        run(folder / "env" / "bin" / "handfast", "demo", cwd=folder)
    print("the wheel works")


if __name__ == "__main__":
    main()
