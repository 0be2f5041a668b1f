"""The agents and tools one process serves."""

from collections.abc import Iterable

from holdfast.contracts.agent import Agent
from holdfast.contracts.errors import ContractError
from holdfast.contracts.tool import Tool


class Registry:
    """Agents by name, and the tools they use, each under one name.

    Raises:
        ContractError: Two agents or two different tools have the same name; all such faults at once.
    """

    def __init__(self, agents: Iterable[Agent]) -> None:
        self.agents: dict[str, Agent] = {}
        self.tools: dict[str, Tool] = {}
        faults: list[str] = []
        for agent in agents:
            if self.agents.setdefault(agent.name, agent) is not agent:
                faults.append(f"two agents are named {agent.name!r}")
            faults.extend(
                f"two different tools are named {tool.name!r}: an activity type has one meaning"
                for tool in agent.tools
                if self.tools.setdefault(tool.name, tool) is not tool
            )
        if not self.agents:
            faults.append("there is no agent in it")
        if faults:
            raise ContractError("the registry", faults)
