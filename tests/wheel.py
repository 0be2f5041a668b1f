"""Build the wheel, install it alone into a clean environment, import its public names and do one run with it.

`python tests/wheel.py`; what a user gets from `pip install 'holdfast[embedded,demo]'`.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECK = """
import holdfast, pathlib, sys
assert "site-packages" in holdfast.__file__, holdfast.__file__
assert (pathlib.Path(holdfast.__file__).parent / "py.typed").exists()
assert [getattr(holdfast, name) for name in holdfast.__all__]
print("holdfast imports from", pathlib.Path(holdfast.__file__).parent)
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
        run(folder / "env" / "bin" / "holdfast", "demo", cwd=folder)
    print("the wheel works")


if __name__ == "__main__":
    main()
