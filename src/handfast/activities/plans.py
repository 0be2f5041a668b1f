"""The plans of runs that go on here, kept so that a turn need not read them again, nor a run check one that was checked."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handfast.contracts.agent import Agent
from handfast.contracts.identity import canonical_json
from handfast.contracts.plan import GO_ON, Plan, Step, Way, require_request
from handfast.contracts.plan_check import plan_faults, with_tools
from handfast.contracts.plan_steps import PlanStep
from handfast.contracts.provenance import untrusted_of
from handfast.contracts.tool import Tool
from handfast.ledger.plans import AskedPlan

MOST = 200


@dataclass(frozen=True, kw_only=True)
class Known:
    """A plan as an agent's tools carry it out."""

    agent: str
    plan: Plan
    """With tools in the place of the agents and plans that its steps name."""
    tools: Mapping[str, Tool]
    steps: tuple[PlanStep, ...]
    """What the workflow sees of them."""
    ways: Mapping[str, tuple[Way, ...]]
    """By step: its calls for one item."""
    brings: bool
    """What its calls return may decide on what later ones may do: words of others, personal data, or a run's of its own."""


def known(plan: Plan, agent: Agent) -> Known:
    """The plan as the agent's tools carry it out."""
    tools = {tool.name: tool for tool in agent.tools}
    plan, _ = with_tools(plan, tools)
    ways = {name: step.ways for name, step in plan.steps.items()}
    owners = plan.owners
    used = {way.tool for each in ways.values() for way in each}
    return Known(
        agent=agent.name,
        plan=plan,
        tools=tools,
        steps=tuple(_seen(name, step, owners.get(name, "")) for name, step in plan.steps.items()),
        ways=ways,
        brings=any(untrusted_of(tool) or tool.sensitive or tool.child for tool in map(tools.get, used) if tool),
    )


def _seen(step_id: str, step: Step, owner: str) -> PlanStep:
    any_of = step.depends_on if step.join == "any" else ()
    return PlanStep(
        id=step_id,
        after=tuple(sorted(step.after - set(any_of))),
        any_of=any_of,
        each=bool(step.for_each),
        parallel=step.parallel if step.for_each else 1,
        ways=len(step.ways),
        retries=step.retries,
        go_on=step.on_failure == GO_ON,
        instead=step.instead,
        owner=owner,
    )


@dataclass(kw_only=True)
class Planned:
    """A plan, and what it was given."""

    plan: Plan
    request: dict[str, Any]
    keeps: bool = False
    """If it fails, what it did stands for the next plan, which takes it over."""
    known: Known | None = None

    def of(self, agent: Agent) -> Known:
        """The plan as the agent's tools carry it out; worked out once."""
        if self.known is None or self.known.agent != agent.name:
            self.known = known(self.plan, agent)
        return self.known


class Plans:
    """A bounded cache. Losing an entry costs one read, or one check."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Planned] = OrderedDict()
        self._sound: OrderedDict[str, tuple[Plan, Known]] = OrderedDict()

    def require_sound(self, asked: AskedPlan, agent: Agent) -> Planned:
        """A plan as it was written down, if it can be carried out. One that was found sound is not checked again.

        An agent's tools are the same as long as the process lives.

        Raises:
            ValueError: It is no plan, it has faults, or it was not given what it needs.
        """
        key = hashlib.sha256(f"{agent.name} {asked.keeps}\n{canonical_json(asked.plan)}".encode()).hexdigest()
        if key in self._sound:
            self._sound.move_to_end(key)
        else:
            plan = Plan.model_validate(asked.plan)
            if faults := plan_faults(plan, {tool.name: tool for tool in agent.tools}, undone=not asked.keeps):
                msg = f"plan {plan.name!r} has {len(faults)} fault(s), and nothing was done: {'; '.join(faults)}"
                raise ValueError(msg[:2000])
            self._sound[key] = plan, known(plan, agent)
            while len(self._sound) > MOST:
                self._sound.popitem(last=False)
        plan, carried_out = self._sound[key]
        require_request(plan, asked.request)
        return Planned(plan=plan, request=asked.request, keeps=asked.keeps, known=carried_out)

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
