"""Models: Anthropic through its SDK, and `Script`, a deterministic one for tests, demos and evals."""

from holdfast.contracts.model import Model
from holdfast.llm.script import Script, ask

__all__ = ["Model", "Script", "ask"]
