"""What the tests of effects share."""

from datetime import timedelta
from typing import Any

from holdfast import (
    Agent,
    Limits,
    Script,
)  # fmt: skip

ROOMY = Limits(turns=100, tokens=10_000_000, wall_time=timedelta(hours=1))


def agent(*steps: Any, tools: list[Any], **options: Any) -> Agent:
    return Agent(name="tester", instructions="Test.", model=Script(steps), tools=tools, limits=ROOMY, **options)
