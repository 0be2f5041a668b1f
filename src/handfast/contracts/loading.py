"""From `MODULE:AGENTS` on a command line to agents."""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from handfast.contracts.agent import Agent
from handfast.contracts.errors import ContractError, SettingsError


def load_agents(target: str) -> list[Agent]:
    """The agents behind `MODULE:NAME`, where NAME is an agent or a collection of them. The current folder is looked in.

    Raises:
        SettingsError: There is no such module or name, or no agent behind it.
        ContractError: A tool or an agent is declared wrongly.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        msg = f"{target!r} names no agents: write MODULE:NAME, such as support:support for `support = Agent(...)` in support.py"
        raise SettingsError(msg)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ContractError:
        raise
    except ModuleNotFoundError as error:
        if error.name != module_name.split(".")[0] and error.name != module_name:
            raise
        msg = f"there is no module {module_name!r} in {str(Path.cwd())!r} or among the installed packages"
        raise SettingsError(msg) from error
    if not hasattr(module, attribute):
        agents = [name for name, value in vars(module).items() if isinstance(value, Agent)]
        msg = f"module {module_name!r} has no {attribute!r}; agents in it: {', '.join(agents) or 'none'}"
        raise SettingsError(msg)
    found: object = getattr(module, attribute)
    members = [*cast("Iterable[object]", found)] if isinstance(found, Iterable) else [found]
    served = [member for member in members if isinstance(member, Agent)]
    if not served or len(served) < len(members):
        msg = f"{target!r} is of type {type(getattr(module, attribute)).__name__}: no Agent and no collection of them"
        raise SettingsError(msg)
    return served
