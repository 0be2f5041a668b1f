"""What the ledger keeps of permission, as the rest of Handfast uses it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from handfast.contracts.authority import Word
from handfast.contracts.wire import CallInput, CallResult
from handfast.ledger import changed, permission
from handfast.ledger.changed import Wanted
from handfast.ledger.decisions import Judge
from handfast.ledger.permission import Remembered

if TYPE_CHECKING:
    from handfast.ledger.ledger import Ledger


class Permissions:
    """Words that don't count, approvals that no longer do, and what a policy says of calls that have not begun."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger

    async def record_refused(self, run_id: str, operation_id: str, word: Word, why: str) -> None:
        """Keep a word that does not count; see `permission.record_refused`."""
        await self._ledger.write(permission.record_refused, run_id, operation_id, word, why)

    async def check_granted(self, run_id: str, operation_id: str, judge: Judge) -> str:
        """Why an approval no longer counts; see `permission.check_granted`."""
        return await self._ledger.read(permission.check_granted, run_id, operation_id, judge)

    async def propose_change(self, run_id: str, operation_id: str, arguments: dict[str, Any]) -> str:
        """Write down with which arguments a call is wanted; see `changed.propose_change`."""
        return await self._ledger.write(changed.propose_change, run_id, operation_id, arguments)

    async def find_wanted(
        self, run_id: str, call: CallInput, tool: str, judge: Judge, digest_of: Callable[[dict[str, Any]], str]
    ) -> Wanted | None:
        """Who has approved a call in the place of another one; see `changed.find_wanted`."""
        return await self._ledger.read(changed.find_wanted, run_id, call, tool, judge, digest_of)

    async def list_remembered(self, run_id: str, judge: Judge) -> list[Remembered]:
        """The approvals that count for later calls; see `permission.list_remembered`."""
        return await self._ledger.read(permission.list_remembered, run_id, judge)

    async def withdraw(self, run_id: str, operation_id: str, why: str) -> None:
        """Let an approved call wait again; see `permission.withdraw`."""
        await self._ledger.write(permission.withdraw, run_id, operation_id, why)

    async def deny(
        self, run_id: str, operation_id: str, rule: str, content: dict[str, Any], *, policy: int = 0
    ) -> CallResult:
        """Refuse a call by what the policy says now; see `permission.deny`."""
        return await self._ledger.write(permission.deny, run_id, operation_id, rule, content, policy=policy)

    async def release_waiting(self, run_id: str, operation_id: str, rule: str, *, policy: int = 0) -> CallResult:
        """Let a waiting call run by what the policy says now; see `permission.release_waiting`."""
        return await self._ledger.write(permission.release_waiting, run_id, operation_id, rule, policy=policy)
