"""Claude, through the Messages API."""

from handfast.llm.anthropic.model import AnthropicModel

__all__ = ["AnthropicModel"]
