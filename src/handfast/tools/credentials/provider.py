"""What every place for secrets can do."""

from abc import ABC, abstractmethod

from handfast.contracts.credentials import Wanted


class SecretsProvider(ABC):
    """A place for secrets. It is asked for each call anew; it may keep for a while what it has found."""

    @abstractmethod
    async def read(self, wanted: Wanted) -> str | None:
        """The secret of a call's tenant and scope; None if there is none.

        Raises:
            ToolError: The place does not answer. Nothing of the call has happened yet, so say `happened="no"`.
        """

    def missing(self, wanted: Wanted) -> str:
        """What an operator must do so that it is there."""
        return f"an operator must add secret {wanted.name!r} for tenant {wanted.tenant!r} and scope {wanted.scope!r}"

    async def close(self) -> None:
        """Let go of every connection."""
        return
