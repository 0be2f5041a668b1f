"""Models: Anthropic through its SDK, and `Script`, a deterministic one for tests, demos and evals."""

from handfast.contracts.model import Model
from handfast.llm.script import Script, ask

__all__ = ["Model", "Script", "ask"]
