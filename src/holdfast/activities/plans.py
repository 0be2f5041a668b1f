"""The plans of runs that go on here, kept so that a turn need not read and check them again."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from holdfast.contracts.plan import Plan

MOST = 200


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A plan, and what it was given."""

    plan: Plan
    request: dict[str, Any]
    keeps: bool = False
    """If it fails, what it did stands for the next plan, which takes it over."""


class Plans:
    """A bounded cache. Losing an entry costs one read."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Planned] = OrderedDict()

    def get(self, run_id: str) -> Planned | None:
        """The plan of a run, if it is kept."""
        if run_id in self._kept:
            self._kept.move_to_end(run_id)
        return self._kept.get(run_id)

    def put(self, run_id: str, planned: Planned) -> None:
        """Keep one; the one not used longest goes."""
        self._kept[run_id] = planned
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)

    def drop(self, run_id: str) -> None:
        """Forget one."""
        self._kept.pop(run_id, None)
