"""Where the data sets are: outside of the repository."""

import importlib.util
import os
from pathlib import Path

SETTING = "HANDFAST_REDTEAM_DATA"
REPOSITORY = Path(__file__).parents[2]
MISSING_INJECAGENT = (
    "InjecAgent is not here: put test_cases_dh_base.json, test_cases_dh_enhanced.json and tools.json (its folder data/, at GitHub: "
    f"uiuc-kang-lab/InjecAgent) into a folder injecagent/, and name the folder above it in {SETTING}"
)
MISSING_AGENTDOJO = "AgentDojo is not here: `make redteam` installs it from tests/redteam/requirements.lock"


def injecagent_folder() -> Path | None:
    """The folder with InjecAgent's cases; None if it is nowhere."""
    given = os.environ.get(SETTING)
    folders = [Path(given)] if given else [REPOSITORY.parent / "shared" / "data"]
    found = (folder / "injecagent" for folder in folders)
    return next((folder for folder in found if (folder / "test_cases_dh_base.json").is_file()), None)


def has_agentdojo() -> bool:
    """Whether AgentDojo is installed."""
    return importlib.util.find_spec("agentdojo") is not None
