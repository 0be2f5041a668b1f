"""What the ledger keeps of the installation as a whole: the policy that holds for every agent, and who approves."""

from typing import TYPE_CHECKING

from holdfast.contracts.grants import Approver
from holdfast.ledger import keys, policies
from holdfast.ledger.policies import PolicyVersion

if TYPE_CHECKING:
    from holdfast.ledger.ledger import Ledger


class Installation:
    """The installation's own records, beside the runs."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger

    async def policy(self) -> PolicyVersion:
        """The version of the policy that holds."""
        return await self._ledger.read(policies.newest_policy)

    async def policy_number(self) -> int:
        """Its number."""
        return await self._ledger.read(policies.newest_number)

    async def policy_versions(self, most: int = 50) -> list[PolicyVersion]:
        """The versions so far, the newest first."""
        return await self._ledger.read(policies.policy_versions, most)

    async def set_policy(self, text: str, by: str) -> PolicyVersion:
        """Let another policy hold; see `policies.set_policy`."""
        return await self._ledger.write(policies.set_policy, text, by)

    async def runs_that_wait(self) -> list[str]:
        """The runs of which a call waits for a decision."""
        return await self._ledger.read(policies.runs_that_wait)

    async def approvers(self, *, revoked: bool = False) -> list[Approver]:
        """The keys that count; see `keys.list_keys`."""
        return await self._ledger.read(keys.list_keys, revoked=revoked)

    async def add_key(self, approver: Approver, by: str) -> Approver:
        """Let somebody approve; see `keys.add_key`."""
        return await self._ledger.write(keys.add_key, approver, by)

    async def revoke_key(self, key_id: str, by: str) -> bool:
        """Take a key's word away; see `keys.revoke_key`."""
        return await self._ledger.write(keys.revoke_key, key_id, by)
