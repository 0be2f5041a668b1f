"""The agents and tools one process serves."""

from collections.abc import Iterable, Iterator

from handfast.contracts.agent import Agent
from handfast.contracts.agent_names import agent_faults
from handfast.contracts.child import family_of
from handfast.contracts.errors import ContractError
from handfast.contracts.tool import Tool


class ToolVersions:
    """The versions of one tool that a process serves, one for each major. They share an activity type."""

    def __init__(self, *tools: Tool) -> None:
        self._by_major = {tool.major: tool for tool in tools}
        self.newest = self._by_major[max(self._by_major)]

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._by_major.values())

    def of_major(self, major: int) -> Tool | None:
        """The one that serves calls of this major version, if there is one."""
        return self._by_major.get(major)

    def told(self) -> str:
        """The versions, for people."""
        return ", ".join(self._by_major[major].version for major in sorted(self._by_major))


class Registry:
    """Agents by name, with those that they ask, and the tools they use and used, each under one name.

    Raises:
        ContractError: Two agents or two different tools of one major have the same name; all such faults at once.
    """

    def __init__(self, agents: Iterable[Agent]) -> None:
        self.agents: dict[str, Agent] = {}
        tools: dict[str, dict[int, Tool]] = {}
        faults: list[str] = []
        for agent in family_of(agents):
            if self.agents.setdefault(agent.name, agent) is not agent:
                faults.append(f"two agents are named {agent.name!r}")
            faults.extend(
                f"two different tools are named {tool.name!r} with major version {tool.major}: one of them needs another name"
                for tool in (*agent.tools, *agent.retired)
                if tools.setdefault(tool.name, {}).setdefault(tool.major, tool) is not tool
            )
        for agent in self.agents.values():
            faults.extend(f"agent {agent.name!r}: {fault}" for fault in agent_faults(agent, self.agents))
        if not self.agents:
            faults.append("there is no agent in it")
        if faults:
            raise ContractError("the registry", faults)
        self.tools = {name: ToolVersions(*majors.values()) for name, majors in tools.items()}
