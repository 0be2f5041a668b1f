"""The project's former name belongs to another project on PyPI, so it must not come back."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORMER_NAME = "hold" + "fast"


def git(*command: str) -> list[str]:
    done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr  # `git grep` ends with 1 if it finds nothing
    return done.stdout.splitlines()


def test_only_the_changelog_names_the_former_name() -> None:
    named = git("grep", "--ignore-case", "--files-with-matches", "--text", FORMER_NAME)
    paths = [path for path in git("ls-files") if FORMER_NAME in path.lower()]
    links = [str(path.readlink()) for path in ROOT.iterdir() if path.is_symlink()]
    assert (named, paths, [link for link in links if FORMER_NAME in link]) == (["CHANGELOG.md"], [], [])
