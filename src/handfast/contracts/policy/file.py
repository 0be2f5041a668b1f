"""Policies in files: TOML."""

import tomllib
from pathlib import Path

from pydantic import ValidationError

from handfast.contracts.errors import ContractError, SettingsError
from handfast.contracts.policy.model import Policy
from handfast.contracts.text_file import read_text_file


def read_policy(path: Path | str) -> Policy:
    """The policy in a file.

    Raises:
        SettingsError: There is no such file, it is too large, or it is no TOML.
        ContractError: It is no policy, with every fault.
    """
    return parse_policy(read_text_file(Path(path), "a policy"), str(path))


def parse_policy(text: str, source: str = "policy") -> Policy:
    """The policy in a text of TOML.

    Raises:
        SettingsError: It is no TOML.
        ContractError: It is no policy, with every fault.
    """
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{source}: no TOML: {error}"
        raise SettingsError(msg) from error
    try:
        return Policy.model_validate(told)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, one['loc'])) or 'policy'}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        ]
        raise ContractError(source, faults) from error
