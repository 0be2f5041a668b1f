"""Finds out at a worker's start which optional packages its agents need, and refuses to start without them."""

from collections.abc import Iterator, Mapping

import structlog

from handfast.contracts.agent import Agent
from handfast.contracts.conditions import is_cel_there
from handfast.contracts.errors import SettingsError
from handfast.contracts.tool import Tool
from handfast.inputs import missing_packages

log = structlog.get_logger()


def require_extras(agents: Mapping[str, Agent]) -> None:
    """Refuse to serve what would fail in every call, or for ever, for the lack of an extra.

    Raises:
        SettingsError: Something is missing, with everything that is.
    """
    faults = [fault for agent in agents.values() for tool in agent.tools for fault in _missing(agent, tool)]
    if planners := sorted(agent.name for agent in agents.values() if agent.plans and not is_cel_there()):
        faults.append(
            f"the models of agents {', '.join(planners)} make plans, with conditions: install handfast[plans]"
        )
    if faults:
        msg = f"this worker lacks what its agents need, and serves nothing: {'; '.join(dict.fromkeys(faults))}"
        raise SettingsError(msg)
    if not is_cel_there():
        log.warning(
            "plans with conditions (when:) can't be carried out here, and wait for a worker that can: install handfast[plans]"
        )


def _missing(agent: Agent, tool: Tool) -> Iterator[str]:
    where = f"tool {tool.name!r} of agent {agent.name!r}"
    child = tool.child
    conditional = child is not None and child.plan is not None and any(step.when for step in child.plan.steps.values())
    if conditional and not is_cel_there():
        yield f"{where} is a plan with conditions: install handfast[plans]"
    for package in missing_packages(tool.signature.arguments):
        yield f"{where} takes arguments that need {package}: install handfast[inputs]"
