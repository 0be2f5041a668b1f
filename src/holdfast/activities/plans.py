"""The plans of runs that go on here, kept so that a turn need not read them again, nor a run check one that was checked."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from holdfast.contracts.identity import canonical_json
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
    """A bounded cache. Losing an entry costs one read, or one check."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Planned] = OrderedDict()
        self._sound: OrderedDict[str, Plan] = OrderedDict()

    def check(self, plan: Any, whose: str, check: Callable[[Plan], list[str]]) -> tuple[Plan, list[str]]:
        """A plan as it was written down, and what is wrong with it. One that was found sound is not checked again.

        Args:
            plan: As JSON.
            whose: What besides decides on it, such as the agent's name: an agent's tools are the same as long as the process lives.
            check: Finds what is wrong.

        Raises:
            ValidationError: It is no plan.
        """
        key = hashlib.sha256(f"{whose}\n{canonical_json(plan)}".encode()).hexdigest()
        found = self._sound.get(key)
        if found is not None:
            self._sound.move_to_end(key)
            return found, []
        found = Plan.model_validate(plan)
        faults = check(found)
        if not faults:
            self._sound[key] = found
            while len(self._sound) > MOST:
                self._sound.popitem(last=False)
        return found, faults

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
