"""Claude if there is a key, else a script, so that the teams work without one."""

import os
from collections.abc import Callable

from handfast import Model, Script
from handfast.contracts.messages import ModelRequest
from handfast.llm.script import Step

STRONG = "claude-sonnet-5"
CHEAP = "claude-haiku-4-5"


def model(script: Callable[[ModelRequest], Step], name: str = STRONG) -> str | Model:
    """The model of that name, or a script that stands in for it."""
    return name if os.environ.get("ANTHROPIC_API_KEY") else Script(script, id="script")


def results(request: ModelRequest) -> list[str]:
    """What became of all calls so far."""
    return [result.text for message in request.messages for result in message.results]


def asked(request: ModelRequest) -> str:
    """What the agent was asked."""
    return request.messages[0].text
