"""Who may approve, from a file: where not even the ledger is trusted to say so.

```toml
[[approver]]
name = "ada"
public = "…"                 # as `handfast keys new --print` prints it
roles = ["refunds"]          # `approver` for everything, which holds unless said
tenants = ["acme", "beta-*"] # all of them unless said
```
"""

import tomllib
from pathlib import Path

from pydantic import Field, ValidationError

from handfast.contracts.errors import SettingsError
from handfast.contracts.grants import Approver
from handfast.contracts.messages import Frozen


class _File(Frozen):
    approver: tuple[Approver, ...] = Field(default=())


def read_approvers(path: Path) -> list[Approver]:
    """The approvers of a file.

    Raises:
        SettingsError: It can't be read, or says something else.
    """
    try:
        told = _File.model_validate(tomllib.loads(path.read_text()))
        found = [one.model_copy(update={"local": False}) for one in told.approver]
        ids = [one.key_id for one in found]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError, ValueError) as error:
        msg = f"{path} names no approvers: {' '.join(str(error).split())[:500]}"
        raise SettingsError(msg) from error
    if len(set(ids)) < len(ids):
        msg = f"{path}: the same key is there twice"
        raise SettingsError(msg)
    return found
