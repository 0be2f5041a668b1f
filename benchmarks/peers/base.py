"""What every system under measurement offers."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any

from temporalio.client import WorkflowHandle

RESULT = "x" * 2000
"""What the tool returns each time: 2 KB."""


class System(ABC):
    """One system, serving runs in this process."""

    def protocol_ms(self) -> float:
        """Of each call since this was asked last, the median time for writing down that it begins and how it ended; 0 for none."""
        return 0.0

    @abstractmethod
    def serving(self, address: str, queue: str, turns: int) -> AbstractAsyncContextManager[None]:
        """A worker for runs of so many turns."""

    @abstractmethod
    async def run(self, run_id: str) -> None:
        """One run from its start to its result."""

    @abstractmethod
    def handle(self, run_id: str) -> WorkflowHandle[Any, Any]:
        """The workflow behind a run."""
