"""Plans in files: YAML, or JSON, which is a part of it."""

from pathlib import Path

from pydantic import ValidationError

from handfast.contracts.errors import ContractError, SettingsError
from handfast.contracts.plan import Plan
from handfast.contracts.text_file import read_text_file
from handfast.contracts.texts import clean_value


def read_plan(path: Path | str) -> Plan:
    """The plan in a file.

    Raises:
        SettingsError: There is no such file, it is too large, or it is no YAML.
        ContractError: It is no plan, with every fault.
    """
    path = Path(path)
    try:
        import yaml
    except ImportError as error:
        msg = "plans in files need the extra `plans`: pip install 'handfast[plans]'"
        raise SettingsError(msg) from error
    try:
        told = yaml.safe_load(read_text_file(path, "a plan"))
    except yaml.YAMLError as error:
        msg = f"{path}: no YAML: {' '.join(str(error).split())}"
        raise SettingsError(msg) from error
    try:
        return Plan.model_validate(clean_value(told))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, one['loc'])) or 'plan'}: {one['msg']}" for one in error.errors()]
        raise ContractError(f"plan {path}", faults) from error
