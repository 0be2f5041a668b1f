"""From an agent to the model that answers for it."""

from typing import TYPE_CHECKING

from handfast.contracts.agent import Agent
from handfast.contracts.model import Model

if TYPE_CHECKING:
    from handfast.llm.anthropic import AnthropicModel


class Models:
    """The models of one process; one connection pool for all agents on Anthropic."""

    def __init__(self, *, anthropic_api_key: str = "", anthropic_base_url: str = "") -> None:
        self._key = anthropic_api_key
        self._base_url = anthropic_base_url
        self._made: dict[str, AnthropicModel] = {}

    def of(self, agent: Agent) -> Model:
        """The agent's model: its own object, or Anthropic's of that id."""
        if not isinstance(agent.model, str):
            return agent.model
        if agent.model not in self._made:
            # The SDK takes one or two seconds and 60 MB: only workers that serve such an agent pay for it.
            from handfast.llm.anthropic import AnthropicModel

            self._made[agent.model] = AnthropicModel(agent.model, api_key=self._key, base_url=self._base_url)
        return self._made[agent.model]

    async def close(self) -> None:
        """Close every connection."""
        for model in self._made.values():
            await model.close()
