"""What the ledger keeps of the installation as a whole: its policy, who approves, and what they were told."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from handfast.contracts.audit import Audit
from handfast.contracts.grants import Approver
from handfast.contracts.policy.budgets import Allowance, Spending
from handfast.ledger import audit, budgets, keys, notified, policies
from handfast.ledger.budgets import Hold
from handfast.ledger.notified import Pending
from handfast.ledger.policies import PolicyVersion

if TYPE_CHECKING:
    from handfast.ledger.ledger import Ledger


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

    async def claim(self, run_id: str, operation_id: str, step: str, lease_ms: int) -> int | None:
        """Take on telling something; see `notified.claim`."""
        return await self._ledger.write(notified.claim, run_id, operation_id, step, lease_ms)

    async def finish(self, run_id: str, operation_id: str, steps: Iterable[str]) -> None:
        """It was told; see `notified.finish`."""
        await self._ledger.write(notified.finish, run_id, operation_id, list(steps))

    async def put_off(self, operation_id: str, step: str, wait_ms: int, error: str) -> None:
        """It could not be told; see `notified.put_off`."""
        await self._ledger.write(notified.put_off, operation_id, step, wait_ms, error)

    async def announce_done(self, run_id: str, operation_id: str) -> None:
        """A call was carried out that somebody is told of; see `notified.announce_done`."""
        await self._ledger.write(notified.announce_done, run_id, operation_id)

    async def told_so_far(self, operation_ids: Iterable[str]) -> dict[str, dict[str, int]]:
        """What was told of calls; see `notified.told_so_far`."""
        return await self._ledger.read(notified.told_so_far, list(operation_ids))

    async def list_pending(self, step: str) -> list[Pending]:
        """What is to be told; see `notified.list_pending`."""
        return await self._ledger.read(notified.list_pending, step)

    async def hold_budgets(
        self, holder: str, attempt: int, limits: Sequence[Allowance], most: Spending, lease_ms: int
    ) -> Hold:
        """Hold back what a model call may use; see `budgets.hold`."""
        return await self._ledger.write(budgets.hold, holder, attempt, limits, most, lease_ms)

    async def let_go(self, keys: Sequence[str], holder: str) -> None:
        """A model call was not made; see `budgets.settle`."""
        await self._ledger.write(budgets.settle, keys, holder, None)

    async def list_budgets(self) -> list[tuple[str, Spending, Spending, int]]:
        """What was used of budgets; see `budgets.list_budgets`."""
        return await self._ledger.read(budgets.list_budgets)

    async def audit(self, since: datetime, until: datetime, tenant: str = "", *, check: bool = True) -> Audit:
        """A security report over a period; see `audit.read_audit`."""
        return await self._ledger.read(audit.read_audit, since, until, tenant, check=check)

    async def approvers(self, *, revoked: bool = False) -> list[Approver]:
        """The keys that count; see `keys.list_keys`."""
        return await self._ledger.read(keys.list_keys, revoked=revoked)

    async def add_key(self, approver: Approver, by: str) -> Approver:
        """Let somebody approve; see `keys.add_key`."""
        return await self._ledger.write(keys.add_key, approver, by)

    async def revoke_key(self, key_id: str, by: str) -> bool:
        """Take a key's word away; see `keys.revoke_key`."""
        return await self._ledger.write(keys.revoke_key, key_id, by)
